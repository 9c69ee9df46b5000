"""Plans tried in the world, and the best of them."""

from __future__ import annotations

from dataclasses import dataclass

from simulators.experiments.oracle.apply_plan import drive
from simulators.experiments.oracle.sizes import Sizes
from simulators.experiments.results import CountedRequests
from simulators.experiments.run import Progress, SimulationRun
from simulators.experiments.scenario import Case
from simulators.world.traffic.trace import RequestTrace


@dataclass(frozen=True, slots=True)
class CarriedOutPlan:
    """A plan that has been carried out. `cost` is in cost units (`simulators.world.infrastructure.units`)."""

    sizes: Sizes
    run: SimulationRun
    attainment: float
    met: bool
    cost: int


class PlanSearch:
    """Carries plans out, and keeps the cheapest one that meets the promise. `left` simulations may still be made."""

    def __init__(self, case: Case, seed: int, trace: RequestTrace, simulations: int, progress: Progress) -> None:
        self.case, self.seed, self.trace = case, seed, trace
        self.left = self.allowed = simulations
        self.spent = 0
        self.best: CarriedOutPlan | None = None
        self._progress = progress
        self._told: dict[bytes, tuple[bool, float]] = {}

    def known(self, sizes: Sizes) -> bool:
        """Whether the plan has been tried before."""
        return _key(sizes) in self._told

    def meets(self, sizes: Sizes) -> tuple[bool, float]:
        """Whether a plan meets the promise, and for what share of the requests; each plan is tried once."""
        if not self.known(sizes):
            self.tried(sizes)
        return self._told[_key(sizes)]

    def tried(self, sizes: Sizes) -> CarriedOutPlan:
        """Carry out a plan, and keep it if it is the best so far."""
        run = drive(self.case, self.seed, self.trace, sizes, self._report)
        self.spent, self.left = self.spent + 1, self.left - 1
        requests, world = CountedRequests(run), run.world
        attainment = float(requests.met["all"].mean()) if len(requests) else 0.0
        cost = sum(pool.bill(world.now_ps, world.kernel.occupied_ps).total for pool in world.pools.values())
        found = CarriedOutPlan(sizes, run, attainment, attainment >= self.case.scenario.slo.share, cost)
        if found.met and (self.best is None or cost < self.best.cost):
            self.best = found
        self._told[_key(sizes)] = found.met, attainment
        return found

    def _report(self, share: float) -> None:
        self._progress(min(1.0, (self.spent + share) / self.allowed))


def _key(sizes: Sizes) -> bytes:
    return b"".join(size.tobytes() for size in sizes.values())
