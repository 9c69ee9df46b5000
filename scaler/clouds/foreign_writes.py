"""Detection of other writers of a pool's size or a route's split.

A size that this process did not request comes from another writer. Most APIs take no precondition and do not record the
writer, so the detector compares sizes. A write whose response was lost may or may not have been applied: each requested
size stays expected until one of them is observed. Example: observed 3, requested 5, response lost. Next, 3 or 5 is
expected; 8 is another writer.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Generic, TypeVar

from scaler.ports import Clock, Conflict

T = TypeVar("T")


class ForeignChangeDetector(Generic[T]):
    """The values of one object that this process observed and requested.

    A value is a size or the text of a split. `what` names the object in messages.
    """

    def __init__(self, clock: Clock, other_writer_yield_s: float, what: str) -> None:
        self._clock = clock
        self._yield_s = other_writer_yield_s
        self._what = what
        self._observed: T | None = None
        self._requested: set[T] = set()
        self._other_writer = ""
        self._yields_until = float("-inf")

    def expect(self, value: T) -> None:
        """Expect `value` too.

        A write of it is about to be sent, or the platform reverts to it by itself.
        """
        self._requested.add(value)

    def confirm(self, value: T) -> None:
        """Expect only `value`: the platform accepted it, so earlier requests are void."""
        self._requested = {value}

    def observe(self, value: T, writer: str = "", *, named: bool = False) -> str | None:
        """Return the other writer of the value after its detection; else None.

        It is returned for `other_writer_yield_s`.

        `writer` is the writer of the present value, where the platform records it. `named`: another autoscaler is
        already reported by name, so its writes are not reported again. After the wall clock was set back, nothing is.
        """
        if value in self._requested:
            self._requested = {value}
        elif self._observed is not None and value != self._observed and not named:
            self._other_writer = writer or self._unknown_writer(value)
            self._yields_until = self._clock.now() + self._yield_s
        self._observed = value
        remaining_s = self._yields_until - self._clock.now()
        return self._other_writer if 0 < remaining_s <= self._yield_s else None

    def check(self, present: T, observed: T, writer: str = "") -> None:
        """Raise `Conflict` where another writer changed the value since it was `observed`."""
        if present != observed and present not in self._requested:
            by = writer or "another writer set it"
            raise Conflict(f"{self._what} changed from {observed} to {present}: {by}; the next tick reads it again")

    def _unknown_writer(self, value: T) -> str:
        at = datetime.fromtimestamp(self._clock.now(), UTC).isoformat(timespec="seconds")
        return f"another writer set {self._what} to {value} before {at}"


class ForeignWriteDetector(ForeignChangeDetector[int]):
    """The sizes of one pool that this process observed and requested."""

    def __init__(self, clock: Clock, other_writer_yield_s: float, what: str) -> None:
        super().__init__(clock, other_writer_yield_s, what)
        self.raised_at = float("-inf")
        """Time of this process's last request for a larger size. Seconds since the Unix epoch."""

    def request(self, size: int, requested: Iterable[int]) -> None:
        """Expect one of the `requested` sizes: a write that replaces `size` is about to be sent."""
        for new_size in requested:
            self.expect(new_size)
            if new_size > size:
                self.raised_at = self._clock.now()
