"""Terminal table of runs' figures, with one column for each run."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from simulators.experiments.results import LatencySummary, ResultSummary

ROWS: Final[Sequence[tuple[str, Callable[[ResultSummary], str]]]] = (
    ("requests", lambda s: f"{s.arrived:,}"),
    ("finished", lambda s: f"{s.finished:,}"),
    ("rejected, timed out", lambda s: f"{s.rejected + s.timed_out:,}"),
    ("lost, dead letter", lambda s: f"{s.lost + s.dead_letter:,}"),
    ("SLO attainment", lambda s: share(s.attainment.get("all", math.nan)) + ("" if s.slo_met else " missed")),
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
    ("  share wasted", lambda s: share(s.waste_share)),
    (
        "  per million tokens",
        lambda s: "-" if math.isnan(s.usd_per_million_tokens) else f"${s.usd_per_million_tokens:,.3f}",
    ),
    ("scaled out / in", lambda s: f"{s.scale_ups} / {s.scale_downs}"),
    ("interruptions", lambda s: f"{s.interruptions}"),
    ("writes rejected", lambda s: f"{s.refused}"),
    ("ticks / blind ticks", lambda s: f"{s.ticks:,} / {s.blind_ticks:,}"),
)


def share(value: float) -> str:
    """Return a share in percent; a dash for NaN."""
    return "-" if math.isnan(value) else f"{value:.2%}"


def dollars(value: float) -> str:
    """Return an amount of money to the cent; a dash for NaN."""
    return "-" if math.isnan(value) else f"${value:,.2f}"


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
    return aligned(cells(runs), names)


def aligned(rows: Sequence[tuple[str, Sequence[str]]], names: Sequence[str], corner: str = "") -> Iterator[str]:
    """Yield the lines of a table with right-aligned columns."""
    widths = [max(len(name), *(len(row[k]) for _, row in rows)) for k, name in enumerate(names)]
    title_width = max(len(corner), *(len(title) for title, _ in rows))
    yield f"{corner:<{title_width}}" + "".join(f"  {name:>{w}}" for name, w in zip(names, widths, strict=True))
    for title, row in rows:
        yield f"{title:<{title_width}}" + "".join(f"  {cell:>{w}}" for cell, w in zip(row, widths, strict=True))
