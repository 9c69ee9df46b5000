"""Terminal table of runs' figures, with one column for each run."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from simulators.experiments.results import LatencySummary, ResultSummary
from simulators.experiments.slo_outcome import percent_decimals

ROWS: Final[Sequence[tuple[str, Callable[[ResultSummary], str]]]] = (
    ("requests", lambda s: f"{s.arrived:,}"),
    ("finished", lambda s: f"{s.finished:,}"),
    ("rejected, timed out", lambda s: f"{s.rejected + s.timed_out:,}"),
    ("lost, dead letter", lambda s: f"{s.lost + s.dead_letter:,}"),
    ("SLO attainment", lambda s: share(s.attainment["all"]) if s.attainment else "not judged"),
    ("  target", lambda s: mark(s) if s.attainment else "-"),
    ("  by TTFT", lambda s: share(s.attainment.get("ttft", math.nan))),
    ("  by ITL", lambda s: share(s.attainment.get("itl", math.nan))),
    ("  by e2e", lambda s: share(s.attainment.get("e2e", math.nan))),
    ("TTFT p50 / p95 / p99", lambda s: quantiles_text(s.ttft_s)),
    ("ITL p50 / p95 / p99", lambda s: quantiles_text(s.itl_s)),
    ("e2e p50 / p95 / p99", lambda s: quantiles_text(s.e2e_s)),
    ("output tokens/s", lambda s: f"{s.output_tokens_per_s:,.0f}"),
    ("replicas mean / max", lambda s: f"{s.replicas_mean:.1f} / {s.replicas_max}"),
    ("node hours", lambda s: f"{s.node_hours:,.2f}"),
    ("cost", lambda s: dollars(s.cost_usd)),
    ("  for token APIs", lambda s: "-" if math.isnan(s.api_usd) else dollars(s.api_usd)),
    ("  share wasted", lambda s: share(s.waste_share)),
    (
        "  per million tokens",
        lambda s: "-" if math.isnan(s.usd_per_million_tokens) else f"${s.usd_per_million_tokens:,.3f}",
    ),
    ("requests to token APIs", lambda s: share(s.api_share)),
    ("changes of the weights", lambda s: f"{s.route_changes}"),
    ("scaled out / in", lambda s: f"{s.scale_ups} / {s.scale_downs}"),
    ("interruptions", lambda s: f"{s.interruptions}"),
    ("writes rejected", lambda s: f"{s.refused}"),
    ("ticks / blind ticks", lambda s: f"{s.ticks:,} / {s.blind_ticks:,}"),
)
UNKNOWN: Final = "unknown"
MIN_WIDTH: Final = 60
PIPE_WIDTH: Final = 100
"""The width of tables that are not written to a terminal. Characters."""
MAX_NAME: Final = 24
"""The width at which the name of a column continues on the next line. Characters."""
MAX_TITLE: Final = 32
"""The width at which the title of a row continues on the next line. Characters."""


def share(value: float) -> str:
    """Return a share in percent; a dash for NaN.

    Only 1 is ``100.00%`` and only 0 is ``0.00%``: 0.999997 is ``99.99970%``.
    """
    if math.isnan(value):
        return "-"
    distance = min(abs(value), abs(1.0 - value))
    return f"{value:.{percent_decimals(distance) if distance else 2}%}"


def dollars(value: float) -> str:
    """Return an amount of money to the cent; ``unknown`` for NaN."""
    return UNKNOWN if math.isnan(value) else f"${value:,.2f}"


def points(difference: float) -> str:
    """Return a difference of shares in percentage points: 0.0123 as ``1.23 points``.

    A difference that is not 0 never shows as 0.00.
    """
    return "less than 0.01 points" if 0 < difference < 0.5e-4 else f"{100 * difference:.2f} points"


def mark(s: ResultSummary) -> str:
    """Return whether the run met its target, for a table's cell."""
    return "met" if s.slo_met else f"missed by {points(s.missed_by)}"


