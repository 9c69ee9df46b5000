"""Scores of a cell: the cost of ours, every rival and the oracle at an SLO attainment."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Final

import numpy as np

from simulators.engine.models.worth import saturation_rates
from simulators.experiments.oracle.lower_bound import work_s
from simulators.experiments.run import traffic_of
from simulators.experiments.scenario import Case
from tests.benchmarks.cost.cells import Cell
from tests.benchmarks.cost.families import OURS, Family, families
from tests.benchmarks.cost.tuning import ORACLE, SEED, Job, Outcome, Runs, cost_at, curve, tuned

SHARES: Final = (0.95, 0.99, 0.999)
MAIN: Final = 0.99
SAME_COST: Final = 0.01
"""Costs that differ by less are equal."""
FIXED: Final = "static"
NOT_RIVALS: Final = frozenset({OURS, FIXED})
"""The contenders that are not rivals: ours, and a fixed size, which is known only in hindsight."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A contender's members on the last two thirds of a trace, with the setting chosen on the first third.

    `chosen` is the outcome of the member chosen on the first third: the result of tuning in practice.
    """

    family: str
    setting: str
    points: tuple[Outcome, ...]
    chosen: Outcome

    def edge(self, share: float, maximum: int) -> str:
        """Return the edge of the grid at which a further step could be better, empty if there is none.

        ``cheap``: the last step still meets the SLO, and is over 1 % cheaper than the one before. Otherwise the size
        has reached its minimum, and a further step changes nothing. ``expensive``: no step meets the SLO, the first
        has fewer late requests than the second, and the size has not reached its `maximum`.
        """
        first, second, *_ = self.points
        *_, before, last = self.points
        if last["attainment"] >= share:
            return "cheap" if last["cost_usd"] < (1.0 - SAME_COST) * before["cost_usd"] else ""
        if any(p["attainment"] >= share for p in self.points) or first["replicas_max"] >= maximum:
            return ""
        return "expensive" if first["attainment"] > second["attainment"] else ""


@dataclass(frozen=True, slots=True)
class Score:
    """A cell at one share. Costs are USD on the rest of the trace; None where no member reaches the share.

    Contenders in `not_rivals` are not compared as rivals.
    """

    cell: Cell
    share: float
    costs: Mapping[str, float | None]
    oracle: Outcome
    curves: Mapping[str, Curve]
    not_rivals: Set[str] = NOT_RIVALS
    untuned: Outcome | None = None
    """Our untuned workload."""

    @property
    def ours(self) -> float | None:
        return self.costs[OURS]

    @property
    def best(self) -> tuple[str, float] | None:
        """Return the cheapest rival and its cost."""
        known = [(cost, name) for name, cost in self.costs.items() if cost is not None and name not in self.not_rivals]
        cost, name = min(known, default=(0.0, ""))
        return (name, cost) if known else None

    @property
    def to_rival(self) -> float | None:
        return self.ours / self.best[1] if self.ours is not None and self.best is not None else None

    @property
    def to_fixed(self) -> float | None:
        fixed = self.costs[FIXED]
        return self.ours / fixed if self.ours is not None and fixed is not None else None

    @property
    def edges(self) -> list[str]:
        """Return the contenders whose grid is too narrow, each with its edge."""
        found = {name: curve.edge(self.share, self.cell.source.maximum) for name, curve in self.curves.items()}
        return [f"{name} ({edge})" for name, edge in found.items() if edge]

    @property
    def to_oracle(self) -> float | None:
        cost = self.oracle.get("cost_usd", math.nan)
        return self.ours / cost if self.ours is not None and math.isfinite(cost) and self.share == MAIN else None


def geometric_mean(ratios: Iterable[float]) -> float:
    results = list(ratios)
    return math.exp(sum(map(math.log, results)) / len(results)) if results else math.nan


def scores(
    runs: Runs,
    cells: Sequence[Cell],
    families_of: Callable[[Runs, Cell], list[Family]] | None = None,
    not_rivals: Set[str] = NOT_RIVALS,
) -> list[Score]:
    """Return every cell at every share, of `families_of` or all `contenders`; print progress to standard error."""
    results: list[Score] = []
    for number, cell in enumerate(cells, 1):
        members = (families_of or contenders)(runs, cell)
        curves = {family.name: _curve(runs, cell, family) for family in members}
        oracle, untuned = runs.get([Job(cell, "test", contender, MAIN) for contender in (ORACLE, "self")])
        (ours,) = (family for family in members if family.name == OURS)
        for share in SHARES:
            known = curves if share == MAIN else {**curves, OURS: _curve(runs, cell, ours, share)}
            costs = {name: _known_cost(cost_at(c.points, share)) for name, c in known.items()}
            results.append(Score(cell, share, costs, oracle, known, not_rivals, untuned))
        print(f"{number} of {len(cells)}: {cell.label}", file=sys.stderr, flush=True)
    return results


def contenders(runs: Runs, cell: Cell) -> list[Family]:
    """Return all families, with rates that fit the engines and the requests of the first third."""
    case = cell.case(runs.data, "train")
    (model,) = case.models.values()
    rps = 1.0 / float(work_s(model, traffic_of(case, SEED)).mean())
    prompt_rate = saturation_rates(model).prompt_tokens_per_s
    source = cell.source
    return list(families(rps, busiest_minute(case), source.in_work, prompt_rate, source.maximum).values())


def busiest_minute(case: Case) -> float:
    """Return the load of the busiest minute, in saturated engines."""
    (model,) = case.models.values()
    trace = traffic_of(case, SEED)
    return float((np.bincount((trace.arrival_s / 60.0).astype(np.int64), work_s(model, trace)) / 60.0).max())


def _curve(runs: Runs, cell: Cell, family: Family, share: float = MAIN) -> Curve:
    """Return the curve of a family tuned at 99 %, simulated with `share` as its SLO target."""
    step, setting = tuned(runs, cell, family, MAIN)
    points = curve(runs, cell, family, setting, share)
    return Curve(family.name, family.settings[setting], tuple(points), points[list(family.steps).index(step)])


def _known_cost(cost: float) -> float | None:
    return None if math.isnan(cost) else cost
