"""Evidence for the advice: a workload's ticks, its requests, and the offers it can run on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from policies.history.lead_times import MIN_LEAD_TIMES
from policies.model import PoolName
from policies.model.spec import Slo
from simulators.backtest.recorded_run import RecordedRun
from simulators.backtest.supply import lead_times
from simulators.cost.curve import LoadDurationCurve, curve
from simulators.cost.figures import Basis, Citation, SourcedNumber
from simulators.cost.offers import ReplicaOffer
from simulators.experiments.slo_outcome import LateRequests, SloStatus
from simulators.reporting.time_bins import Floats
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.traffic.trace import RequestTrace

HOUR_S = 3600.0
RULE_OF_THREE = 3.0
"""Rule of three: without a loss in h node-hours, the rate is below 3 / h with 95 % confidence. 100 h: 0.03 per hour."""


SHORT = 0.05
"""Replicas below the demand that count as short: less than that is rounding of the demand."""


@dataclass(frozen=True, slots=True)
class RequestEvidence:
    """The requests of the observed time, its length, and their sources."""

    trace: RequestTrace
    span_s: float
    sources: tuple[Citation, ...]

    @property
    def rate_rps(self) -> float:
        return len(self.trace) / self.span_s


@dataclass(frozen=True, slots=True, eq=False)
class WorkloadEvidence:
    """One workload as it was run, live or simulated. `recording` cites the run.

    `pools` names the offer of each serving pool, `markets` its market, `runs_on` the offer with the most replica-hours.
    `requests` is None where they are unknown, for the `missing_reason`. `cost` is the amount paid, in USD per hour;
    `cost_by_use` divides it by use if a simulated bill is known. `late` are the late requests of the run; None where
    they are unknown, for the `late_reason`. `simulated_pools` are the pools of a scenario.
    """

    name: str
    recorded: RecordedRun
    recording: Citation
    pools: Mapping[PoolName, str]
    markets: Mapping[PoolName, str]
    offers: Mapping[str, ReplicaOffer]
    runs_on: str
    requests: RequestEvidence | None
    missing_reason: str
    slo: Slo | None
    slo_citation: Citation | None
    cost: SourcedNumber | None
    late: LateRequests | None
    late_reason: str = ""
    cost_by_use: Mapping[str, float] = field(default_factory=dict)
    simulated_pools: Mapping[str, PoolOffer] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()

    @property
    def offer(self) -> ReplicaOffer:
        """The offer that the workload runs on now."""
        return self.offers[self.runs_on]

    @property
    def held(self) -> Floats:
        """Replica equivalents held at each tick; see `held_of`."""
        return held_of(self.recorded, self.markets)

    @property
    def slo_status(self) -> SloStatus:
        """Whether the run met its SLO."""
        return SloStatus.UNKNOWN if self.late is None else self.late.status(self.slo)

    def held_in(self, market: str) -> Floats:
        """Return the replica equivalents held in a market at each tick; 0 if no pool is in it."""
        pools = {name: m for name, m in self.markets.items() if m == market}
        return held_of(self.recorded, pools) if pools else np.zeros(len(self.recorded))

    @property
    def short_share(self) -> float:
        """Share of the known time in which the replicas held were below the policies' demand."""
        missing = self.recorded.columns["demand"] - self.held
        known = np.isfinite(missing)
        over_s = self.recorded.over_s[known]
        return float(over_s[missing[known] > SHORT].sum() / over_s.sum()) if over_s.any() else math.nan

    @property
    def spot_share(self) -> float:
        """Share of the held replica-hours that were on spot."""
        on_spot = self.held_in("spot")
        known = np.isfinite(self.held) & np.isfinite(on_spot)
        over_s = self.recorded.over_s[known]
        total = float((self.held[known] * over_s).sum())
        return float((on_spot[known] * over_s).sum()) / total if total else 0.0

    @property
    def replica_hour(self) -> SourcedNumber | None:
        """Mean cost of a replica-hour over all markets; the offer's price where it is unknown. USD."""
        mean = self.held_curve.mean
        return (
            self.offer.price
            if self.cost is None or not mean
            else SourcedNumber(self.cost.value / mean, self.cost.sources)
        )

    @property
    def held_curve(self) -> LoadDurationCurve:
        return curve(self.held, self.recorded.over_s)

    @property
    def needed_curve(self) -> LoadDurationCurve:
        """Load-duration curve of the policies' demand, over the time with a known size."""
        known = np.isfinite(self.held)
        return curve(np.where(known, self.recorded.columns["demand"], np.nan), self.recorded.over_s)


