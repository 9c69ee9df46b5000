"""Cost and SLO without tuning: each rival as its documentation recommends, ours with nothing but the SLO.

``python -m tests.benchmarks.out_of_the_box --only ours --jobs 1`` runs one contender over all cells; ``--cells`` takes
traces, each with a start-up if wanted: ``--cells nasa,taxi/300``. Runs are cached in ``build/untuned_runs.jsonl``. Ours
runs again after a change of a policy; a contender that is not run is compared if its runs are stored.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

from tests.benchmarks.cost import page, recommended
from tests.benchmarks.cost.scores import MAIN, SHARES, geometric_mean
from tests.benchmarks.cost.tuning import ORACLE, SEED, Job, Outcome, Runs
from tests.benchmarks.cost.untuned import UntunedCell, cells, policy_code
from tests.benchmarks.figure import Figure

MEMORY: Final = Path("build/untuned_runs.jsonl")
OURS: Final = "ours"
SEEDS: Final = 2
RELIABLE: Final = 0.9
"""A contender that keeps the SLO in this share of the cells where the oracle can is one to be compared with."""
MAX_TO_ORACLE: Final = 1.20
MAX_TO_ORACLE_BY_DAY: Final = 1.15
MAX_TO_ORACLE_OF_ANY: Final = 1.35


@dataclass(frozen=True, slots=True)
class Trial:
    """A cell at one share with one seed."""

    cell: UntunedCell
    share: float
    seed: int

    @property
    def label(self) -> str:
        return f"{self.cell.label}, {self.share:.1%}, seed {self.seed}"

    def job(self, contender: str, data: Path) -> Job:
        """Return a contender's run. Only ours and the oracle know the share."""
        if contender == OURS:
            return Job(self.cell, "test", "self", self.share, self.seed, policy_code())
        if contender == ORACLE:
            return Job(self.cell, "test", ORACLE, self.share, self.seed)
        (rival,) = (rival for rival in recommended.RIVALS if rival.name == contender)
        return Job(self.cell, "test", rival.text(self.cell, data), MAIN, self.seed)


Results = Mapping[str, Mapping[Trial, Outcome]]
"""The known outcomes of each contender."""


@dataclass(frozen=True, slots=True)
class Row:
    """A contender over the trials in which the oracle meets the SLO and both are known.

    `ratios` are its costs to the oracle's, and `missed` the trials in which it misses the SLO with its attainment.
    """

    name: str
    ratios: Mapping[Trial, float]
    missed: Mapping[Trial, float]

    @property
    def kept(self) -> float:
        return 1.0 - len(self.missed) / len(self.ratios) if self.ratios else math.nan

    @property
    def worst(self) -> float:
        return max(self.ratios.values(), default=math.nan)

    @property
    def to_oracle(self) -> float:
        return geometric_mean(self.ratios.values())

    @property
    def to_oracle_by_day(self) -> float:
        return geometric_mean(ratio for trial, ratio in self.ratios.items() if trial.cell.day_long)

    def to(self, other: Row) -> float:
        """Return the cost to another contender's, over the trials of both."""
        both = self.ratios.keys() & other.ratios.keys()
        return geometric_mean(self.ratios[trial] / other.ratios[trial] for trial in both)


def names() -> list[str]:
    return [OURS, *(rival.name for rival in recommended.RIVALS), ORACLE]


def trials(selected: Sequence[UntunedCell], seeds: int, shares: Sequence[float] = SHARES) -> list[Trial]:
    return [Trial(c, share, seed) for c in selected for share in shares for seed in range(SEED, SEED + seeds)]


def results(runs: Runs, todo: Sequence[Trial], simulated: Sequence[str]) -> Results:
    """Return every known outcome, after simulating some contenders. Prints progress to standard error."""
    for name in simulated:
        for k, cell in enumerate(dict.fromkeys(trial.cell for trial in todo), 1):
            runs.get([trial.job(name, runs.data) for trial in todo if trial.cell == cell])
            print(f"{name}: {k} {cell.label}", file=sys.stderr, flush=True)
    stored = {name: {trial: runs.stored(trial.job(name, runs.data)) for trial in todo} for name in names()}
    return {name: {t: o for t, o in known.items() if o is not None} for name, known in stored.items()}


def rows(found: Results) -> list[Row]:
    """Return a row for each contender with known outcomes."""
    best = {trial: o["cost_usd"] for trial, o in found[ORACLE].items() if math.isfinite(o["cost_usd"])}
    return [
        Row(
            name,
            {trial: o["cost_usd"] / best[trial] for trial, o in known.items() if trial in best},
            {t: o["attainment"] for t, o in known.items() if t in best and o["attainment"] < t.share},
        )
        for name, known in found.items()
        if known and name != ORACLE
    ]


def figures(table_: Sequence[Row]) -> Iterator[Figure]:
    """Yield the goals for ours, and its cost to every contender that keeps the SLO as reliably."""
    by_name = {row.name: row for row in table_}
    if OURS not in by_name or not by_name[OURS].ratios:
        return
    ours, benchmark = by_name[OURS], "out_of_the_box"
    note = f"{len(ours.ratios)} cells, shares and seeds where the oracle meets the SLO"
    yield Figure(benchmark, "share of these in which ours meets the SLO", ours.kept, "", 1.0, ">=", note=note)
    yield Figure(benchmark, "cost of ours to the oracle", ours.to_oracle, "", MAX_TO_ORACLE)
    if not math.isnan(ours.to_oracle_by_day):
        yield Figure(benchmark, "the same, day-long traces", ours.to_oracle_by_day, "", MAX_TO_ORACLE_BY_DAY)
    yield Figure(benchmark, "largest of these ratios", ours.worst, "", MAX_TO_ORACLE_OF_ANY)
    for row in table_:
        if row.name != OURS and row.kept >= RELIABLE:
            name = f"cost of ours to {row.name}, which meets the SLO in {row.kept:.0%}"
            yield Figure(benchmark, name, ours.to(row), "", 1.0)


