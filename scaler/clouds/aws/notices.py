"""Listeners for interruption notices on AWS.

EventBridge sends a whole account's notices to an SQS queue; the metadata server reports those of its own instance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from scaler.clouds.aws import events, metadata_server
from scaler.clouds.aws.account import AwsNotices
from scaler.clouds.interruptions import NoticeBoard, board
from scaler.ports import Permit

if TYPE_CHECKING:
    from scaler.clouds.aws.account import AwsAccount
    from scaler.ports import Context


class AwsNoticeListener(Protocol):
    """A source of notices that pins them to the board until the daemon ends."""

    def failed_permit(self) -> Permit | None:
        """Return why this listener cannot read; None while it can."""


@dataclass(frozen=True, slots=True)
class NoticeSources:
    """The board, and the listeners that pin notices to it."""

    board: NoticeBoard
    listeners: tuple[AwsNoticeListener, ...] = ()


async def open_notices(context: Context, account: AwsAccount, notices: AwsNotices) -> NoticeSources:
    """Return the board and start the listeners that `notices` configures. Raises port errors."""
    shared = await board(context)
    listeners: list[AwsNoticeListener] = []
    if notices.queue_url is not None:
        listeners.append(await events.listen(context, account, notices.queue_url, shared))
    if notices.metadata:
        listeners.append(await metadata_server.listen(context, notices.metadata_url, shared))
    return NoticeSources(shared, tuple(listeners))
