"""Replicas that wait for capacity, and what a platform that took the size says of them later."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Annotated, Literal

from policies.model.field_metadata import FieldMetadata
from simulators.world.infrastructure.events import EventKind, ScheduledEvent, Timetable
from simulators.world.infrastructure.units import to_ps


@dataclass(frozen=True, kw_only=True)
class Failures:
    """How a platform that took a size says later that it cannot give it, and what it does then."""

    after_s: Annotated[
        float,
        FieldMetadata("A replica that found no node for so long is said to have failed. Seconds.", gt=0, le=86400),
    ] = 60.0
    then: Annotated[
        Literal["retry", "stay", "roll_back"],
        FieldMetadata(
            "What becomes of it: it is tried again every retry_s, and said again (groups of EC2 and Compute Engine); it"
            " stays as it is until more is asked for (AKS, scale sets); or the size goes back by it (EKS)."
        ),
    ] = "retry"
    retry_s: Annotated[float, FieldMetadata("Between two tries. Seconds.", gt=0, le=86400)] = 60.0
    quota: Annotated[
        bool, FieldMetadata("Whether more than the quota too is taken and fails later; else such a write is refused.")
    ] = False


@dataclass(frozen=True, slots=True)
class Word:
    """What the platform said last: when, and whether the quota stood in the way."""

    at_ps: int
    quota: bool


class Waiting:
    """Those that wait: the ones being tried, by the time each began, and `failed` ones, which get no node meanwhile.

    Without `failures` all are tried for ever, and nothing is said.
    """

    def __init__(self, failures: Failures | None, timetable: Timetable) -> None:
        self.failed = 0
        self._failures, self._timetable = failures, timetable
        self._after_ps = to_ps(failures.after_s) if failures else 0
        self._since: deque[int] = deque()
        self._word: Word | None = None
        self._retry_ps: int | None = None

    def __len__(self) -> int:
        return len(self._since) + self.failed

    @property
    def tried(self) -> int:
        """Those that get a node as soon as there is one."""
        return len(self._since)

    @property
    def word(self) -> Word | None:
        """What was said, while it holds: of what failed, or of a size that went back."""
        lasts = self.failed or (self._failures is not None and self._failures.then == "roll_back")
        return self._word if lasts else None

    def add(self, count: int, now_ps: int) -> None:
        """So many more wait from now on."""
        self._since.extend([now_ps] * count)
        if count and self._failures is not None:
            self._timetable.add(now_ps + self._after_ps, EventKind.FAIL, 0)

    def asked(self, count: int, now_ps: int) -> None:
        """So many more were asked for, by a write that was taken: with them is tried what had been left alone."""
        if count and self._failures is not None and self._failures.then != "retry":
            count, self.failed, self._word = count + self.failed, 0, None
        self.add(count, now_ps)

    def served(self) -> None:
        """Remove the replica that waited longest: it has a node."""
        self._since.popleft()

    def drop(self, count: int) -> int:
        """Of `count` that are wanted no more, how many waited: what failed goes first, then what came last."""
        if count and self._failures is not None and self._failures.then == "roll_back":
            self._word = None
        failed = min(count, self.failed)
        self.failed -= failed
        last = min(count - failed, len(self._since))
        for _ in range(last):
            self._since.pop()
        return failed + last

    def retry(self, now_ps: int) -> None:
        """Let the platform try failed replicas again, first in line; they fail again at once without a node."""
        self._since.extendleft([now_ps - self._after_ps] * self.failed)
        self.failed, self._retry_ps = 0, None

    def fail(self, now_ps: int, *, quota: bool) -> int:
        """Give up what has been tried for long enough, and say so; how many go off the size for it."""
        failures, count = self._failures, 0
        while failures is not None and self._since and self._since[0] <= now_ps - self._after_ps:
            self._since.popleft()
            count += 1
        if failures is None or not count:
            return 0
        self._word = Word(now_ps, quota)
        if failures.then == "roll_back":
            return count
        self.failed += count
        if failures.then == "retry" and self._retry_ps is None:
            self._retry_ps = now_ps + to_ps(failures.retry_s)
            self._timetable.add(self._retry_ps, EventKind.RETRY, 0)
        return 0

    def stale(self, entry: ScheduledEvent) -> bool:
        """Whether an entry of the timetable, FAIL or RETRY, is about nothing."""
        if entry.due is EventKind.RETRY:
            return not self.failed or self._retry_ps != entry.at_ps
        return not self._since or self._since[0] > entry.at_ps - self._after_ps
