"""Tables and plots of the results page, written between two marks of ``docs/lab/results.md`` and to its images."""

from __future__ import annotations

import math
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.benchmarks.cost.families import OURS
from tests.benchmarks.cost.scores import MAIN, Score, geometric_mean
from tests.benchmarks.cost.tuning import Outcome
from tests.benchmarks.figure import machine

COLOURS: Final = (
    "#14937f", "#2f6fde", "#9a4fd0", "#b8860b", "#b42318", "#4f7f9c", "#8d6e63", "#c2548d", "#777777",
    "#6a9a1f", "#d2691e", "#3b3b98", "#00a3c4", "#a0a000", "#d98ba8",
)  # fmt: skip
WIDE, HIGH, LEFT, TOP, GAP = 330, 210, 46, 30, 26
COLUMNS: Final = 2
FONT: Final = 'font-family="sans-serif" font-size="11"'
MISSED: Final = (0.1, 0.0005)
"""Shares of requests late at the two ends of a panel's axis."""


def write(scores: Sequence[Score], folder: Path, name: str = "cost_at_slo") -> None:
    """Write the tables and the plot. Raises `ValueError` if the page has no marks for the benchmark."""
    put(folder, name, [provenance(), *_tables(scores)])
    (folder / "images" / f"{name.replace('_', '-')}.svg").write_text(_plot([s for s in scores if s.share == MAIN]))


def provenance() -> str:
    """Return the date, commit and machine of figures that were taken now."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return f"Taken {datetime.now(UTC):%Y-%m-%d}, commit {commit.stdout.strip() or 'unknown'}, {machine()}.\n"


def put(folder: Path, name: str, lines: Iterable[str]) -> None:
    """Write lines between a benchmark's marks of the page. Raises `ValueError` if it has none."""
    page = folder / "lab" / "results.md"
    begin, end = (f"<!-- {name}: {mark} -->" for mark in ("begin", "end"))
    text = page.read_text()
    before, start_mark, rest = text.partition(begin)
    _, end_mark, after = rest.partition(end)
    if not (start_mark and end_mark):
        raise ValueError(f"{page} has no place for the tables: insert the lines {begin} and {end}")
    page.write_text(f"{before}{begin}\n{chr(10).join(lines)}\n{end}{after}")


def _tables(scores: Sequence[Score]) -> Iterator[str]:
    names = [name for name in scores[0].costs if name != OURS]
    for share in dict.fromkeys(s.share for s in scores):
        at_share = [s for s in scores if s.share == share]
        yield f"\n**{share:.1%} of requests within the SLO** (USD on the last two thirds; –: no member meets the SLO)\n"
        yield f"| trace, start-up | ours | {' | '.join(names)} | oracle | to the best rival | to the oracle |"
        yield "|---" * (len(names) + 5) + "|"
        for s in at_share:
            rivals = " | ".join(_usd(s.costs[name]) for name in names)
            oracle = _usd(s.oracle["cost_usd"]) if share == MAIN else ""
            ratios = f"{_ratio(s.to_rival)} | {_ratio(s.to_oracle)}"
            yield f"| {s.cell.label} | {_usd(s.ours)} | {rivals} | {oracle} | {ratios} |"
        to_rival = geometric_mean(r for s in at_share if (r := s.to_rival) is not None)
        to_oracle = geometric_mean(r for s in at_share if (r := s.to_oracle) is not None)
        oracle = "" if math.isnan(to_oracle) else f"**{to_oracle:.2f}**"
        yield f"| **geometric mean** | {'| ' * (len(names) + 2)}| **{to_rival:.2f}** | {oracle} |"
    yield "\n**What the first third chose, at 99%** (cost and share in time on the rest)\n"
    yield f"| trace, start-up | ours, untuned | ours | {' | '.join(names)} |"
    yield "|---" * (len(names) + 3) + "|"
    for s in (s for s in scores if s.share == MAIN):
        cells = [s.untuned, *(s.curves[name].chosen for name in (OURS, *names))]
        yield f"| {s.cell.label} | {' | '.join(map(_outcome, cells))} |"


