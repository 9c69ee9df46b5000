"""Estimates the effect of a shadow policy.

The estimate has the sizes that it would hold open-loop, and the late requests at them.

*Open-loop* means that the size has no effect on the measurements. A policy's target counts as its size, and serves
after the pool's measured lead time. No replica is interrupted, refused or out of capacity. Waiting requests form a
fluid queue, first come first served, that each serving replica drains at its measured rate.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from policies.history.ticks import History
from policies.model import Absent, PoolName, Tick
from policies.model.spec import WorkloadSpec
from scaler.shadow.hypothetical_splits import Splits, moved_share
from scaler.shadow.late_requests import ServingLoad

MAX_STEPS: Final = 32
"""Maximum number of steps in which the queue advances over a tick. Below it, a step is at most half of `max_wait_s`.

Example: a tick of 15 s with a maximum wait of 1 s takes 30 steps of 0.5 s.
"""
SPLIT_ROUNDING: Final = 1e-4
"""Difference of shares by rounding to weights: a weight of 1 of 10,000."""
MAX_COHORTS: Final = 20_000
"""Maximum number of waiting cohorts; beyond it the oldest count as late."""


@dataclass(slots=True)
class _Pool:
    """One pool's requested replicas, and those of them that still start.

    Each starting entry has the time when it serves.
    """

    requested: int
    starting: deque[tuple[float, int]] = field(default_factory=deque)

    @property
    def ready(self) -> int:
        return self.requested - sum(n for _, n in self.starting)

    def resize(self, at: float, target: int, lead_s: float) -> None:
        """Request `target` replicas at `at` (Unix time).

        Of the starting replicas, the latest are removed first.

        Example: 4 replicas are resized to 6 at 0 s, with a lead time of 60 s, and to 5 at 15 s. 4 serve, and 1 starts.
        """
        while self.starting and self.starting[0][0] <= at:
            self.starting.popleft()
        if target > self.requested:
            self.starting.append((at + lead_s, target - self.requested))
        excess = self.requested - target
        while excess > 0 and self.starting:
            ready_at, n = self.starting.pop()
            if n > excess:
                self.starting.append((ready_at, n - excess))
            excess -= min(n, excess)
        self.requested = target


class HypotheticalSizes:
    """One policy's sizes of all pools. They begin with the sizes observed at its first tick."""

    def __init__(self) -> None:
        self._pools: dict[PoolName, _Pool] = {}

    @property
    def known(self) -> bool:
        return bool(self._pools)

    @property
    def requested(self) -> int:
        """The requested replicas of all pools."""
        return sum(pool.requested for pool in self._pools.values())

    def serving(self, spec: WorkloadSpec) -> float:
        """Return the serving replicas, in replica equivalents."""
        pools = ((pool.ready, spec.pools[name]) for name, pool in self._pools.items() if name in spec.pools)
        return float(sum(ready * pool.work_per_replica for ready, pool in pools if pool.tier == "serving"))

    def usd_per_hour(self, spec: WorkloadSpec) -> float | None:
        """Return the cost of the requested replicas; None where a price is not known."""
        prices = {name: pool.price_usd_per_hour for name, pool in spec.pools.items()}
        total = 0.0
        for name, pool in self._pools.items():
            price = prices.get(name)
            if price is None and pool.requested:
                return None
            total += pool.requested * (price or 0.0)
        return total

    def set_observed(self, tick: Tick) -> None:
        """Set the sizes to the ones that a tick observed or wrote."""
        written = {o.pool: o.possible_replicas for o in tick.outcomes}
        for name, reading in tick.observation.pools.items():
            if not isinstance(reading, Absent):
                status = reading.value
                requested = written.get(name, status.desired)
                pending = max(0, requested - status.ready)
                self._pools[name] = _Pool(requested, deque([(math.inf, pending)] if pending else []))

    def apply_targets(self, tick: Tick, spec: WorkloadSpec, history: History) -> None:
        """Resize the pools to a tick's targets. A pool without a target keeps its size."""
        for name, reading in tick.observation.pools.items():
            prior_s = spec.pools[name].lead_time_s if name in spec.pools else 0.0
            lead_s = history.pool_memories.of(name).lead_times.usual_s(prior_s)
            if name not in self._pools and not isinstance(reading, Absent):
                status = reading.value
                starting = [(tick.at + lead_s, status.pending)] if status.pending else []
                self._pools[name] = _Pool(status.desired, deque(starting))
            if name in self._pools:
                pool = self._pools[name]
                pool.resize(tick.at, tick.decision.targets.get(name, pool.requested), lead_s)

    def shift(self, step_s: float) -> None:
        """Shift all times after a jump of the wall clock."""
        for pool in self._pools.values():
            pool.starting = deque((at + step_s, n) for at, n in pool.starting)


