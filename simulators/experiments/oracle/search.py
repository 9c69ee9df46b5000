"""Search over plans by simulation."""

from __future__ import annotations

from dataclasses import dataclass

from simulators.experiments.oracle.apply_plan import apply_plan
from simulators.experiments.oracle.sizes import Sizes
from simulators.experiments.results import CountedRequests
from simulators.experiments.run import Progress, SimulationRun
from simulators.experiments.scenario import Case
from simulators.world.traffic.trace import RequestTrace


@dataclass(frozen=True, slots=True)
class AppliedPlan:
    """A plan and its simulated run.

    `cost` is in cost units (`simulators.world.infrastructure.units`).
    """

    sizes: Sizes
    run: SimulationRun
    attainment: float
    met: bool
    cost: int


class PlanSearch:
    """Simulates plans and keeps the cheapest that meets the SLO.

    `remaining` simulations are left of the budget.
    """

    def __init__(self, case: Case, seed: int, trace: RequestTrace, simulations: int, progress: Progress) -> None:
        self.case, self.seed, self.trace = case, seed, trace
        self.remaining = self.budget = simulations
        self.simulations_run = 0
        self.best: AppliedPlan | None = None
        self._progress = progress
        self._results: dict[bytes, tuple[bool, float]] = {}

    def is_known(self, sizes: Sizes) -> bool:
        """Return whether the plan has been tried before."""
        return _key(sizes) in self._results

    def meets(self, sizes: Sizes) -> tuple[bool, float]:
        """Return whether a plan meets the SLO, and its attainment. Each plan is simulated once."""
        if not self.is_known(sizes):
            self.try_plan(sizes)
        return self._results[_key(sizes)]

    def try_plan(self, sizes: Sizes) -> AppliedPlan:
        """Simulate a plan, and keep it if it is the best so far."""
        run = apply_plan(self.case, self.seed, self.trace, sizes, self._report)
        self.simulations_run, self.remaining = self.simulations_run + 1, self.remaining - 1
        requests, world = CountedRequests(run), run.world
        attainment = float(requests.met["all"].mean()) if len(requests) else 0.0
        cost = sum(pool.bill(world.now_ps, world.kernel.occupied_ps).total for pool in world.pools.values())
        plan = AppliedPlan(sizes, run, attainment, attainment >= self.case.target.share, cost)
        if plan.met and (self.best is None or cost < self.best.cost):
            self.best = plan
        self._results[_key(sizes)] = plan.met, attainment
        return plan

    def _report(self, share: float) -> None:
        self._progress(min(1.0, (self.simulations_run + share) / self.budget))


def _key(sizes: Sizes) -> bytes:
    return b"".join(size.tobytes() for size in sizes.values())
