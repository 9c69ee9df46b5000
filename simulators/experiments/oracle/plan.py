"""The clairvoyant oracle: the least cost that keeps the scenario's promise, by somebody who knows what is to come."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from simulators.experiments.oracle.improve import remove, trim
from simulators.experiments.oracle.lower_bound import bound_usd
from simulators.experiments.oracle.search import PlanSearch
from simulators.experiments.oracle.sizes import Supply, needed, static, supplies
from simulators.experiments.results import usd
from simulators.experiments.run import Progress, SimulationRun, ends_s
from simulators.experiments.scenario import Case
from simulators.world.traffic.trace import RequestTrace

SIMULATIONS: Final = 20
"""A day of one engine's requests takes some seconds: a minute for the whole plan."""
BISECTIONS: Final = 7
"""Halvings of a range of 16 on a logarithmic scale: the utilization comes out to 2 %."""
RANGE: Final = 4.0
"""How far from the smallest fixed size's own utilization at the peak the best one is looked for, either way."""
FILLED: Final = 0.7
"""Where the search for the smallest fixed size begins: the share of a replica's time at saturation used at the peak."""


class SloUnreachable(Exception):
    """No size meets the promise: the promise, the sizes allowed, or the traffic must change."""


@dataclass(frozen=True, slots=True)
class Oracle:
    """What the oracle found. `bound_usd` is what the promise costs at the very least, whoever keeps it and however."""

    run: SimulationRun
    cost_usd: float
    attainment: float
    bound_usd: float
    static_replicas: int
    utilization: float | None
    simulations: int


def plan(
    case: Case, seed: int, trace: RequestTrace, progress: Progress = lambda _: None, *, simulations: int = SIMULATIONS
) -> Oracle:
    """Return the cheapest run found that meets the scenario's SLO, within a number of simulations.

    The smallest fixed size is found however many simulations that takes.

    The workload's sources and policies have no part in it, only how far its pools may grow. Raises `SloUnreachable`.
    """
    end_s = ends_s(case, trace)
    pools = supplies(case, seed, trace, end_s)
    search = PlanSearch(case, seed, trace, simulations, progress)
    replicas = _smallest_fixed(search, pools)
    utilization = _best_utilization(search, pools, replicas)
    trim(search, pools)
    remove(search, pools)
    best = search.best
    assert best is not None, "the smallest fixed size has met the promise"  # noqa: S101 - an invariant
    return Oracle(
        run=best.run,
        cost_usd=usd(best.cost),
        attainment=best.attainment,
        bound_usd=bound_usd(case, seed, trace, end_s),
        static_replicas=replicas,
        utilization=utilization,
        simulations=search.spent,
    )


def _smallest_fixed(search: PlanSearch, pools: list[Supply]) -> int:
    """Return the smallest number of replicas that meets the promise if it never changes: bracketed, then halved."""
    allowed = search.case.workload.spec.max_replicas
    most = min(allowed, max(1, int(np.sum([pool.limit for pool in pools], axis=0).max())))
    peak = min(float(pool.load.max()) for pool in pools)
    low, high = 0, min(most, max(1, round(peak / FILLED)))
    while True:
        met, attainment = search.meets(static(pools, high))
        if met:
            break
        if high == most:
            scenario = search.case.scenario
            raise SloUnreachable(
                f"{scenario.scenario}: no size meets the promise: {most} replicas from beginning to end, the most that"
                f" may be had, keep it for {attainment:.2%} of requests, {scenario.slo.share:.2%} promised: allow more"
                " replicas, begin with more, or promise less"
            )
        low, high = high, min(most, 2 * high)
    while high - low > 1:
        middle = (low + high) // 2
        if search.meets(static(pools, middle))[0]:
            high = middle
        else:
            low = middle
    return high


def _best_utilization(search: PlanSearch, pools: list[Supply], replicas: int) -> float | None:
    """The highest utilization whose plan meets the promise, by halving on a logarithmic scale; None if none was found.

    At the lower end of the range the plan is nearly the fixed size, which meets it.
    """
    peak = min(float(pool.load.max()) for pool in pools) / replicas
    low, high, found = peak / RANGE, peak * RANGE, None
    for _ in range(BISECTIONS):
        if search.left <= 0:
            break
        middle = float(np.round(np.sqrt(low * high), 6))
        if search.meets(needed(pools, middle, replicas))[0]:
            low = found = middle
        else:
            high = middle
    return found
