"""Interruption warnings, rebalance recommendations and Auto Scaling events.

They come from EventBridge through SQS. A long poll is open all the time, so a warning is received at once. The queue
belongs to one daemon: every message that was read is deleted, even an unknown one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from scaler.clouds.aws import session
from scaler.clouds.backoff import Backoff
from scaler.clouds.http_answers import message_of
from scaler.clouds.interruptions import InterruptionNotice, Kind, NoticeBoard
from scaler.clouds.response_validation import validated
from scaler.clouds.singleflight import running
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Misconfigured, Permit, PortError

if TYPE_CHECKING:
    from scaler.clouds.aws.account import AwsAccount
    from scaler.ports import Clock, Context
    from scaler.wakeup import Wakeup

INTERRUPTED_AFTER_S: Final = 120.0
"""Time from a warning to the interruption. Seconds."""
WARNINGS: Final[Mapping[str, Kind]] = {
    "EC2 Spot Instance Interruption Warning": "interruption",
    "EC2 Capacity Reservation Instance Interruption Warning": "interruption",
    "EC2 Instance Rebalance Recommendation": "rebalance",
}
GROUP_EVENTS: Final = frozenset(
    {
        "EC2 Instance Launch Successful",
        "EC2 Instance Launch Unsuccessful",
        "EC2 Instance Terminate Successful",
        "EC2 Instance-launch Lifecycle Action",
        "EC2 Instance-terminate Lifecycle Action",
    }
)
"""Events of Auto Scaling groups. They change the next status, so each requests a tick."""
WAIT_S: Final = 20
"""Maximum time of a long poll in SQS. Seconds."""
RESPONSE_S: Final = 5.0
"""Time limit of the response itself, beyond the wait. Seconds."""
PAUSE_S: Final = 2.0
"""Pause after a failed poll: a warning comes two minutes ahead, and scale-in may wait. Seconds."""
MISCONFIGURED_PAUSE_S: Final = 30.0
"""Pause after an error that a human must fix: a queue that does not exist, a missing permission. Seconds."""
MAX_MESSAGES: Final = 10
VISIBILITY_TIMEOUT_S: Final = 10
"""Time after which SQS delivers a message again whose response was lost. Seconds."""


class EventQueueReader:
    """Reader of the queue: pins notices to the board, and requests ticks at Auto Scaling events."""

    def __init__(self, sqs: session.AwsService, queue_url: str, board: NoticeBoard, clock: Clock) -> None:
        self._sqs = sqs
        self._queue_url = queue_url
        self._board = board
        self._clock = clock
        self._wakeups: WeakSet[Wakeup] = WeakSet()
        self.error: PortError | None = None

    def wake(self, wakeup: Wakeup) -> None:
        """Request `wakeup` at every event of an Auto Scaling group."""
        self._wakeups.add(wakeup)

    def failed_permit(self) -> Permit | None:
        """Return why the queue cannot be read; None while it can, and during the first poll."""
        if self.error is None:
            return None
        return Permit("sqs:ReceiveMessage", False if isinstance(self.error, Misconfigured) else None, str(self.error))

    async def run(self) -> None:
        """Read without end."""
        backoff = Backoff(PAUSE_S, PAUSE_S, MISCONFIGURED_PAUSE_S)
        while True:
            try:
                await self._read()
                self.error = None
            except PortError as e:
                self.error = e
                await asyncio.sleep(backoff.pause_after_s(e))

    @validated("AWS sqs:ReceiveMessage")
    async def _read(self) -> None:
        name = self._queue_url.rpartition("/")[2]
        response = await self._sqs.call(
            "ReceiveMessage",
            name,
            repeat=False,
            deadline_s=WAIT_S + RESPONSE_S,
            QueueUrl=self._queue_url,
            MaxNumberOfMessages=MAX_MESSAGES,
            WaitTimeSeconds=WAIT_S,
            VisibilityTimeout=VISIBILITY_TIMEOUT_S,
        )
        messages = response.get("Messages", ())
        for message in messages:
            self._handle(str(message.get("Body", "")))
        if messages:
            entries = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(messages)]
            await self._sqs.call(
                "DeleteMessageBatch",
                name,
                write=True,
                repeat=True,  # deletion is idempotent
                deadline_s=RESPONSE_S,
                QueueUrl=self._queue_url,
                Entries=entries,
            )

    def _handle(self, text: str) -> None:
        event = parse_event(text)
        kind = event.get("detail-type")
        if not isinstance(kind, str):
            return
        if kind in GROUP_EVENTS:
            for wakeup in list(self._wakeups):
                wakeup.request()
        elif kind in WARNINGS and (machine := _machine(event)):
            now, interrupts_at = self._clock.now(), None
            if WARNINGS[kind] == "interruption":
                interrupts_at = seconds_of(event.get("time"), now) + INTERRUPTED_AFTER_S
            self._board.pin(InterruptionNotice(machine, WARNINGS[kind], now, interrupts_at, f"EventBridge: {kind}"))


def parse_event(text: str) -> Mapping[str, Any]:
    """Parse a message as an event, unwrapped from SNS; a message that is no event has no type."""
    event = message_of(text)
    return message_of(str(event.get("Message"))) if event.get("Type") == "Notification" else event


def _machine(event: Mapping[str, Any]) -> str:
    detail = event.get("detail")
    machine = detail.get("instance-id") if isinstance(detail, dict) else None
    return machine if isinstance(machine, str) else ""


async def listen(context: Context, account: AwsAccount, queue_url: str, board: NoticeBoard) -> EventQueueReader:
    """Return the queue's running reader that all pools share. Raises port errors."""
    sqs = await session.service(context, "sqs", account, read_s=WAIT_S + RESPONSE_S)

    reader = EventQueueReader(sqs, queue_url, board, context.clock)
    events = await context.shared(
        ("aws-events", account, queue_url), lambda: running(context.tasks, "aws events", reader)
    )
    events.wake(context.wakeup)
    return events
