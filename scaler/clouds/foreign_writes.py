"""Detection of other writers of a pool's size.

A size that this process did not request comes from another writer. Most APIs take no precondition and do not record the
writer, so the detector compares sizes. A write whose response was lost may or may not have been applied: each requested
size stays expected until one of them is observed. Example: observed 3, requested 5, response lost. Next, 3 or 5 is
expected; 8 is another writer.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from scaler.ports import Clock, Conflict


class ForeignWriteDetector:
    """The sizes of one pool that this process observed and requested.

    `what` names the pool in messages.
    """

    def __init__(self, clock: Clock, other_writer_yield_s: float, what: str) -> None:
        self._clock = clock
        self._yield_s = other_writer_yield_s
        self._what = what
        self._observed: int | None = None
        self._requested: set[int] = set()
        self._other_writer = ""
        self._yields_until = float("-inf")
        self.raised_at = float("-inf")
        """Time of this process's last request for a larger size. Seconds since the Unix epoch."""

    def request(self, size: int, requested: Iterable[int]) -> None:
        """Expect one of the `requested` sizes: a write that replaces `size` is about to be sent."""
        requested = list(requested)
        self._requested.update(requested)
        if max(requested) > size:
            self.raised_at = self._clock.now()

    def expect(self, size: int) -> None:
        """Expect `size` too: the platform reverts to it by itself."""
        self._requested.add(size)

    def confirm(self, size: int) -> None:
        """Expect only `size`: the platform accepted it, so earlier requests are void."""
        self._requested = {size}

    def observe(self, size: int, writer: str = "", *, named: bool = False) -> str | None:
        """Return the other writer of the size after its detection; else None.

        It is returned for `other_writer_yield_s`.

        `writer` is the writer of the present size, where the platform records it. `named`: another autoscaler is
        already reported by name, so its writes are not reported again. After the wall clock was set back, nothing is.
        """
        if size in self._requested:
            self._requested = {size}
        elif self._observed is not None and size != self._observed and not named:
            self._other_writer = writer or self._unknown_writer(size)
            self._yields_until = self._clock.now() + self._yield_s
        self._observed = size
        remaining_s = self._yields_until - self._clock.now()
        return self._other_writer if 0 < remaining_s <= self._yield_s else None

    def check(self, present: int, observed: int, writer: str = "") -> None:
        """Raise `Conflict` where another writer changed the size since it was `observed`."""
        if present != observed and present not in self._requested:
            by = writer or "another writer set it"
            raise Conflict(f"{self._what} changed from {observed} to {present}: {by}; the next tick reads it again")

    def _unknown_writer(self, size: int) -> str:
        at = datetime.fromtimestamp(self._clock.now(), UTC).isoformat(timespec="seconds")
        return f"another writer set {self._what} to {size} before {at}"