def _outcome(outcome: Outcome | None) -> str:
    return "" if outcome is None else f"{_usd(outcome['cost_usd'])}, {outcome['attainment']:.2%}"


def _usd(cost: float | None) -> str:
    return "–" if cost is None or math.isnan(cost) else f"{cost:,.0f}"


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _plot(scores: Sequence[Score]) -> str:
    """Return one panel for each cell: cost over the oracle's by the late share, on a logarithmic axis."""
    rows = math.ceil(len(scores) / COLUMNS)
    names = list(scores[0].curves)
    step = max(82, 34 + 6 * max(map(len, names)))
    in_row = (COLUMNS * (WIDE + LEFT + GAP) - LEFT) // step
    above = 20 + 20 * math.ceil(len(names) / in_row)
    size = COLUMNS * (WIDE + LEFT + GAP), rows * (HIGH + TOP + GAP) + above
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" {FONT}>',
        f'<rect width="{size[0]}" height="{size[1]}" fill="#ffffff"/>',
    ]
    for k, name in enumerate(names):
        x, y = LEFT + k % in_row * step, 16 + 20 * (k // in_row)
        parts.append(f'<line x1="{x}" x2="{x + 16}" y1="{y}" y2="{y}" stroke="{COLOURS[k]}" stroke-width="3"/>')
        parts.append(f'<text x="{x + 20}" y="{y + 4}" fill="#333">{name}</text>')
    for k, score in enumerate(scores):
        column, row = k % COLUMNS, k // COLUMNS
        parts += _panel(score, names, LEFT + column * (WIDE + LEFT + GAP), above + TOP + row * (HIGH + TOP + GAP))
    return "\n".join([*parts, "</svg>\n"])


def _panel(score: Score, names: Sequence[str], x0: float, y0: float) -> Iterator[str]:
    oracle_usd = score.oracle["cost_usd"]
    if math.isnan(oracle_usd):
        oracle_usd = min(cost for cost in score.costs.values() if cost is not None)
    max_ratio = 3.0
    span = math.log(MISSED[0] / MISSED[1])

    def x(attainment: float) -> float:
        missed = min(MISSED[0], max(MISSED[1], 1.0 - attainment))
        return x0 + WIDE * math.log(MISSED[0] / missed) / span

    def y(cost: float) -> float:
        return y0 + HIGH * (1.0 - min(max_ratio, cost / oracle_usd) / max_ratio)

    yield f'<text x="{x0}" y="{y0 - 8}" font-weight="bold" fill="#333">{score.cell.label}</text>'
    yield f'<rect x="{x0}" y="{y0}" width="{WIDE}" height="{HIGH}" fill="none" stroke="#bbb"/>'
    for share in (0.9, 0.95, 0.99, 0.999):
        yield f'<line x1="{x(share):.1f}" x2="{x(share):.1f}" y1="{y0}" y2="{y0 + HIGH}" stroke="#e5e5e5"/>'
        yield f'<text x="{x(share):.1f}" y="{y0 + HIGH + 13}" text-anchor="middle" fill="#666">{share:.1%}</text>'
    for times in (1, 2, 3):
        level, grey = y(times * oracle_usd), "#999" if times == 1 else "#e5e5e5"
        yield f'<line x1="{x0}" x2="{x0 + WIDE}" y1="{level:.1f}" y2="{level:.1f}" stroke="{grey}"/>'
        yield f'<text x="{x0 - 6}" y="{level + 4:.1f}" text-anchor="end" fill="#666">{times}x</text>'
    for k, name in reversed(list(enumerate(names))):
        inside = [p for p in score.curves[name].points if p["attainment"] >= 1 - MISSED[0]]
        points = " ".join(f"{x(p['attainment']):.1f},{y(p['cost_usd']):.1f}" for p in inside)
        width = 3 if name == OURS else 1.5
        yield f'<polyline points="{points}" fill="none" stroke="{COLOURS[k]}" stroke-width="{width}"/>'
        for p in inside:
            yield f'<circle cx="{x(p["attainment"]):.1f}" cy="{y(p["cost_usd"]):.1f}" r="{width}" fill="{COLOURS[k]}"/>'
