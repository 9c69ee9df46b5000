"""Where notices of interruption come from on AWS: configuration, and what opens the listeners.

EventBridge sends them for a whole account to an SQS queue; an instance's own metadata server tells those of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Protocol

from policies.model.field_metadata import FieldMetadata
from scaler.clouds.interruptions import NoticeBoard, board
from scaler.ports import Permit

if TYPE_CHECKING:
    from scaler.clouds.aws.account import AwsAccount
    from scaler.ports import Context


@dataclass(frozen=True, kw_only=True)
class AwsNotices:
    """Where the cloud says what it will take."""

    queue_url: Annotated[
        str | None,
        FieldMetadata(
            "SQS queue that EventBridge sends warnings to, read and emptied by this daemon alone; null: none.",
            pattern=r"^https?://[^/@\s?#]+/[0-9]+/[A-Za-z0-9_-]{1,80}$",
        ),
    ] = None
    metadata: Annotated[
        bool, FieldMetadata("Ask the metadata server (IMDSv2) of the instance that this daemon runs on, once a second.")
    ] = False
    metadata_url: Annotated[str, FieldMetadata("Address of the metadata server.", pattern=r"^https?://[^/@\s?#]+$")] = (
        "http://169.254.169.254"
    )

    def actions(self, region: str | None) -> dict[str, str]:
        """Return the IAM actions that listening needs, each with the queue's ARN."""
        if self.queue_url is None:
            return {}
        account, name = self.queue_url.rsplit("/", 2)[1:]
        arn = f"arn:{partition(region)}:sqs:{region or '*'}:{account}:{name}"
        return {"sqs:DeleteMessage": arn, "sqs:ReceiveMessage": arn}

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.queue_url and self.queue_url.endswith(".fifo"):
            yield "queue_url", "EventBridge sends these events to a standard queue, not to a FIFO one"


def partition(region: str | None) -> str:
    """Return the partition that a region is in, as ARNs have it."""
    for prefix, name in (("cn-", "aws-cn"), ("us-gov-", "aws-us-gov")):
        if region is not None and region.startswith(prefix):
            return name
    return "aws"


class AwsNoticeListener(Protocol):
    """What brings notices to the board, for the daemon's life."""

    def refused(self) -> Permit | None:
        """Return what this listener may not read, or cannot reach; None while it can."""


@dataclass(frozen=True, slots=True)
class NoticeSources:
    """The board, and who listens."""

    board: NoticeBoard
    listeners: tuple[AwsNoticeListener, ...] = ()


async def open_notices(context: Context, account: AwsAccount, notices: AwsNotices) -> NoticeSources:
    """Return the board, with the listeners that `notices` names running. Raises port errors."""
    found = await board(context)
    listeners: list[AwsNoticeListener] = []
    if notices.queue_url is not None:
        from scaler.clouds.aws import events  # noqa: PLC0415 - a process without SQS does without the SDK

        listeners.append(await events.listen(context, account, notices.queue_url, found))
    if notices.metadata:
        from scaler.clouds.aws import metadata_server  # noqa: PLC0415 - only where it is asked for

        listeners.append(await metadata_server.listen(context, notices.metadata_url, found))
    return NoticeSources(found, tuple(listeners))
