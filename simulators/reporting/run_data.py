"""Page data of a run, counted into time bins: small enough to be sent between processes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

import numpy as np

from simulators.engine.models.service import PS_PER_S
from simulators.experiments.results import CountedRequests, ResultSummary, summarize
from simulators.experiments.run import SimulationRun
from simulators.reporting import cost_series
from simulators.reporting.time_bins import Floats, edges, rounded
from simulators.world.infrastructure.events import NodeEventKind
from simulators.world.infrastructure.units import to_s

QUANTILES: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
CDF_POINTS: Final = 400
LATENCIES: Final = ("ttft", "itl", "e2e")


@dataclass(frozen=True, slots=True)
class ReplicaSeries:
    """Replicas over time, as each tick observed and decided them."""

    at_s: Floats
    demand: Floats
    desired: Floats
    ready: Floats


@dataclass(frozen=True, slots=True)
class Mark:
    """Events of one kind in one bin, and their count."""

    at_s: float
    kind: str
    count: int


@dataclass(frozen=True, slots=True)
class RunData:
    """The page data of one run. Requests are binned by arrival; a bin without requests has NaN.

    `latency_s` has one value for each bin by latency and quantile; `cdf_s` the quantiles at equal steps from 0 to 1.
    `cost_usd` has one value for each bin by use, `paid_usd` the cumulative cost at each edge by market.
    """

    name: str
    summary: ResultSummary
    edges_s: Floats
    rate_rps: Floats
    missed: Floats
    latency_s: Mapping[str, Mapping[str, Floats]]
    cdf_s: Mapping[str, Floats]
    sizes: ReplicaSeries
    marks: tuple[Mark, ...]
    cost_usd: Mapping[str, Floats]
    paid_usd: Mapping[str, Floats]
    origin: Mapping[str, Any]


def run_data(name: str, run: SimulationRun) -> RunData:
    """Return the page data of a run."""
    requests, edges_s = CountedRequests(run), edges(run.end_s)
    values = {"ttft": requests.ttft_s, "itl": requests.itl_s, "e2e": requests.e2e_s}
    bins = np.searchsorted(requests.arrival_s, edges_s)
    counts = np.diff(bins)
    missed = np.full(len(counts), np.nan)
    if requests.slo is not None:
        met_counts = np.diff(np.concatenate(([0], np.cumsum(requests.met["all"])))[bins])
        np.divide(counts - met_counts, counts, out=missed, where=counts > 0)
    summary = summarize(run)
    priced = not math.isnan(summary.cost_usd)
    return RunData(
        name=name,
        summary=summary,
        edges_s=edges_s,
        rate_rps=rounded(counts / np.diff(edges_s)),
        missed=rounded(missed),
        latency_s={kind: _by_bin(values[kind], bins) for kind in LATENCIES[:2]},
        cdf_s={kind: _cdf(latencies) for kind, latencies in values.items()},
        sizes=_replica_series(run, edges_s),
        marks=_marks(run, edges_s),
        cost_usd=cost_series.by_use(run, edges_s) if priced else {},
        paid_usd=cost_series.by_market(run, edges_s) if priced else {},
        origin=_origin(run),
    )


def _by_bin(values: Floats, bins: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, Floats]:
    """Return the quantiles of each bin's requests that have the latency."""
    quantiles = np.full((len(QUANTILES), len(bins) - 1), np.nan)
    for k, (start, end) in enumerate(itertools.pairwise(bins)):
        known = values[start:end]
        known = known[np.isfinite(known)]
        if known.size:
            quantiles[:, k] = np.quantile(known, list(QUANTILES.values()))
    return {name: rounded(row) for name, row in zip(QUANTILES, quantiles, strict=True)}


def _cdf(values: Floats) -> Floats:
    known = values[np.isfinite(values)]
    return rounded(np.quantile(known, np.linspace(0, 1, CDF_POINTS + 1))) if known.size else np.zeros(0)


def _replica_series(run: SimulationRun, edges_s: Floats) -> ReplicaSeries:
    """Return the ticks' sizes.

    With many ticks, each bin has the largest demand and size and the fewest ready.
    """
    timeline = run.timeline
    times_s, demand = np.array(timeline.at_s, np.float64), np.array(timeline.demand, np.float64)
    desired, ready = (np.array(v, np.float64) for v in (timeline.desired, timeline.ready))
    if len(times_s) > 4 * len(edges_s):
        starts = np.unique(np.searchsorted(times_s, edges_s[:-1]).clip(max=len(times_s) - 1))
        times_s = times_s[starts]
        demand, desired = np.fmax.reduceat(demand, starts), np.fmax.reduceat(desired, starts)
        ready = np.fmin.reduceat(ready, starts)
    return ReplicaSeries(rounded(times_s), rounded(demand), desired, ready)


def _marks(run: SimulationRun, edges_s: Floats) -> tuple[Mark, ...]:
    """Return node events and size changes, counted by bin and kind."""
    timeline = run.timeline
    counts: dict[tuple[int, str], int] = {}

    def add(time_s: float, kind: str) -> None:
        key = (int(np.searchsorted(edges_s, time_s, side="right")) - 1, kind)
        counts[key] = counts.get(key, 0) + 1

    for pool in run.world.pools.values():
        for event in pool.events:
            if event.kind is not NodeEventKind.REBALANCE:
                add(to_s(event.at_ps), event.kind.value)
    for k in range(1, len(timeline.at_s)):
        before, after = timeline.desired[k - 1], timeline.desired[k]
        if before < after or after < before:  # never where one is NaN
            add(timeline.at_s[k], "scaled out" if after > before else "scaled in")
    return tuple(Mark(float(edges_s[k]), kind, count) for (k, kind), count in sorted(counts.items()))


def _origin(run: SimulationRun) -> dict[str, Any]:
    scenario = run.case.scenario
    return {
        "scenario": scenario.scenario,
        "start": datetime.fromtimestamp(scenario.epoch_s, UTC).isoformat(),
        "simulated time": f"{run.world.now_ps / PS_PER_S:,.0f} s",
        "seed": run.seed,
        "traffic": f"{run.trace.name}: {len(run.trace):,} requests, SHA-256 {run.trace.digest()}",
        "warm-up": f"requests of the first {scenario.warm_up_s:g} s are not counted",
        "version": f"forescale {version('forescale')}",
        "models": {model.name: model.provenance for model in run.case.models.values()},
        "workload": {**run.case.workload.document},
    }
