"""Interruption warnings, rebalance recommendations and news of Auto Scaling groups, from EventBridge through SQS.

A long poll stands at the queue all the time, so that a warning is heard as soon as it is there. The queue belongs to
one daemon: what is read is deleted, whatever it was about. A message that is no event we know is deleted, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from scaler.clouds.aws import session
from scaler.clouds.backoff import Backoff
from scaler.clouds.http_answers import message_of
from scaler.clouds.interruptions import Kind, Notice, NoticeBoard
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
NEWS: Final = frozenset(
    {
        "EC2 Instance Launch Successful",
        "EC2 Instance Launch Unsuccessful",
        "EC2 Instance Terminate Successful",
        "EC2 Instance-launch Lifecycle Action",
        "EC2 Instance-terminate Lifecycle Action",
    }
)
"""Events of Auto Scaling groups: the next status reports what they are about, so a tick begins at once."""
WAIT_S: Final = 20
"""Maximum time of a long poll in SQS. Seconds."""
ANSWER_S: Final = 5.0
"""Time for the answer itself, on top of the wait. Seconds."""
PAUSE_S: Final = 2.0
"""Pause after a poll that failed: a warning comes two minutes ahead, and scale-in may wait. Seconds."""
HUMAN_PAUSE_S: Final = 30.0
"""Pause after a poll that needs a human: a queue that does not exist, a missing permission. Seconds."""
READ_AT_ONCE: Final = 10
AGAIN_S: Final = 10
"""A message whose answer was lost is delivered again after this. Seconds."""


class EventQueueReader:
    """The queue's reader: pins notices to the board, and requests ticks at Auto Scaling events."""

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

    def refused(self) -> Permit | None:
        """Return why the queue cannot be read; None while it can, or the first poll is under way."""
        if self.error is None:
            return None
        return Permit("sqs:ReceiveMessage", False if isinstance(self.error, Misconfigured) else None, str(self.error))

    async def run(self) -> None:
        """Read without end."""
        backoff = Backoff(PAUSE_S, PAUSE_S, HUMAN_PAUSE_S)
        while True:
            try:
                await self._read()
                self.error = None
            except PortError as e:
                self.error = e
                await asyncio.sleep(backoff.after(e))

    @validated("AWS sqs:ReceiveMessage")
    async def _read(self) -> None:
        name = self._queue_url.rpartition("/")[2]
        answer = await self._sqs.call(
            "ReceiveMessage",
            name,
            repeat=False,
            deadline_s=WAIT_S + ANSWER_S,
            QueueUrl=self._queue_url,
            MaxNumberOfMessages=READ_AT_ONCE,
            WaitTimeSeconds=WAIT_S,
            VisibilityTimeout=AGAIN_S,
        )
        messages = answer.get("Messages", ())
        for message in messages:
            self._take(str(message.get("Body", "")))
        if messages:
            done = [{"Id": str(i), "ReceiptHandle": m["ReceiptHandle"]} for i, m in enumerate(messages)]
            await self._sqs.call(
                "DeleteMessageBatch",
                name,
                write=True,
                repeat=True,  # deleted twice is deleted
                deadline_s=ANSWER_S,
                QueueUrl=self._queue_url,
                Entries=done,
            )

    def _take(self, text: str) -> None:
        event = parse_event(text)
        kind = event.get("detail-type")
        if not isinstance(kind, str):
            return
        if kind in NEWS:
            for wakeup in list(self._wakeups):
                wakeup.request()
        elif kind in WARNINGS and (machine := _machine(event)):
            said_at = seconds_of(event.get("time"), self._clock.now())
            takes_at = None
            if WARNINGS[kind] == "interruption":
                takes_at = said_at + INTERRUPTED_AFTER_S
            self._board.pin(Notice(machine, WARNINGS[kind], self._clock.now(), takes_at, f"EventBridge: {kind}"))


def parse_event(text: str) -> Mapping[str, Any]:
    """Return a message as an event, unwrapped from SNS; a message that is no event has no type."""
    event = message_of(text)
    return message_of(str(event.get("Message"))) if event.get("Type") == "Notification" else event


def _machine(event: Mapping[str, Any]) -> str:
    detail = event.get("detail")
    machine = detail.get("instance-id") if isinstance(detail, dict) else None
    return machine if isinstance(machine, str) else ""


async def listen(context: Context, account: AwsAccount, queue_url: str, board: NoticeBoard) -> EventQueueReader:
    """Return the queue's reader, which runs for all pools and the daemon's life.

    Raises port errors.
    """
    sqs = await session.service(context, "sqs", account, read_s=WAIT_S + ANSWER_S)

    reader = EventQueueReader(sqs, queue_url, board, context.clock)
    events = await context.shared(
        ("aws-events", account, queue_url), lambda: running(context.tasks, "aws events", reader)
    )
    events.wake(context.wakeup)
    return events
