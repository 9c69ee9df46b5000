"""Listeners for notices of interruption on AWS.

EventBridge sends them for a whole account to an SQS queue; an instance's own metadata server tells those of its own.
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
    """A source of notices, which pins them to the board for the daemon's life."""

    def refused(self) -> Permit | None:
        """Return what this listener may not read, or cannot reach; None while it can."""


@dataclass(frozen=True, slots=True)
class NoticeSources:
    """The board, and the sources that pin notices to it."""

    board: NoticeBoard
    listeners: tuple[AwsNoticeListener, ...] = ()


async def open_notices(context: Context, account: AwsAccount, notices: AwsNotices) -> NoticeSources:
    """Return the board, with the listeners that `notices` names running. Raises port errors."""
    found = await board(context)
    listeners: list[AwsNoticeListener] = []
    if notices.queue_url is not None:
        listeners.append(await events.listen(context, account, notices.queue_url, found))
    if notices.metadata:
        listeners.append(await metadata_server.listen(context, notices.metadata_url, found))
    return NoticeSources(found, tuple(listeners))
