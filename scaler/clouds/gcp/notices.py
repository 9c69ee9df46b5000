"""Interruption notices of Google Cloud, pinned to the board before their machines are gone.

Compute Engine logs a system event when it preempts a machine, when its host fails, and when it ends for maintenance. A
log sink brings the events to Pub/Sub, where a waiting pull receives them at once. A daemon that runs on one of the
machines reads its own notices from the metadata server, which answers when something changes.
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
from scaler.clouds.interruptions import Notice, NoticeBoard, board
from scaler.clouds.singleflight import cancelled
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Clock, Context, Permit, PortError

if TYPE_CHECKING:
    from scaler.clouds.gcp.pubsub import Subscriber

METHODS: Final = frozenset(
    {"compute.instances.hostError", "compute.instances.preempted", "compute.instances.terminateOnHostMaintenance"}
)
"""System events after which a machine is gone. A live migration is none."""
WAIT_S: Final = 30.0
"""How long one pull waits for a message; a new one follows at once."""
PAUSE_S: Final = 1.0
"""After a failure, doubled up to `LONGEST_S`."""
LONGEST_S: Final = 60.0
EMPTY_S: Final = 0.25
"""After a pull that brought nothing: some end at once."""
ACK_S: Final = 5.0
PREEMPTED_S: Final = 30.0
"""From the notice until the machine is gone, where its template asks for no longer one."""


class GcpNoticeListener:
    """Reader of notices for pools of one project. `error` is why none can be read now; empty while they can."""

    def __init__(self, board: NoticeBoard, clock: Clock) -> None:
        self._board = board
        self._clock = clock
        self.error = ""
        self.subscription: str | None = None

    def pin(self, entry: Mapping[str, Any]) -> bool:
        """Take a log entry; return whether it announces an interruption."""
        payload = entry.get("protoPayload")
        method = payload.get("methodName") if isinstance(payload, Mapping) else None
        name = str(payload.get("resourceName", "")) if isinstance(payload, Mapping) else ""
        if not isinstance(method, str) or method not in METHODS or "/instances/" not in name:
            return False
        now = self._clock.now()
        told_at = seconds_of(entry.get("timestamp"), now)
        machine = name[name.index("projects/") :] if "projects/" in name else name
        self._board.pin(Notice(machine, "interruption", now, told_at + PREEMPTED_S, by=str(method)))
        return True

    async def pull(self, subscriber: Subscriber, subscription: str) -> None:
        """Pull the log sink's messages, without end."""
        backoff = Backoff(PAUSE_S, LONGEST_S, LONGEST_S)
        while True:
            try:
                received = await subscriber.pull(subscription, WAIT_S)
                for one in received:
                    self._take(one.message.data)
                if received:
                    await subscriber.acknowledge(subscription, [one.ack_id for one in received], ACK_S)
                self.error = ""
                backoff.succeeded()
                if not received:
                    await asyncio.sleep(EMPTY_S)
            except PortError as e:
                self.error = str(e)
                await asyncio.sleep(backoff.after(e))

    def _take(self, data: bytes) -> None:
        """Take a message's log entry; a message that is none is dropped."""
        self.pin(message_of(data))

    async def permits(self) -> Sequence[Permit]:
        """Return whether the subscription may be read, as the pulls found it."""
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
            asker = await metadata_server.watcher(context, spec.metadata_url, shared)
            tasks.append(context.tasks.start("gcp metadata", asker.watch))
        try:
            yield listener
        finally:
            await cancelled(*tasks)

    return await context.shared(("gcp", "notices", project, spec), opening)