def table(table_: Sequence[Row]) -> Iterator[str]:
    """Yield a line for each contender."""
    yield f"{'contender':28} {'SLO met':>14} {'to oracle':>10} {'by day':>8} {'worst':>8}"
    for row in _ranked(table_):
        to_oracle, by_day, worst = _ratios(row)
        yield f"{row.name:28} {_met(row):>14} {to_oracle:>10} {by_day:>8} {worst:>8}"


def page_lines(table_: Sequence[Row]) -> Iterator[str]:
    """Yield the Markdown table of the results page, with the source of each recommendation."""
    sources = {rival.name: rival.source for rival in recommended.RIVALS}
    yield page.provenance()
    yield "| contender | SLO met | cost to the oracle | day-long traces | worst case | as recommended by |"
    yield "|---|---|---|---|---|---|"
    for row in _ranked(table_):
        cells_ = (row.name, _met(row), *_ratios(row), sources.get(row.name, "nothing but the SLO is set"))
        yield f"| {' | '.join(cells_)} |"


def _ranked(table_: Sequence[Row]) -> list[Row]:
    """Return the rows, the most reliable first."""
    return sorted(table_, key=lambda r: (-r.kept, r.to_oracle))


def _met(row: Row) -> str:
    return f"{len(row.ratios) - len(row.missed)} of {len(row.ratios)}"


def _ratios(row: Row) -> tuple[str, ...]:
    values = (row.to_oracle, row.to_oracle_by_day, row.worst)
    return tuple("unknown" if math.isnan(v) else f"{v:.3f}" for v in values)


def details(name: str, known: Mapping[Trial, Outcome], oracle: Mapping[Trial, Outcome]) -> Iterator[str]:
    """Yield a line for each trial of a contender."""
    for trial, o in known.items():
        met = "met" if o["attainment"] >= trial.share else "MISSED"
        line = f"{o['cost_usd']:9.2f} USD  {o['attainment']:9.3%} {met:6}  mean {o['replicas_mean']:.2f}"
        yield f"{name:12} {trial.label:44} {line}  to oracle: {_to_oracle(o, oracle.get(trial))}"


def _to_oracle(outcome: Outcome, oracle: Outcome | None) -> str:
    if oracle is None:
        return "oracle not run"
    usd = oracle["cost_usd"]
    return "out of reach" if math.isnan(usd) else f"{outcome['cost_usd'] / usd:.3f}"


def select(patterns: str) -> list[UntunedCell]:
    """Return the cells that match a comma-separated list of traces, or traces with a start-up.

    ``nasa,taxi/300`` is nasa with both start-ups and taxi with 300 s. Raises `ValueError` where a pattern matches none.
    """
    matched: dict[UntunedCell, None] = {}
    for pattern in filter(None, patterns.split(",")):
        found = [c for c in cells() if fnmatchcase(c.name, pattern) or fnmatchcase(f"{c.name}/{c.start_s}", pattern)]
        if not found:
            known = ", ".join(dict.fromkeys(c.name for c in cells()))
            raise ValueError(f"--cells {pattern!r}: matches no cell; the traces are {known}, with /90 or /300")
        matched.update(dict.fromkeys(found))
    return list(matched) or cells()


def run(data: Path) -> Iterator[Figure]:
    if not (data / "requests").is_dir():
        yield Figure("out_of_the_box", "skipped", 0.0, "", note=f"{data} has no requests: it is not shipped")
        return
    yield from figures(rows(results(Runs(data, MEMORY), trials(cells(), SEEDS), names())))


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.out_of_the_box", description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"), help="folder of traffic data")
    parser.add_argument("--only", default="", metavar="NAMES", help=f"contenders to simulate: {', '.join(names())}")
    parser.add_argument("--cells", default="", metavar="PATTERNS", help="cells, such as nasa,taxi/300 (default: all)")
    parser.add_argument("--shares", default="", metavar="SHARES", help="SLO shares (default: 0.95,0.99,0.999)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="seeds of each cell (default: 2)")
    parser.add_argument("--jobs", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--memory", type=Path, default=MEMORY, help="file of finished runs")
    parser.add_argument("--page", type=Path, metavar="DOCS", help="write the table to this folder's lab/results.md too")
    args = parser.parse_args(arguments)
    simulated = [name for name in args.only.split(",") if name] or names()
    if unknown := sorted(set(simulated) - set(names())):
        parser.error(f"--only {', '.join(unknown)}: must be one of {', '.join(names())}")
    try:
        selected = select(args.cells)
        shares = [float(share) for share in args.shares.split(",") if share] or SHARES
    except ValueError as e:
        parser.error(str(e))
    found = results(Runs(args.data, args.memory, args.jobs), trials(selected, args.seeds, shares), simulated)
    for name in simulated:
        if args.only and name != ORACLE:
            print(*details(name, found[name], found[ORACLE]), sep="\n")
    table_ = rows(found)
    print(*table(table_), sep="\n")
    for figure in figures(table_):
        print(figure.line())
    if args.page is not None:
        page.put(args.page, "out_of_the_box", page_lines(table_))
    return 0


if __name__ == "__main__":
    sys.exit(main())
