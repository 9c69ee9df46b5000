"""What each idea of the predictive policy earns: it is switched off, and the same promise costs so much more.

Cost at 99 % of requests in time, by the knob `utilization`, on the rest of `cost_at_slo`'s traces. Each ratio is to
the policy as it is, on the geometric mean over the traces where both keep the promise.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from tests.benchmarks.cost.cells import Cell
from tests.benchmarks.cost.families import OUR_OTHERS, Family
from tests.benchmarks.cost.scores import geometric_mean
from tests.benchmarks.cost.tuning import Job, Runs, cost_at
from tests.benchmarks.figure import Figure

CELLS: Final = (
    Cell("azure-conv", 90),
    Cell("azure-conv", 300),
    Cell("azure-code", 90),
    Cell("servegen-mid", 90),
)
"""One of each kind: smooth, with a slow start, bursts, shifts of level."""
WITHOUT: Final[Mapping[str, str]] = {
    "the forecast": "foresee=false",
    "learning what a replica carries": "learn=false",
    "bursts told by the TTFT": "bursts=false",
    "holding what collapses": "hold_s=0",
    "pricing a backlog": "lateness_ratio=0.001",
    "the supervisor": "supervise=false",
}
"""Each idea, and what switches it off."""
STEPS: Final = (0.6, 0.75, 0.9, 1.1, 1.35)
SHARE: Final = 0.99


def run(data: Path) -> Iterator[Figure]:
    if not (data / "requests").is_dir():
        yield Figure("ablation", "skipped", 0.0, "", note=f"{data} has no requests: it is not shipped")
        return
    runs = Runs(data, Path("build/ablation_runs.jsonl"))
    whole = _costs(runs, "")
    yield Figure("ablation", "as it is: traces kept", sum(c is not None for c in whole), "", note=f"of {len(CELLS)}")
    for idea, setting in WITHOUT.items():
        costs = _costs(runs, setting)
        ratios = [c / w for c, w in zip(costs, whole, strict=True) if c is not None and w is not None]
        lost = sum(c is None and w is not None for c, w in zip(costs, whole, strict=True))
        note = f"{len(ratios)} traces: {', '.join(f'{r:.2f}' for r in ratios)}" + (f"; {lost} not kept" if lost else "")
        yield Figure("ablation", f"without {idea}", geometric_mean(ratios), "x", note=note)


def _costs(runs: Runs, setting: str) -> list[float | None]:
    """What the promise costs in each cell, by the better of the two others; None where it is not kept."""
    family = Family("ours", "self", "utilization", STEPS, OUR_OTHERS)
    found: list[float | None] = []
    for cell in CELLS:
        costs = []
        for other in range(len(OUR_OTHERS)):
            words = [f"{family.word(step, other)};{setting}".rstrip(";") for step in STEPS]
            costs.append(cost_at(runs.get([Job(cell, "test", word, SHARE) for word in words]), SHARE))
        kept = [cost for cost in costs if cost == cost]  # noqa: PLR0124 - NaN where it is not kept
        found.append(min(kept, default=None))
    return found
