"""Detection of other writers of a pool's size, on every cloud, by the sizes that this process did not request.

Most setters take no precondition, and not every object keeps who wrote it, so the sizes themselves have to tell. A
write whose answer was lost may or may not have been applied: each requested size stays expected until one is observed.
Example: observed 3, requested 5, the answer lost. Observing 3 or 5 next is expected; observing 8 is another writer.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from scaler.ports import Clock, Conflict


class ForeignWriteDetector:
    """The sizes of one pool that this process observed and requested. `what` names the pool in messages."""

    def __init__(self, clock: Clock, other_writer_yield_s: float, what: str) -> None:
        self._clock = clock
        self._yield_s = other_writer_yield_s
        self._what = what
        self._observed: int | None = None
        self._requested: set[int] = set()
        self._other_writer = ""
        self._yields_until = float("-inf")
        self.raised_at = float("-inf")
        """When this process last requested more than there was. Seconds since the Unix epoch."""

    def request(self, before: int, sizes: Iterable[int]) -> None:
        """Expect one of `sizes`: a write that replaces the size `before` is about to be sent."""
        sizes = list(sizes)
        self._requested.update(sizes)
        if max(sizes) > before:
            self.raised_at = self._clock.now()

    def expect(self, size: int) -> None:
        """Expect `size`: the platform goes back to it by itself."""
        self._requested.add(size)

    def confirm(self, size: int) -> None:
        """Expect `size` alone: the platform accepted it, so earlier requests are over."""
        self._requested = {size}

    def observe(self, size: int, writer: str = "", *, named: bool = False) -> str | None:
        """Return who else set the size, for `other_writer_yield_s` after it was noticed.

        None otherwise.

        `writer` says who set the present size, where the platform knows. `named`: another autoscaler is reported by
        name anyway, so its writes are not held against it later. After the wall clock was set back nothing is reported.
        """
        if size in self._requested:
            self._requested = {size}
        elif self._observed is not None and size != self._observed and not named:
            self._other_writer = writer or self._unknown_writer(size)
            self._yields_until = self._clock.now() + self._yield_s
        self._observed = size
        left_s = self._yields_until - self._clock.now()
        return self._other_writer if 0 < left_s <= self._yield_s else None

    def check(self, present: int, seen: int, writer: str = "") -> None:
        """Raise `Conflict` where another writer changed the size since it was `seen`."""
        if present != seen and present not in self._requested:
            by = f": {writer}" if writer else ", by another writer"
            raise Conflict(f"{self._what} was {seen} and is {present}{by}; it is read again")

    def _unknown_writer(self, size: int) -> str:
        at = datetime.fromtimestamp(self._clock.now(), UTC).isoformat(timespec="seconds")
        return f"another writer set {self._what} to {size} before {at}"
