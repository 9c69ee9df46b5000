"""What advice is given on: the turns of a workload, its requests, and what it could run on."""

from __future__ import annotations

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
from simulators.cost.offers import Buyable
from simulators.reporting.time_bins import Floats
from simulators.world.infrastructure.market import PoolOffer
from simulators.world.traffic.trace import RequestTrace

HOUR_S = 3600.0
SURE = 3.0
"""Without a loss in so many node-hours over the rate, the rate is lower with 95 % confidence (the rule of three)."""


@dataclass(frozen=True, slots=True)
class RequestEvidence:
    """The requests that came, over how long, and how that is known."""

    trace: RequestTrace
    span_s: float
    sources: tuple[Citation, ...]

    @property
    def rate_rps(self) -> float:
        return len(self.trace) / self.span_s


@dataclass(frozen=True, slots=True, eq=False)
class WorkloadEvidence:
    """One workload as it was run, live or simulated.

    `pools` names the offer of each pool that serves, `markets` its market, `runs_on` the offer that is held most.
    `requests` is None where they cannot be told, with `unknown` saying why. `cost` is what was paid, USD per hour in
    the mean; `uses` what of it was for what, where a simulated bill tells. `worlds` are the simulated pools.
    """

    name: str
    recorded: RecordedRun
    turns: Citation
    pools: Mapping[PoolName, str]
    markets: Mapping[PoolName, str]
    offers: Mapping[str, Buyable]
    runs_on: str
    requests: RequestEvidence | None
    unknown: str
    slo: Slo | None
    promise: Citation | None
    cost: SourcedNumber | None
    uses: Mapping[str, float] = field(default_factory=dict)
    worlds: Mapping[str, PoolOffer] = field(default_factory=dict)
    cautions: tuple[str, ...] = ()

    @property
    def offer(self) -> Buyable:
        """What it runs on now."""
        return self.offers[self.runs_on]

    @property
    def held(self) -> Floats:
        """Replicas' worth held at each turn; see `held_of`."""
        return held_of(self.recorded, self.markets)

    @property
    def spot_share(self) -> float:
        """The share of the replica-hours held that were on spot."""
        on_spot = held_of(self.recorded, {n: m for n, m in self.markets.items() if m == "spot"})
        known = np.isfinite(self.held) & np.isfinite(on_spot)
        over_s = self.recorded.over_s[known]
        total = float((self.held[known] * over_s).sum())
        return float((on_spot[known] * over_s).sum()) / total if total else 0.0

    @property
    def replica_hour(self) -> SourcedNumber | None:
        """What an hour of a replica cost as it was bought, over all markets; its price where that is not known. USD."""
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
        """What the policies found needed."""
        return curve(self.recorded.columns["demand"], self.recorded.over_s)


def held_of(recorded: RecordedRun, markets: Mapping[PoolName, str]) -> Floats:
    """Return the replica equivalents held at each tick over these pools; NaN where one is not known.

    They are the requested ones, and of spot the ready ones: spot replicas that are not granted are not paid.
    """
    worth = [
        recorded.pools[name]["ready" if market == "spot" else "desired"] * recorded.spec.pools[name].work_per_replica
        for name, market in markets.items()
    ]
    return np.asarray(np.sum(worth, axis=0), np.float64) if worth else np.full(len(recorded), np.nan)


def pool_hours(recorded: RecordedRun, pool: PoolName, size: str = "desired") -> float:
    """Replica-hours of a pool, where they are known."""
    return float(np.nansum(recorded.pools[pool][size] * recorded.over_s)) / HOUR_S


def losses(recorded: RecordedRun, pool: PoolName, turns: Citation) -> SourcedNumber | None:
    """How often a spot node was taken, per node and hour; None where it was never held.

    Where none was taken it is not zero: it is what 95 % confidence leaves.
    """
    hours = pool_hours(recorded, pool, "ready")
    counts = recorded.pools[pool]["interrupted"]
    counts = counts[np.isfinite(counts)]
    if not hours or not len(counts):
        return None
    taken = float(np.maximum(np.diff(counts), 0.0).sum())
    if taken:
        return SourcedNumber(
            taken / hours, (turns, Citation(turns.basis, f"{taken:g} of {pool}'s nodes taken in {hours:.4g} h"))
        )
    where = f"none of {pool}'s nodes taken in {hours:.4g} h: the rate is below 3 / {hours:.4g} with 95 % confidence"
    return SourcedNumber(SURE / hours, (turns, Citation(Basis.PRIOR, where)))


def available(recorded: RecordedRun, pool: PoolName, turns: Citation) -> SourcedNumber | None:
    """Of the spot replicas asked for, which share served; None where none was asked for."""
    both = np.isfinite(recorded.pools[pool]["desired"]) & np.isfinite(recorded.pools[pool]["ready"])
    asked, ready = (recorded.pools[pool][size][both] * recorded.over_s[both] for size in ("desired", "ready"))
    if not asked.sum():
        return None
    share = float(np.minimum(asked, ready).sum() / asked.sum())
    return SourcedNumber(share, (turns, Citation(turns.basis, f"{share:.1%} of the hours asked of {pool} were served")))


def lead_time_s(recorded: RecordedRun, pool: PoolName, turns: Citation) -> SourcedNumber:
    """Return the 90th percentile of a pool's starts; what its specification says until enough were seen."""
    seen = lead_times(recorded, pool)
    if len(seen) >= MIN_LEAD_TIMES:
        value = seen.usual_s(0.0)
        return SourcedNumber(value, (turns, Citation(turns.basis, f"p90 of {len(seen)} starts of {pool}")))
    value = recorded.spec.pools[pool].lead_time_s
    return SourcedNumber(value, (Citation(Basis.PRIOR, f"lead_time_s of pool {pool}: {len(seen)} starts were seen"),))