def seconds(value: float) -> str:
    """Return a time with three significant digits.

    0.0123 s is ``12.3 ms``, and 1,234 s is ``1,234 s``.
    """
    if math.isnan(value):
        return "-"
    return f"{value * 1000:.3g} ms" if value < 0.9995 else f"{value:,.3g} s" if value < 1000 else f"{value:,.0f} s"


def quantiles_text(latency: LatencySummary) -> str:
    return " / ".join(seconds(q) for q in (latency.p50, latency.p95, latency.p99))


def cells(runs: Sequence[ResultSummary]) -> list[tuple[str, list[str]]]:
    """Return each row's title and its cells, without rows that are empty for all runs."""
    rows = [(title, [show(run) for run in runs]) for title, show in ROWS]
    return [(title, row) for title, row in rows if not set(row) <= {"-", "0"}]


def lines(runs: Sequence[ResultSummary], names: Sequence[str]) -> Iterator[str]:
    """Return the table."""
    return folded(cells(runs), names)


def folded(
    rows: Sequence[tuple[str, Sequence[str]]], names: Sequence[str], corner: str = "", width: int | None = None
) -> Iterator[str]:
    """Yield the lines of a table that fits a width.

    Further columns follow in blocks with the same rows. Titles of 20 characters and six columns of 25 fill 100
    characters as two blocks, of three columns each. The default width is the terminal's. Long names continue on the
    next line, so that nothing is truncated.
    """
    limit = max(MIN_WIDTH, width or shutil.get_terminal_size((PIPE_WIDTH, 24)).columns)
    rows = [row for title, cells_ in rows for row in _wrapped_row(title, cells_)]
    title_width = max(len(corner), *(len(title) for title, _ in rows))
    widths = [max(min(len(name), MAX_NAME), *(len(row[k]) for _, row in rows)) for k, name in enumerate(names)]
    start = 0
    while start < len(names):
        end, used = start + 1, title_width + 2 + widths[start]
        while end < len(names) and used + 2 + widths[end] <= limit:
            used, end = used + 2 + widths[end], end + 1
        if start:
            yield ""
        yield from _block(rows, list(zip(names, widths, strict=True)), slice(start, end), corner)
        start = end


def _block(
    rows: Sequence[tuple[str, Sequence[str]]], columns: Sequence[tuple[str, int]], shown: slice, corner: str
) -> Iterator[str]:
    """Yield the lines of some columns, each with its name and width.

    A name of several lines ends above its cells.
    """
    parts = [_parts(name, width) for name, width in columns[shown]]
    height = max(map(len, parts))
    heads = [[""] * (height - len(part)) + part for part in parts]
    names = [head[-1].rjust(width) for head, (_, width) in zip(heads, columns[shown], strict=True)]
    above = [("", [head[k] for head in heads]) for k in range(height - 1)]
    lines_ = list(aligned([*above, *((title, row[shown]) for title, row in rows)], names, corner))
    yield from (line.rstrip() for line in (*lines_[1:height], lines_[0], *lines_[height:]))


def _wrapped_row(title: str, row: Sequence[str]) -> Iterator[tuple[str, Sequence[str]]]:
    *above, last = _parts(title, MAX_TITLE)
    yield from ((part, [""] * len(row)) for part in above)
    yield last, row


def _parts(text: str, width: int) -> list[str]:
    """Cut text into parts of a width: ``hpa:target=24`` of 10 is ``hpa:target`` and ``=24``."""
    return [text[k : k + width] for k in range(0, len(text), width)] or [""]


def aligned(rows: Sequence[tuple[str, Sequence[str]]], names: Sequence[str], corner: str = "") -> Iterator[str]:
    """Yield the lines of a table with right-aligned columns."""
    widths = [max(len(name), *(len(row[k]) for _, row in rows)) for k, name in enumerate(names)]
    title_width = max(len(corner), *(len(title) for title, _ in rows))
    yield f"{corner:<{title_width}}" + "".join(f"  {name:>{w}}" for name, w in zip(names, widths, strict=True))
    for title, row in rows:
        yield f"{title:<{title_width}}" + "".join(f"  {cell:>{w}}" for cell, w in zip(row, widths, strict=True))
