"""Cost at equal SLO: ours, every rival and the clairvoyant oracle on the shared traces, all tuned by equal grids.

Takes some hours on two cores; runs are cached in ``build/cost_runs.jsonl`` and not repeated.
``python -m tests.benchmarks.cost_at_slo`` also writes the tables and plots of ``docs/lab/results.md``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.benchmarks.cost import page
from tests.benchmarks.cost.cells import cells
from tests.benchmarks.cost.scores import SHARES, Score, geometric_mean, scores
from tests.benchmarks.cost.tuning import Runs
from tests.benchmarks.figure import Figure

MEMORY: Final = Path("build/cost_runs.jsonl")
MAX_TO_RIVAL: Final = 0.80
"""Goal: at least a fifth less than the best rival."""
MAX_TO_ORACLE: Final = 1.25
"""Goal: the maximum ratio to the oracle's cost."""
MAX_OF_ANY: Final = 1.03
"""Goal: no trace where a rival is cheaper by more than 3 %."""


def run(data: Path) -> Iterator[Figure]:
    if not (data / "requests").is_dir():
        yield Figure("cost_at_slo", "skipped", 0.0, "", note=f"{data} has no requests: it is not shipped")
        return
    scores_ = scores(Runs(data, MEMORY), cells())
    yield from figures(scores_)


def figures(scores_: list[Score]) -> Iterator[Figure]:
    """Yield the ratios to the best rival and to the oracle, over all cells where a contender meets the SLO."""
    yield _narrow_grids(scores_)
    for share in SHARES:
        at_share = [s for s in scores_ if s.share == share]
        rivals = [s.to_rival for s in at_share if s.to_rival is not None]
        alone = sum(s.ours is not None and s.best is None for s in at_share)
        note = f"{len(rivals)} traces and start-ups; {alone} more where only ours meets the SLO"
        goal = MAX_TO_RIVAL if share == 0.99 else None
        yield Figure(
            "cost_at_slo", f"cost of ours to the best rival at {share:.1%}", geometric_mean(rivals), "", goal, note=note
        )
        if share == 0.99:
            yield Figure("cost_at_slo", "largest of these ratios", max(rivals), "", MAX_OF_ANY)
            fixed = [s.to_fixed for s in at_share if s.to_fixed is not None]
            yield Figure(
                "cost_at_slo", "cost of ours to the best fixed size, known in hindsight", geometric_mean(fixed), ""
            )
            oracle = [s.to_oracle for s in at_share if s.to_oracle is not None]
            yield Figure("cost_at_slo", "cost of ours to the oracle at 99%", geometric_mean(oracle), "", MAX_TO_ORACLE)


def _narrow_grids(scores_: list[Score]) -> Figure:
    """Return the number of grids whose best member is at an edge, with their names."""
    edges = [f"{s.cell.label}, {s.share:.1%}: {', '.join(s.edges)}" for s in scores_ if s.edges]
    count = float(sum(len(s.edges) for s in scores_))
    return Figure("cost_at_slo", "grids whose best member is at an edge", count, "", 0.0, note="; ".join(edges))


def main() -> int:
    data = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
    scores_ = scores(Runs(data, MEMORY), cells())
    for figure in figures(scores_):
        print(figure.line())
    page.write(scores_, Path("docs"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
