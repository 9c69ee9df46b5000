"""The fence before each write: a daemon without a valid lease writes no size.

The controller checks it before it resizes a pool, and the channel of each API before each call that writes. The second
check covers a process that was stopped in between.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Protocol

from scaler.ports import Fenced


class Fence(Protocol):
    """The permission of one workload's writes."""

    def epoch(self) -> int | None:
        """Return the epoch of the held lease; None while it is not held."""

    def refusal(self, epoch: int | None, write_s: float) -> str:
        """Return why a write may not begin; empty where it may.

        It takes at most `write_s`, and was decided in `epoch`.
        """


@dataclass(frozen=True, slots=True)
class WritePermit:
    """The permission of one tick's writes.

    Each takes at most `write_s`, and was decided in `epoch`.
    """

    fence: Fence
    epoch: int | None
    write_s: float


_permit: ContextVar[WritePermit | None] = ContextVar("write_permit", default=None)


@contextlib.contextmanager
def writing_under(fence: Fence | None, epoch: int | None, write_s: float) -> Iterator[None]:
    """Let `check_write` check the fence in this task and those that it starts.

    None permits all writes.
    """
    token = _permit.set(None if fence is None else WritePermit(fence, epoch, write_s))
    try:
        yield
    finally:
        _permit.reset(token)


def check_write() -> None:
    """Raise `Fenced` where a write may not begin now."""
    permit = _permit.get()
    if permit is not None and (reason := permit.fence.refusal(permit.epoch, permit.write_s)):
        raise Fenced(reason)


def write_epoch() -> int | None:
    """Return the epoch of the tick whose write is being sent; None without leases."""
    permit = _permit.get()
    return None if permit is None else permit.epoch
