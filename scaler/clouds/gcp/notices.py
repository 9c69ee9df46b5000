"""Interruption notices of Google Cloud, from Pub/Sub and the metadata server.

Compute Engine logs a system event when it preempts a machine, when a host fails, and when it terminates a machine for
maintenance. A log sink sends the events to Pub/Sub, where a waiting pull receives them at once. A daemon on one of the
machines reads that machine's notices from the metadata server, which responds when a value changes.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

from scaler.clouds.backoff import Backoff
from scaler.clouds.gcp import metadata_server
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.gcp.settings import GcpNotices
from scaler.clouds.http_answers import message_of
from scaler.clouds.interruptions import InterruptionNotice, NoticeBoard, board
from scaler.clouds.singleflight import cancel_all
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Clock, Context, Permit, PortError

if TYPE_CHECKING:
    from scaler.clouds.gcp.pubsub import Subscriber

METHODS: Final = frozenset(
    {"compute.instances.hostError", "compute.instances.preempted", "compute.instances.terminateOnHostMaintenance"}
)
"""System events after which a machine is gone. A live migration is not among them."""
WAIT_S: Final = 30.0
"""Maximum time that one pull waits for a message; the next follows at once. Seconds."""
PAUSE_S: Final = 1.0
"""Pause after the first failed pull, doubled up to `MAX_PAUSE_S`. Seconds."""
MAX_PAUSE_S: Final = 60.0
EMPTY_PAUSE_S: Final = 0.25
"""Pause after an empty pull, since some return at once. Seconds."""
ACK_S: Final = 5.0
PREEMPTED_S: Final = 30.0
"""Time from the notice to the interruption, unless the machine's template sets a longer one. Seconds."""


class GcpNoticeListener:
    """Reader of one project's notices.

    `error` is the reason why they cannot be read; empty while they can.
    """

    def __init__(self, board: NoticeBoard, clock: Clock) -> None:
        self._board = board
        self._clock = clock
        self.error = ""
        self.subscription: str | None = None

    def pin(self, entry: Mapping[str, Any]) -> bool:
        """Pin the notice of a log entry; return whether the entry announces an interruption."""
        payload = entry.get("protoPayload")
        method = payload.get("methodName") if isinstance(payload, Mapping) else None
        name = str(payload.get("resourceName", "")) if isinstance(payload, Mapping) else ""
        if not isinstance(method, str) or method not in METHODS or "/instances/" not in name:
            return False
        now = self._clock.now()
        event_s = seconds_of(entry.get("timestamp"), now)
        machine = name[name.index("projects/") :] if "projects/" in name else name
        self._board.pin(InterruptionNotice(machine, "interruption", now, event_s + PREEMPTED_S, source=str(method)))
        return True

    async def pull(self, subscriber: Subscriber, subscription: str) -> None:
        """Pull the log sink's messages without end. A message that is no log entry is dropped."""
        backoff = Backoff(PAUSE_S, MAX_PAUSE_S, MAX_PAUSE_S)
        while True:
            try:
                received = await subscriber.pull(subscription, WAIT_S)
                for message in received:
                    self.pin(message_of(message.message.data))
                if received:
                    await subscriber.acknowledge(subscription, [message.ack_id for message in received], ACK_S)
                self.error = ""
                backoff.succeeded()
                if not received:
                    await asyncio.sleep(EMPTY_PAUSE_S)
            except PortError as e:
                self.error = str(e)
                await asyncio.sleep(backoff.pause_after_s(e))

    async def permits(self) -> Sequence[Permit]:
        """Return whether the pulls may read the subscription."""
        if self.subscription is None:
            return ()
        granted = False if self.error else None
        return [Permit("pubsub.subscriptions.consume", granted, self.error or f"of {self.subscription}")]


async def listen(context: Context, project: GcpProject, spec: GcpNotices) -> GcpNoticeListener:
    """Return the listener that all pools with these settings share. Raises `Misconfigured`."""
    shared = await board(context)

    @asynccontextmanager
    async def opening() -> AsyncIterator[GcpNoticeListener]:
        listener = GcpNoticeListener(shared, context.clock)
        tasks: list[asyncio.Task[None]] = []
        if spec.subscription is not None:
            from scaler.clouds.gcp import pubsub  # noqa: PLC0415 - gRPC only where it is used

            listener.subscription = spec.subscription
            subscriber = await pubsub.subscriber(context, project)
            pull = functools.partial(listener.pull, subscriber, spec.subscription)
            tasks.append(context.tasks.start("gcp notices", pull))
        if spec.metadata_url is not None:
            server = await metadata_server.watcher(context, spec.metadata_url, shared)
            tasks.append(context.tasks.start("gcp metadata", server.watch))
        try:
            yield listener
        finally:
            await cancel_all(*tasks)

    return await context.shared(("gcp", "notices", project, spec), opening)