class HypotheticalQueue:
    """The requests that wait for a size.

    A request that waits longer than `max_wait_s` counts once as late.
    """

    def __init__(self) -> None:
        self._cohorts: deque[tuple[float, float]] = deque()
        self._overdue = 0.0

    @property
    def waiting(self) -> float:
        return self._overdue + sum(n for _, n in self._cohorts)

    def advance(self, interval_s: float, serving: float, load: ServingLoad) -> float | None:
        """Advance the queue, and return the requests that become late in the interval.

        None where the arrivals exceed the replicas' measured rate, and that is a lower bound only. Ages are counted by
        intervals, so that a jump of the clock does not change them. Example: no replica serves, 10 requests/s arrive
        for 15 s, and the maximum wait is 1 s: 150 wait, and 140 of them are late.
        """
        capacity_rps = serving * load.replica_rps
        if not load.exact and capacity_rps < load.arrivals_rps:
            return None
        steps = max(1, min(MAX_STEPS, math.ceil(2.0 * interval_s / load.max_wait_s)))
        step_s, late_share = interval_s / steps, load.late_share(serving)
        arriving, served = load.arrivals_rps * step_s, capacity_rps * step_s
        return sum(self._step(step_s, arriving, served, late_share, load) for _ in range(steps))

    def _step(self, step_s: float, arriving: float, served: float, late_share: float, load: ServingLoad) -> float:
        self._cohorts = deque((age_s + step_s, n) for age_s, n in self._cohorts)
        overdue_served = min(self._overdue, served)
        self._overdue -= overdue_served
        served -= overdue_served
        late = 0.0
        while served > 0 and self._cohorts:
            age_s, n = self._cohorts.popleft()
            done = min(n, served)
            served -= done
            late += done * late_share
            if n > done:
                self._cohorts.appendleft((age_s, n - done))
        done = min(arriving, served)
        late += done * late_share
        if arriving > done:
            self._cohorts.append((step_s / 2, arriving - done))
        while self._cohorts and (self._cohorts[0][0] > load.max_wait_s or len(self._cohorts) > MAX_COHORTS):
            _, n = self._cohorts.popleft()
            self._overdue += n
            late += n
        return late


@dataclass(frozen=True, slots=True)
class ComparedSide:
    """One policy's part of a tick.

    Replicas requested from now on, the replica equivalents that serve, their cost, the requests that became late
    since the previous tick, the weights of each route, and the cost of requests to providers. None where it is not
    known.
    """

    requested: int
    serving: float
    usd_per_hour: float | None
    late: float | None
    splits: Splits = field(default_factory=dict)
    api_usd_per_hour: float | None = 0.0

    @property
    def total_usd_per_hour(self) -> float | None:
        """The cost of replicas and of requests to providers; None where a part is not known."""
        if self.usd_per_hour is None or self.api_usd_per_hour is None:
            return None
        return self.usd_per_hour + self.api_usd_per_hour


@dataclass(frozen=True, slots=True)
class ShadowTick:
    """The record of a shadow's tick.

    It has the tick itself, and the size of the live policy (`first`) and of the `shadow`.

    `interval_s` is the time since the shadow's previous tick. `open_loop` is True in a dry run, where the live size is
    held open-loop too and not observed. `estimated_by` is the method of the estimate of late requests, or the reason
    why there is none.
    """

    tick: Tick
    first: ComparedSide
    shadow: ComparedSide
    interval_s: float
    open_loop: bool
    estimated_by: str


