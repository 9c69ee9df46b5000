"""Cost of ours to the native autoscaler of each managed platform, in the shipped scenarios, at equal SLO.

Ours runs as shipped. The native autoscaler runs at its documented target, and at the cheapest target of a grid that
meets the SLO under every seed, which nobody knows in advance. Both have the same pools, and the same allocation among
them: a native autoscaler alone has one pool. PTUs have no autoscaler of their own: a fixed number is the rival there.
Traffic and prices are examples, so the ratios are no forecast for an account.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from simulators.experiments.compare import Comparison, compare
from simulators.experiments.contenders.contenders import contenders
from simulators.experiments.scenario import load
from tests.benchmarks.cost.scores import geometric_mean
from tests.benchmarks.figure import Figure

SCENARIOS: Final = Path(__file__).parents[2] / "config" / "scenarios"
SEEDS: Final = (1, 2, 3)
MAX_TO_NATIVE: Final = 0.85
"""Goal: the maximum ratio to the native autoscaler's cost, as the geometric mean over the scenarios."""


def _fixed(ptus: int, target: int) -> str:
    pool = f"pools.ptu.min_replicas={ptus};pools.ptu.max_replicas={ptus}"
    return f"ptu-fixed:{pool};policies.spillover.metrics=[{{quantities: [running, waiting], target: {target}}}]"


@dataclass(frozen=True, slots=True)
class Native:
    """The native autoscaler of a scenario, as texts of `forescale compare`: as documented, and at other targets."""

    scenario: str
    documented: str
    grid: tuple[str, ...]
    judged: bool = True


NATIVES: Final = (
    Native(
        "sagemaker",
        "sagemaker-target-tracking",
        tuple(f"sagemaker-target-tracking:target={n}" for n in (10, 12, 14, 16, 18, 20)),
    ),
    Native(
        "vertex-stockout",
        "vertex-duty-cycle",
        tuple(f"vertex-duty-cycle:target={share}" for share in (0.75, 0.9, 0.95, 0.97)),
    ),
    Native(
        "vertex-stockout",
        "cloud-run-concurrency",
        tuple(f"cloud-run-concurrency:target={n}" for n in (20, 25, 30, 35, 40)),
        judged=False,
    ),
    Native(
        "ptu-spillover",
        "ptu-fixed",
        tuple(_fixed(ptus, target) for ptus in (8, 10, 12) for target in (20, 24, 28)),
    ),
)
"""Cloud Run's autoscaler is not that of a Vertex AI endpoint, so it is not judged there."""


def run(_data: Path) -> Iterator[Figure]:
    ratios = []
    for native in NATIVES:
        comparison = _compared(native)
        ours = comparison.mean_cost_usd(comparison.base)
        name = f"{native.scenario}: cost of ours to {native.documented}"
        yield _figure(f"{name} as documented", comparison, ours, (native.documented,))
        best = _figure(f"{name} at its best target", comparison, ours, (native.documented, *native.grid))
        yield best
        if native.judged:
            ratios.append(best.value)
    yield Figure("managed", "geometric mean at the best targets", geometric_mean(ratios), "", MAX_TO_NATIVE)


def _compared(native: Native) -> Comparison:
    case = load(SCENARIOS / f"{native.scenario}.yaml")
    return compare(contenders(case, [native.documented, *native.grid]), SEEDS, jobs=2)


def _figure(name: str, comparison: Comparison, ours: float, rivals: tuple[str, ...]) -> Figure:
    """Return the ratio to the cheapest of `rivals` that meets the SLO; NaN if one side never meets it."""
    met = {rival: comparison.mean_cost_usd(rival) for rival in rivals if comparison.met(rival)}
    if not met or not comparison.met(comparison.base):
        missed = "ours" if met else "the native autoscaler"
        return Figure("managed", name, float("nan"), "", note=f"{missed} misses the SLO")
    rival = min(met, key=lambda text: met[text])
    return Figure("managed", name, ours / met[rival], "", note=f"${ours:.2f}; {rival} ${met[rival]:.2f}")


if __name__ == "__main__":
    for figure in run(Path()):
        print(figure.line(), flush=True)
    sys.exit(0)
