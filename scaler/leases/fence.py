"""The fence before each write: a daemon without a valid lease writes no size.

The controller checks it before it resizes a pool, and the channel of each API before each call that writes. The second
check covers a process that was stopped in between.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Protocol

from scaler.ports import Fenced


class Fence(Protocol):
    """The permission of one workload's writes."""

    def epoch(self) -> int | None:
        """Return the epoch of the held lease; None while it is not held."""

    def refusal(self, epoch: int | None, write_s: float) -> str:
        """Return why a write of at most `write_s`, decided in `epoch`, may not begin; empty where it may."""


_refusal: ContextVar[Callable[[], str] | None] = ContextVar("refusal", default=None)


@contextlib.contextmanager
def before_each_write(refusal: Callable[[], str]) -> Iterator[None]:
    """Let `check_write` refuse by `refusal` in this task and those that it starts."""
    token = _refusal.set(refusal)
    try:
        yield
    finally:
        _refusal.reset(token)


def check_write() -> None:
    """Raise `Fenced` where a write may not begin now."""
    refusal = _refusal.get()
    if refusal is not None and (reason := refusal()):
        raise Fenced(reason)