@dataclass(slots=True)
class ShadowTotals:
    """Sums of a shadow and of the live policy (`first`) over a run.

    Unknown parts are left out of both.
    """

    ticks: int = 0
    differing: int = 0
    failed: int = 0
    span_s: float = 0.0
    late_known_s: float = 0.0
    usd_known_s: float = 0.0
    replica_hours: dict[str, float] = field(default_factory=lambda: {"first": 0.0, "shadow": 0.0})
    usd: dict[str, float] = field(default_factory=lambda: {"first": 0.0, "shadow": 0.0})
    late: dict[str, float] = field(default_factory=lambda: {"first": 0.0, "shadow": 0.0})
    estimated_by: str = ""
    differing_splits: int = 0
    moved_shares: float = 0.0
    """Sum over the ticks of the share of requests that the shadow sends to other backends."""

    def add(self, tick: ShadowTick, previous: ShadowTick | None) -> None:
        """Add a tick. The sizes of the `previous` one were held until it."""
        self.ticks += 1
        self.differing += tick.first.requested != tick.shadow.requested
        self.estimated_by = tick.estimated_by
        moved = moved_share(tick.first.splits, tick.shadow.splits)
        self.differing_splits += moved > SPLIT_ROUNDING
        self.moved_shares += moved
        if tick.first.late is not None and tick.shadow.late is not None and tick.interval_s:
            self.late_known_s += tick.interval_s
            self.late["first"] += tick.first.late
            self.late["shadow"] += tick.shadow.late
        if previous is None:
            return
        self.span_s += tick.interval_s
        hours, sides = tick.interval_s / 3600.0, {"first": previous.first, "shadow": previous.shadow}
        prices = {name: side.total_usd_per_hour for name, side in sides.items()}
        self.usd_known_s += tick.interval_s if None not in prices.values() else 0.0
        for name, side in sides.items():
            self.replica_hours[name] += side.requested * hours
            if None not in prices.values():
                self.usd[name] += (prices[name] or 0.0) * hours

    @property
    def more_replica_hours(self) -> float:
        return self.replica_hours["shadow"] - self.replica_hours["first"]

    @property
    def more_usd(self) -> float | None:
        """Difference in USD; None where no price is known."""
        return self.usd["shadow"] - self.usd["first"] if self.usd_known_s else None

    @property
    def more_late(self) -> float | None:
        """Difference in late requests; None where no tick has an estimate."""
        return self.late["shadow"] - self.late["first"] if self.late_known_s else None

    def as_dict(self) -> Mapping[str, object]:
        late = self.more_late
        return {
            "ticks": self.ticks,
            "differing": self.differing,
            "differing_splits": self.differing_splits,
            "mean_moved_share": round(self.moved_shares / self.ticks, 4) if self.ticks else None,
            "failed": self.failed,
            "span_s": round(self.span_s, 3),
            "replica_hours": {name: round(hours, 4) for name, hours in self.replica_hours.items()},
            "more_replica_hours": round(self.more_replica_hours, 4),
            "usd": {name: round(usd, 4) for name, usd in self.usd.items()} if self.usd_known_s else None,
            "more_usd": None if self.more_usd is None else round(self.more_usd, 4),
            "more_late": None if late is None else round(late, 1),
            "late": None if late is None else {name: round(n, 1) for name, n in self.late.items()},
            "late_known_s": round(self.late_known_s, 3),
            "estimated_by": self.estimated_by,
        }

    def text(self) -> str:
        """Return the totals in one sentence."""
        if not self.ticks:
            return f"no tick succeeded ({self.failed} failed)" if self.failed else "no tick yet"
        hours = self.replica_hours
        text = (
            f"{self.ticks} ticks, a different size in {self.differing}; {hours['shadow']:.2f} replica-hours instead of"
        )
        text += f" {hours['first']:.2f} ({self.more_replica_hours:+.2f})"
        if self.more_usd is not None:
            text += f", {self.more_usd:+.2f} USD"
        if self.more_late is None:
            text += f"; late requests: unknown ({self.estimated_by})"
        else:
            share = self.late_known_s / self.span_s if self.span_s else 1.0
            known = "" if share > 0.995 else f", known for {share:.0%} of the time"
            text += f"; predicted late requests: {self.late['shadow']:.0f} instead of {self.late['first']:.0f}{known}"
        if self.differing_splits:
            moved = self.moved_shares / self.ticks
            text += f"; another split in {self.differing_splits} ticks, {moved:.1%} of requests to other backends"
        return text + (f"; {self.failed} ticks failed" if self.failed else "")
