"""All that a page shows of a run, counted into time bins first: small, plain, and fit to be sent between processes."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any, Final

import numpy as np

from policies.model.spec import Slo
from simulators.engine.models.service import PS_PER_S
from simulators.experiments.results import CountedRequests, ResultSummary, summarize
from simulators.experiments.run import SimulationRun
from simulators.reporting import cost_series
from simulators.reporting.time_bins import Floats, edges, rounded
from simulators.world.infrastructure.events import NodeEventKind
from simulators.world.infrastructure.units import to_s

LEVELS: Final = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
CDF_POINTS: Final = 400
LATENCIES: Final = ("ttft", "itl", "e2e")


@dataclass(frozen=True, slots=True)
class ReplicaSeries:
    """Replicas over time: at each time, as the turn that began then found and decided it."""

    at_s: Floats
    demand: Floats
    desired: Floats
    ready: Floats


@dataclass(frozen=True, slots=True)
class Mark:
    """Something that happened at a time, in words, how often."""

    at_s: float
    what: str
    count: int


@dataclass(frozen=True, slots=True)
class RunData:
    """One run. Requests are binned by when they arrived; bins without any hold NaN.

    `latency_s` has, by latency and quantile, one value a bin; `cdf_s` the times below which equal shares of
    the finished requests stay. `cost_usd` is by use, a value a bin; `paid_usd` by market, a value an edge, added up.
    """

    name: str
    summary: ResultSummary
    slo: Slo
    edges_s: Floats
    rate_rps: Floats
    missed: Floats
    latency_s: Mapping[str, Mapping[str, Floats]]
    cdf_s: Mapping[str, Floats]
    sizes: ReplicaSeries
    marks: tuple[Mark, ...]
    cost_usd: Mapping[str, Floats]
    paid_usd: Mapping[str, Floats]
    made_from: Mapping[str, Any]


def run_data(name: str, run: SimulationRun) -> RunData:
    """Count a run into the series that a page shows."""
    requests, edges_s = CountedRequests(run), edges(run.end_s)
    values = {"ttft": requests.ttft_s, "itl": requests.itl_s, "e2e": requests.e2e_s}
    bins = np.searchsorted(requests.arrival_s, edges_s)
    counts = np.diff(bins)
    met = requests.met["all"] if len(requests) else np.zeros(0, np.bool_)
    kept = np.diff(np.concatenate(([0], np.cumsum(met)))[bins])
    shares = np.divide(counts - kept, counts, out=np.full(len(counts), np.nan), where=counts > 0)
    return RunData(
        name=name,
        summary=summarize(run),
        slo=run.case.scenario.slo,
        edges_s=edges_s,
        rate_rps=rounded(counts / np.diff(edges_s)),
        missed=rounded(shares),
        latency_s={what: _by_bin(values[what], bins) for what in LATENCIES[:2]},
        cdf_s={what: _cdf(found) for what, found in values.items()},
        sizes=_sizes(run, edges_s),
        marks=_marks(run, edges_s),
        cost_usd=cost_series.by_use(run, edges_s),
        paid_usd=cost_series.by_market(run, edges_s),
        made_from=_made_from(run),
    )


def _by_bin(values: Floats, bins: np.ndarray[Any, np.dtype[np.int64]]) -> dict[str, Floats]:
    """Return the quantiles of those requests of each bin for which the latency is told."""
    found = np.full((len(LEVELS), len(bins) - 1), np.nan)
    for k, (first, last) in enumerate(itertools.pairwise(bins)):
        told = values[first:last]
        told = told[np.isfinite(told)]
        if told.size:
            found[:, k] = np.quantile(told, list(LEVELS.values()))
    return {name: rounded(row) for name, row in zip(LEVELS, found, strict=True)}


def _cdf(values: Floats) -> Floats:
    told = values[np.isfinite(values)]
    return rounded(np.quantile(told, np.linspace(0, 1, CDF_POINTS + 1))) if told.size else np.zeros(0)


def _sizes(run: SimulationRun, edges_s: Floats) -> ReplicaSeries:
    """Return each turn; of more turns than bins, in each bin the largest demand and size, and the fewest ready."""
    line = run.timeline
    at_s, demand = np.array(line.at_s, np.float64), np.array(line.demand, np.float64)
    desired, ready = (np.array(v, np.float64) for v in (line.desired, line.ready))
    if len(at_s) > 4 * len(edges_s):
        firsts = np.unique(np.searchsorted(at_s, edges_s[:-1]).clip(max=len(at_s) - 1))
        at_s = at_s[firsts]
        demand, desired = np.fmax.reduceat(demand, firsts), np.fmax.reduceat(desired, firsts)
        ready = np.fmin.reduceat(ready, firsts)
    return ReplicaSeries(rounded(at_s), rounded(demand), desired, ready)


def _marks(run: SimulationRun, edges_s: Floats) -> tuple[Mark, ...]:
    """Return node events and size changes, once a bin and kind."""
    line = run.timeline
    found: dict[tuple[int, str], int] = {}

    def note(at_s: float, what: str) -> None:
        key = (int(np.searchsorted(edges_s, at_s, side="right")) - 1, what)
        found[key] = found.get(key, 0) + 1

    for pool in run.world.pools.values():
        for event in pool.events:
            if event.kind is not NodeEventKind.REBALANCE:
                note(to_s(event.at_ps), event.kind.value)
    for k in range(1, len(line.at_s)):
        before, after = line.desired[k - 1], line.desired[k]
        if before < after or after < before:  # never where one is NaN
            note(line.at_s[k], "scaled up" if after > before else "scaled down")
    return tuple(Mark(float(edges_s[k]), what, count) for (k, what), count in sorted(found.items()))


def _made_from(run: SimulationRun) -> dict[str, Any]:
    scenario = run.case.scenario
    return {
        "scenario": scenario.scenario,
        "begins": datetime.fromtimestamp(scenario.epoch_s, UTC).isoformat(),
        "simulated": f"{run.world.now_ps / PS_PER_S:,.0f} s",
        "seed": run.seed,
        "traffic": f"{run.trace.name}: {len(run.trace):,} requests, SHA-256 {run.trace.digest()}",
        "warm-up": f"requests of the first {scenario.warm_up_s:g} s are not counted",
        "version": f"forescale {version('forescale')}",
        "models": {model.name: model.provenance for model in run.case.models.values()},
        "workload": {**run.case.workload.document},
    }
