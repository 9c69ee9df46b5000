"""The clairvoyant oracle: a cheap plan that meets the scenario's SLO.

It knows all requests in advance.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from simulators.experiments.oracle.improve import remove, trim
from simulators.experiments.oracle.lower_bound import bound_usd
from simulators.experiments.oracle.search import PlanSearch
from simulators.experiments.oracle.sizes import Supply, fixed_sizes, sizes_at_utilization, supplies
from simulators.experiments.results import usd
from simulators.experiments.run import Progress, SimulationRun, run_end_s
from simulators.experiments.scenario import Case
from simulators.world.traffic.trace import RequestTrace

SIMULATIONS: Final = 20
"""The default number of simulations. One simulates a day of one engine in seconds, so a plan takes about a minute."""
BISECTIONS: Final = 7
"""Halvings of a range of 16 on a logarithmic scale: 16 ** (1 / 2**7) = 1.022, a precision of 2 %."""
SEARCH_RANGE: Final = 4.0
"""The search for the best utilization goes from 1/4 to 4 times the peak utilization of the smallest fixed size."""
START_UTILIZATION: Final = 0.7
"""The peak utilization at which the search for the smallest fixed size starts: a peak of 7 replicas starts at 10."""


class SloUnreachable(Exception):
    """No allowed size meets the SLO: the SLO, the allowed sizes or the traffic must change."""


@dataclass(frozen=True, slots=True)
class Oracle:
    """The oracle's run and figures.

    `bound_usd` is a lower bound of the cost of any policy that meets the SLO.
    """

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
    """Return the cheapest run that meets the scenario's SLO within a number of simulations.

    The search for the smallest fixed size is not limited. Of the workload only the pools' limits are used, not its
    sources and policies. Raises `SloUnreachable`.
    """
    end_s = run_end_s(case, trace)
    pools = supplies(case, seed, trace, end_s)
    search = PlanSearch(case, seed, trace, simulations, progress)
    replicas = _smallest_fixed(search, pools)
    utilization = _best_utilization(search, pools, replicas)
    trim(search, pools)
    remove(search, pools)
    best = search.best
    assert best is not None, "the smallest fixed size has met the SLO"  # noqa: S101 - an invariant
    return Oracle(
        run=best.run,
        cost_usd=usd(best.cost),
        attainment=best.attainment,
        bound_usd=bound_usd(case, seed, trace, end_s),
        static_replicas=replicas,
        utilization=utilization,
        simulations=search.simulations_run,
    )


def _smallest_fixed(search: PlanSearch, pools: list[Supply]) -> int:
    """Return the smallest fixed number of replicas that meets the SLO.

    The search doubles the number and then bisects. From 3 replicas, 3 and 6 fail and 12 meets it: 9, 7 and 8 are tried
    next.
    """
    allowed = search.case.workload.spec.max_replicas
    limit = min(allowed, max(1, int(np.sum([pool.limit for pool in pools], axis=0).max())))
    peak = min(float(pool.load.max()) for pool in pools)
    low, high = 0, min(limit, max(1, round(peak / START_UTILIZATION)))
    while True:
        met, attainment = search.meets(fixed_sizes(pools, high))
        if met:
            break
        if high == limit:
            scenario = search.case.scenario
            raise SloUnreachable(
                f"{scenario.scenario}: no fixed size meets the SLO: with {limit} replicas, the maximum,"
                f" {attainment:.2%} of the requests meet it; the target is {search.case.target.share:.2%}. Allow more"
                " replicas, start with more, or relax the SLO"
            )
        low, high = high, min(limit, 2 * high)
    while high - low > 1:
        middle = (low + high) // 2
        if search.meets(fixed_sizes(pools, middle))[0]:
            high = middle
        else:
            low = middle
    return high


def _best_utilization(search: PlanSearch, pools: list[Supply], replicas: int) -> float | None:
    """Return the highest utilization whose plan meets the SLO; None if none does.

    The search is a logarithmic bisection. At the lower end of the range the plan is nearly the fixed size, which meets
    the SLO.
    """
    peak = min(float(pool.load.max()) for pool in pools) / replicas
    low, high, best = peak / SEARCH_RANGE, peak * SEARCH_RANGE, None
    for _ in range(BISECTIONS):
        if search.remaining <= 0:
            break
        middle = float(np.round(np.sqrt(low * high), 6))
        if search.meets(sizes_at_utilization(pools, middle, replicas))[0]:
            low = best = middle
        else:
            high = middle
    return best
