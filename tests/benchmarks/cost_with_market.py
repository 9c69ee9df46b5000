"""Cost at equal SLO where spot exists: ours over pools by zone and market; rivals on demand, and on spot with fallback.

Takes half an hour on two free cores; runs are cached in ``build/market_runs.jsonl`` and not repeated.
``python -m tests.benchmarks.cost_with_market [DATA [TRACE ...]]`` also writes the tables and plot of
``docs/lab/results.md``, for the named traces or for all.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from tests.benchmarks.cost import market_runs, page
from tests.benchmarks.cost.families import OURS
from tests.benchmarks.cost.market import cells
from tests.benchmarks.cost.market_runs import BEST, NOT_RIVALS, OURS_DRAINED, RIVALS, families
from tests.benchmarks.cost.scores import MAIN, Score, geometric_mean, scores
from tests.benchmarks.cost.tuning import Runs
from tests.benchmarks.cost_at_slo import MAX_OF_ANY, MAX_TO_RIVAL
from tests.benchmarks.figure import Figure

NAME: Final = "cost_with_market"
MEMORY: Final = Path("build/market_runs.jsonl")


def run(data: Path) -> Iterator[Figure]:
    if not (data / "requests").is_dir() or not (data / "spot").is_dir():
        yield Figure(NAME, "skipped", 0.0, "", note=f"{data} has no requests or no spot capacity: it is not shipped")
        return
    yield from figures(run_scores(data))


def run_scores(data: Path, traces: Sequence[str] = ()) -> list[Score]:
    chosen = [cell for cell in cells() if not traces or cell.name in traces]
    return scores(Runs(data, MEMORY, run_job=market_runs.run), chosen, families, NOT_RIVALS)


def figures(scores_: list[Score]) -> Iterator[Figure]:
    """Yield the ratios over all cells where both sides meet the SLO, at our target share."""
    at_main_share = [s for s in scores_ if s.share == MAIN]
    rivals = [s.to_rival for s in at_main_share if s.to_rival is not None]
    missed = sum(s.ours is None for s in at_main_share)
    note = f"{len(rivals)} of {len(at_main_share)} traces, start-ups and markets; ours misses the SLO in {missed}"
    yield Figure(
        NAME, f"cost of ours to the best rival at {MAIN:.1%}", geometric_mean(rivals), "", MAX_TO_RIVAL, note=note
    )
    yield Figure(NAME, "largest of these ratios", max(rivals, default=math.nan), "", MAX_OF_ANY)
    yield Figure(NAME, "cost of ours to the best rival on demand only", _mean(at_main_share, OURS, RIVALS), "")
    forewarned = [f"{name}, forewarned" for name in BEST]
    yield Figure(
        NAME, "cost of ours to the best rival with added notice handling", _mean(at_main_share, OURS, forewarned), ""
    )
    drained = [name for name in at_main_share[0].costs if name.endswith(", spot")]
    yield Figure(
        NAME,
        "cost of ours to the best rival on spot, all drained at the notice",
        _mean(at_main_share, OURS_DRAINED, drained),
        "",
    )
    plan = [s.to_oracle for s in at_main_share if s.to_oracle is not None]
    yield Figure(NAME, "cost of ours to the clairvoyant plan", geometric_mean(plan), "")


def _mean(scores_: list[Score], name: str, others: Sequence[str]) -> float:
    """Return the geometric mean of a contender's cost over the cheapest of `others`, where both meet the SLO."""
    ratios = []
    for score in scores_:
        own_cost, costs = score.costs[name], [cost for rival in others if (cost := score.costs[rival]) is not None]
        if own_cost is not None and costs:
            ratios.append(own_cost / min(costs))
    return geometric_mean(ratios)


def main() -> int:
    data = Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data")
    scores_ = run_scores(data, sys.argv[2:])
    for figure in figures(scores_):
        print(figure.line())
    page.write([s for s in scores_ if s.share == MAIN], Path("docs"), NAME)
    return 0


if __name__ == "__main__":
    sys.exit(main())
