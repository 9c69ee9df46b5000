"""The record of one tick: observation, decision and the outcome of each write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from policies.model.decision import Decision
from policies.model.names import BackendName, PoolName, RouteName, WorkloadName
from policies.model.observation import Observation


class Result(StrEnum):
    """The result of writing a pool's target or a route's split."""

    UNCHANGED = "unchanged"  # the platform already holds this size
    ACCEPTED = "accepted"  # the platform accepted the write; capacity follows later, or does not
    PUBLISHED = "published"  # another autoscaler reads this size and applies it
    WITHHELD = "withheld"  # not published for lack of evidence: the other autoscaler keeps its size
    DRY_RUN = "dry_run"  # decided only
    UNAVAILABLE = "unavailable"  # no response, throttled or refused: the next tick tries again
    OUT_OF_CAPACITY = "out_of_capacity"
    OUT_OF_QUOTA = "out_of_quota"  # a limit of the account; retried within the hour
    CONFLICT = "conflict"  # another writer changed the size
    MISCONFIGURED = "misconfigured"  # needs a human
    FENCED = "fenced"  # nothing was written: the daemon's lease does not permit it now

    @property
    def refused(self) -> bool:
        """Whether a write was attempted and not accepted."""
        return self not in APPLIED | NOT_WRITTEN | PUBLISHED


PUBLISHED: Final = frozenset({Result.PUBLISHED, Result.WITHHELD})
"""Results of a size that another autoscaler applies."""
APPLIED: Final = frozenset({Result.UNCHANGED, Result.ACCEPTED})
"""Results after which the platform has the decided size."""
NOT_WRITTEN: Final = frozenset({Result.DRY_RUN, Result.FENCED})
"""Results without an attempt to write."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of one pool's target in this tick."""

    pool: PoolName
    before: int
    after: int
    result: Result
    reason: str = ""

    @property
    def possible_replicas(self) -> int:
        """The size that the platform may hold now.

        Where it is unknown whether the write was applied, it is the larger of the two sizes. Example: a write of 8 in
        the place of 2 had no response: 8 count until the size is read.
        """
        if self.result in APPLIED:
            return self.after
        return self.before if self.result in NOT_WRITTEN else max(self.before, self.after)


@dataclass(frozen=True, slots=True)
class RouteOutcome:
    """The outcome of one route's split in this tick."""

    route: RouteName
    before: Mapping[BackendName, int]
    after: Mapping[BackendName, int]
    result: Result
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Tick:
    """The record of one tick: the input of logs, metrics, dashboard, `explain` and `replay`.

    - `spec`: the fingerprint of the specification that decided.
    - `history_len`: the number of ticks in the history when it was decided.
    - `lateness_s`: the delay of the tick's start after its due time; `took_s`: the duration of observing and acting.
    - `clock_step_s`: the jump of the wall clock since the last tick; nearly always 0.
    - `epoch`: the number of times that the lease of the workload's shard has changed hands; None without leases. A
      write of the tick requires it.
    """

    spec: str
    observation: Observation
    decision: Decision
    outcomes: tuple[Outcome, ...]
    history_len: int
    lateness_s: float
    took_s: float
    clock_step_s: float = 0.0
    dry_run: bool = False
    epoch: int | None = None
    route_outcomes: tuple[RouteOutcome, ...] = ()

    @property
    def workload(self) -> WorkloadName:
        return self.observation.workload

    @property
    def at(self) -> float:
        return self.observation.at