def held_of(recorded: RecordedRun, markets: Mapping[PoolName, str]) -> Floats:
    """Return the replica equivalents held at each tick over these pools.

    They are NaN where one is not known. They are the requested replicas, and the ready ones in spot pools: spot
    replicas that are not granted cost nothing.
    """
    equivalents = [
        size_of(recorded, name, market) * recorded.spec.pools[name].work_per_replica for name, market in markets.items()
    ]
    return np.asarray(np.sum(equivalents, axis=0), np.float64) if equivalents else np.full(len(recorded), np.nan)


def size_of(recorded: RecordedRun, pool: PoolName, market: str) -> Floats:
    """Return the replicas of a pool held at each tick.

    They are the ready ones in a spot pool, else the requested ones.
    """
    return recorded.pools[pool]["ready" if market == "spot" else "desired"]


def pool_hours(recorded: RecordedRun, pool: PoolName, size: str = "desired") -> float:
    """Return the replica-hours of a pool over the time with a known size."""
    return float(np.nansum(recorded.pools[pool][size] * recorded.over_s)) / HOUR_S


def losses(recorded: RecordedRun, pool: PoolName, recording: Citation) -> SourcedNumber | None:
    """Return the interruption rate of a spot pool, per node and hour; None if it held no node.

    Without an interruption it is the upper bound by `RULE_OF_THREE`, not 0.
    """
    hours = pool_hours(recorded, pool, "ready")
    counts = recorded.pools[pool]["interrupted"]
    counts = counts[np.isfinite(counts)]
    if not hours or not len(counts):
        return None
    interrupted = float(np.maximum(np.diff(counts), 0.0).sum())
    if interrupted:
        return SourcedNumber(
            interrupted / hours,
            (recording, Citation(recording.basis, f"{interrupted:g} interruptions of {pool}'s nodes in {hours:.4g} h")),
        )
    where = f"no interruption of {pool}'s nodes in {hours:.4g} h: below 3 / {hours:.4g} per hour at 95 % confidence"
    return SourcedNumber(RULE_OF_THREE / hours, (recording, Citation(Basis.PRIOR, where)))


def available(recorded: RecordedRun, pool: PoolName, recording: Citation) -> SourcedNumber | None:
    """Return the share of the requested spot replica-hours that were served.

    The result is None if none was requested.
    """
    both = np.isfinite(recorded.pools[pool]["desired"]) & np.isfinite(recorded.pools[pool]["ready"])
    requested, ready = (recorded.pools[pool][size][both] * recorded.over_s[both] for size in ("desired", "ready"))
    if not requested.sum():
        return None
    share = float(np.minimum(requested, ready).sum() / requested.sum())
    return SourcedNumber(
        share,
        (recording, Citation(recording.basis, f"{share:.1%} of the replica-hours requested from {pool} were ready")),
    )


def lead_time_s(recorded: RecordedRun, pool: PoolName, recording: Citation) -> SourcedNumber:
    """Return the 90th percentile of a pool's start times.

    Until there are enough starts, it is the specified lead time.
    """
    starts = lead_times(recorded, pool)
    if len(starts) >= MIN_LEAD_TIMES:
        value = starts.usual_s(0.0)
        return SourcedNumber(value, (recording, Citation(recording.basis, f"P90 of {len(starts)} starts of {pool}")))
    value = recorded.spec.pools[pool].lead_time_s
    return SourcedNumber(
        value, (Citation(Basis.PRIOR, f"lead_time_s of pool {pool}: only {len(starts)} starts recorded"),)
    )
