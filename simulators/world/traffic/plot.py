"""A self-contained HTML page of a trace: statistics, rate over time, token counts, gaps."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from simulators.reporting import html
from simulators.reporting.charts import Axis, Chart, Series, stepped
from simulators.world.traffic.describe import Description, describe, duration, rate_bins
from simulators.world.traffic.trace import RequestTrace

RATE_BINS: Final = 1000
"""Bins of the rate: more than the pixels of a screen show nothing more."""
HISTOGRAM_BINS: Final = 60
MIN_GAP_S: Final = 1e-3
"""Arrivals have a resolution of 1 ms: shorter gaps and zero gaps are in the first bar."""
UNITS: Final = (("days", 86400.0), ("hours", 3600.0), ("minutes", 60.0))


def page(trace: RequestTrace) -> str:
    """Return the page as HTML, equal for equal traces.

    Its size does not grow with the trace: the data is binned.
    """
    d = describe(trace)
    plots = [html.PagePlot("rate", "Requests over time", "", _rate(trace))]
    if len(trace):
        prompt, output = (
            (values, Axis(title="tokens", kind="log")) for values in (trace.prompt_tokens, trace.output_tokens)
        )
        gaps = np.diff(trace.arrival_s), Axis(title="seconds", kind="log", format="seconds")
        plots += [
            html.PagePlot(
                "prompt", "Prompt tokens", "Bars of equal width on a logarithmic axis.", _histogram(*prompt, 1.0)
            ),
            html.PagePlot("output", "Output tokens", "", _histogram(*output, 1.0)),
            html.PagePlot("gaps", "Gaps between arrivals", "", _histogram(*gaps, MIN_GAP_S)),
        ]
    return html.render(
        "trace.html.j2",
        title=f"Trace {trace.name}",
        lead=f"{len(trace):,} requests in {duration(d.span_s)}.",
        cards=_cards(d),
        facts=[("origin", d.origin or "unknown"), ("digest", d.digest), *((k, f"{n:,}") for k, n in d.repairs.items())],
        plots=plots,
    )


def _rate(trace: RequestTrace) -> Chart:
    """Return the chart of the mean rate, and of the highest second in each bin that is longer."""
    edges, rates = rate_bins(trace, RATE_BINS)
    unit, unit_s = next(((unit, size) for unit, size in UNITS if edges[-1] >= 3 * size), ("seconds", 1.0))
    x, y = stepped(edges / unit_s, rates)
    series = [Series(name="mean", x=x, y=y, colour="c1", shape="area")]
    if edges[1] > 1.0 and len(trace):
        x, y = stepped(edges / unit_s, _highest_second(trace, edges))
        series.append(Series(name="highest second", x=x, y=y, colour="c2", shape="step"))
    return Chart(
        x=Axis(title=f"{unit} since the start of the trace", low=0, high=float(edges[-1] / unit_s)),
        y=Axis(title="requests per second", low=0),
        series=series,
    )


def _highest_second(trace: RequestTrace, edges_s: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Return the requests of the busiest second that begins in each bin.

    Only seconds with requests take memory.
    """
    seconds, counts = np.unique(np.floor(trace.arrival_s), return_counts=True)
    bins = np.clip(np.searchsorted(edges_s, seconds, side="right") - 1, 0, len(edges_s) - 2)
    highest = np.zeros(len(edges_s) - 1)
    np.maximum.at(highest, bins, counts.astype(np.float64))
    return highest


def _histogram(values: npt.NDArray[Any], axis: Axis, minimum: float) -> Chart:
    """Return counts in bins of equal width on a logarithmic axis.

    Values below `minimum` count as `minimum`.
    """
    values = np.maximum(values, minimum)
    top = float(values.max()) if len(values) else minimum
    edges = np.geomspace(minimum, max(top, minimum * 10) * 1.0001, HISTOGRAM_BINS + 1)
    counts, _ = np.histogram(values, edges)
    x, y = stepped(edges, counts.astype(np.float64))
    return Chart(
        x=axis, y=Axis(title="requests", low=0), series=[Series(name="requests", x=x, y=y, colour="c3", shape="area")]
    )


def _cards(d: Description) -> list[tuple[str, str, str]]:
    """Return the key figures. A figure that the trace does not have is unknown."""

    def shown(value: float | None, template: str) -> str:
        return "unknown" if value is None else template.format(value)

    def tokens(lengths: Mapping[str, float]) -> str:
        return f"{lengths['p50']:,.0f} / {lengths['p99']:,.0f}" if lengths else "unknown"

    return [
        ("requests", f"{d.requests:,}", ""),
        ("mean rate", shown(d.mean_rps, "{:.3g} per second"), ""),
        ("peak / mean, per second", shown(d.peak_to_mean_1s, "{:.3g}"), ""),
        ("peak / mean, per minute", shown(d.peak_to_mean_1min, "{:.3g}"), ""),
        ("prompt tokens p50 / p99", tokens(d.prompt_tokens), ""),
        ("output tokens p50 / p99", tokens(d.output_tokens), ""),
        ("cached part of the prompts", shown(d.cached_share, "{:.1%}"), ""),
        ("CV of the gaps (1: Poisson)", shown(d.gap_cv, "{:.3g}"), ""),
    ]
