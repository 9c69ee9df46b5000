"""Who wrote a size: AWS's setters take no precondition, so other writers are noticed by what they did."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from uuid import uuid4

from scaler.ports import Clock, Conflict, Misconfigured


class AwsForeignWriteDetector:
    """Remembers the size last seen and those asked for. `what` names what is sized."""

    def __init__(self, clock: Clock, other_writer_yield_s: float, what: str) -> None:
        self._clock = clock
        self._yield_s = other_writer_yield_s
        self._what = what
        self._seen: int | None = None
        self._asked: set[int] = set()
        self._foreign = ""
        self._yields_until = float("-inf")
        self.raised_at = float("-inf")

    def ask(self, before: int, sizes: Iterable[int]) -> None:
        """We are about to write, and one of `sizes` comes of it."""
        sizes = list(sizes)
        self._asked.update(sizes)
        if max(sizes) > before:
            self.raised_at = self._clock.now()

    def expect(self, size: int) -> None:
        """The platform goes back to `size` by itself: that is nobody's write."""
        self._asked.add(size)

    def other(self, present: int) -> str | None:
        """Who else set the size that is `present` now, for a while after it was noticed."""
        if present in self._asked:
            self._asked = {present}
        elif self._seen is not None and present != self._seen:
            at = datetime.fromtimestamp(self._clock.now(), UTC).isoformat(timespec="seconds")
            self._foreign = f"somebody set {self._what} to {present} before {at}"
            self._yields_until = self._clock.now() + self._yield_s
        self._seen = present
        left_s = self._yields_until - self._clock.now()
        return self._foreign if 0 < left_s <= self._yield_s else None  # longer, where the clock was set back

    def check(self, present: int, seen: int) -> None:
        """Raise `Conflict` where somebody else wrote since the size was `seen`."""
        if present != seen and present not in self._asked:
            raise Conflict(f"{self._what} was {seen} and is {present}: somebody else sized it; it is looked at again")


class IdempotencyTokens:
    """Idempotency tokens: a write whose answer was lost is said again under the same one, and any other is new."""

    def __init__(self) -> None:
        self._lost: dict[tuple[int, object], str] = {}

    def of(self, present: int, write: object) -> str:
        """The token of a write that finds the size `present`; it counts as lost until `done`."""
        return self._lost.setdefault((present, write), f"forescale-{uuid4().hex}")

    def done(self, present: int, write: object) -> None:
        """The write was answered, either way."""
        self._lost.pop((present, write), None)

    def found(self, present: int) -> None:
        """The size is `present`: what was to change another one is over, and may be wanted anew some day."""
        self._lost = {key: token for key, token in self._lost.items() if key[0] == present}


def own_recent_write(what: str, replicas: int, least: int, most: int, keys: str) -> None:
    """Raise `Misconfigured` where AWS would refuse the size. `keys` names the bounds as AWS does."""
    if not least <= replicas <= most:
        raise Misconfigured(
            f"{what} cannot be {replicas}: its {keys} are {least} and {most}. Change them, or the pool's min_replicas"
            " and max_replicas"
        )
