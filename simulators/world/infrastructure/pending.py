"""Replicas that wait for capacity, and the failures that a platform reports for them.

The platform reports these failures after it accepted a size.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Annotated, Literal

from policies.model.field_metadata import FieldMetadata
from simulators.world.infrastructure.events import EventKind, ScheduledEvent, Timetable
from simulators.world.infrastructure.units import to_ps


@dataclass(frozen=True, kw_only=True)
class Failures:
    """Rules for failures that a platform reports after it accepted a size."""

    after_s: Annotated[
        float,
        FieldMetadata("Wait without a node until a replica is reported as failed. Seconds.", gt=0, le=86400),
    ] = 60.0
    then: Annotated[
        Literal["retry", "stay", "roll_back", "restore"],
        FieldMetadata(
            "Reaction to a failed replica. retry: try again every retry_s (EC2 and Compute Engine groups). stay: keep"
            " it failed until the next scale-out (AKS, scale sets, Vertex AI). roll_back: reduce the size (EKS)."
            " restore: return to the size before the update, without the replicas that found a node (SageMaker, Azure"
            " OpenAI)."
        ),
    ] = "retry"
    retry_s: Annotated[float, FieldMetadata("Interval between retries. Seconds.", gt=0, le=86400)] = 60.0
    quota: Annotated[
        bool,
        FieldMetadata("Whether a size above the quota is accepted and fails later. If false, the write is rejected."),
    ] = False


@dataclass(frozen=True, slots=True)
class FailureReport:
    """The platform's last failure: its time, and whether the quota is the cause."""

    at_ps: int
    quota: bool


class WaitingReplicas:
    """Replicas that wait for a node.

    Eligible ones are in order of the start of their wait. `failed` ones get no node. Without `failures` all stay
    eligible without end, and nothing is reported.
    """

    def __init__(self, failures: Failures | None, timetable: Timetable) -> None:
        self.failed = 0
        self._failures, self._timetable = failures, timetable
        self._after_ps = to_ps(failures.after_s) if failures else 0
        self._since_ps: deque[int] = deque()
        self._report: FailureReport | None = None
        self._retry_ps: int | None = None

    def __len__(self) -> int:
        return len(self._since_ps) + self.failed

    @property
    def eligible(self) -> int:
        """Number of replicas that get a node as soon as one is available."""
        return len(self._since_ps)

    @property
    def report(self) -> FailureReport | None:
        """The last failure while it applies: while replicas are failed, or after a roll-back."""
        applies = self.failed or self._reduces_size
        return self._report if applies else None

    @property
    def _reduces_size(self) -> bool:
        """Whether a failure makes the pool smaller: no replica stays failed."""
        return self._failures is not None and self._failures.then in {"roll_back", "restore"}

    def add(self, count: int, now_ps: int) -> None:
        """Let `count` more replicas wait from now on."""
        self._since_ps.extend([now_ps] * count)
        if count and self._failures is not None:
            self._timetable.add(now_ps + self._after_ps, EventKind.FAIL, 0)

    def request(self, count: int, now_ps: int) -> None:
        """Add `count` replicas of an accepted write.

        Unless the platform retries, failed ones wait again.
        """
        if count and self._failures is not None and self._failures.then != "retry":
            count, self.failed, self._report = count + self.failed, 0, None
        self.add(count, now_ps)

    def remove_oldest(self) -> None:
        """Remove the replica that waited longest, which has a node now."""
        self._since_ps.popleft()

    def drop(self, count: int) -> int:
        """Remove up to `count` replicas, failed ones first, then the newest, and return how many."""
        failed = min(count, self.failed)
        self.failed -= failed
        last = min(count - failed, len(self._since_ps))
        for _ in range(last):
            self._since_ps.pop()
        return failed + last

    def forget_report(self) -> None:
        """Forget a failure that made the pool smaller: a write of another size ends its report."""
        if self._reduces_size:
            self._report = None

    def retry(self, now_ps: int) -> None:
        """Make failed replicas eligible again, first in line.

        Without a node they fail again at once.
        """
        self._since_ps.extendleft([now_ps - self._after_ps] * self.failed)
        self.failed, self._retry_ps = 0, None

    def give_up(self, now_ps: int, *, quota: bool) -> int:
        """Report replicas that waited for `after_s` as failed.

        Return by how many the size rolls back.
        """
        failures, count = self._failures, 0
        while failures is not None and self._since_ps and self._since_ps[0] <= now_ps - self._after_ps:
            self._since_ps.popleft()
            count += 1
        if failures is None or not count:
            return 0
        self._report = FailureReport(now_ps, quota)
        if self._reduces_size:
            return count
        self.failed += count
        if failures.then == "retry" and self._retry_ps is None:
            self._retry_ps = now_ps + to_ps(failures.retry_s)
            self._timetable.add(self._retry_ps, EventKind.RETRY, 0)
        return 0

    def is_stale(self, entry: ScheduledEvent) -> bool:
        """Return whether a FAIL or RETRY entry no longer applies."""
        if entry.kind is EventKind.RETRY:
            return not self.failed or self._retry_ps != entry.at_ps
        return not self._since_ps or self._since_ps[0] > entry.at_ps - self._after_ps
