"""Plots of one run, and overlays of several."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from simulators.reporting.cost_series import HOUR_S, USES
from simulators.reporting.html import COLOURS, PagePlot, figure, json_numbers, line, plot
from simulators.reporting.run_data import CDF_POINTS, Mark, RunData
from simulators.reporting.time_bins import Floats, rounded

TITLES: Final = {
    "ttft": "Time to first token",
    "itl": "Inter-token latency, mean per request",
    "e2e": "End-to-end latency",
}
USE_COLOURS: Final = dict(
    zip(USES, ("#14937f", "#b8860b", "#2f6fde", "#9a4fd0", "#b42318", "#4f7f9c", "#8d6e63"), strict=True)
)
MARKS: Final = {
    "scaled out": ("triangle-up", "#2f6fde"),
    "scaled in": ("triangle-down", "#4f7f9c"),
    "notice": ("diamond-open", "#b8860b"),
    "interrupted": ("x", "#b42318"),
    "failed": ("x", "#b42318"),
    "cut": ("cross", "#9a4fd0"),
}
USED_NOTE: Final = "Used: time with at least one running request. A used replica may be far from its capacity."
MISSED_COLOUR: Final = "rgba(180, 35, 24, 0.35)"


def of_run(data: RunData, key: str) -> Iterator[PagePlot]:
    """Yield a run's plots. `key` makes their ids unique on the page."""
    yield plot(sizes(data), f"{key}-sizes", "Traffic and replicas", _sampling_note(data))
    for latency in data.latency_s:
        note = "Lines: quantiles of requests by arrival time. Bars: share of all requests that violated the SLO."
        yield plot(latency_plot(data, latency), f"{key}-{latency}", TITLES[latency], note)
    if data.cost_usd:
        note = "Areas: cost by use (used: time with at least one running request). Lines: cumulative cost."
        yield plot(cost(data), f"{key}-cost", "Cost", note)
    if any(len(cdf) for cdf in data.cdf_s.values()):
        note = "Share of finished requests with at most this latency."
        yield plot(distributions({f"{k.upper() if k != 'e2e' else k}": c for k, c in data.cdf_s.items()}),
                   f"{key}-cdf", "Distribution of latencies", note)  # fmt: skip


def of_runs(runs: Sequence[RunData], key: str = "all") -> Iterator[PagePlot]:
    """Yield the plots that overlay runs. `key` makes their ids unique on the page."""
    yield plot(cost_by_use(runs), f"{key}-cost-by-use", "Cost by use", USED_NOTE)
    yield plot(_overlay(runs, _ready, "replicas ready", shape="hv"), f"{key}-ready", "Replicas ready")
    yield plot(_overlay(runs, _ttft_p95, "seconds", log=True), f"{key}-ttft", "Time to first token, p95")
    yield plot(_overlay(runs, _missed, "share of requests", shape="hv"), f"{key}-missed", "SLO violations")
    yield plot(_overlay(runs, _paid, "USD"), f"{key}-paid", "Cumulative cost")
    cdfs = {s.name: s.cdf_s["ttft"] for s in runs if len(s.cdf_s["ttft"])}
    if cdfs:
        yield plot(distributions(cdfs), f"{key}-cdf", "Distribution of the time to first token")


def sizes(data: RunData) -> Any:
    """Return the plot of the arrival rate and of demand, desired and ready replicas.

    Marks show events.
    """
    unit_s, unit = _time_unit(data)
    chart = figure(
        xaxis={"title": {"text": unit}, "range": [0, float(data.edges_s[-1] / unit_s)]},
        yaxis={"title": {"text": "requests per second"}, "rangemode": "tozero"},
        yaxis2={"title": {"text": "replicas"}, "overlaying": "y", "side": "right", "rangemode": "tozero",
                "tickmode": "auto", "showgrid": False},
    )  # fmt: skip
    times = json_numbers(data.edges_s[:-1] / unit_s)
    chart.add_trace(line("arrivals", times, data.rate_rps, "#7d8794", shape="hv", fill="tozeroy", width=0.6))
    tick_times = json_numbers(data.sizes.at_s / unit_s)
    lines = (("demand", data.sizes.demand, "#d9622b"), ("desired", data.sizes.desired, "#2f6fde"),
             ("ready", data.sizes.ready, "#14937f"))  # fmt: skip
    for name, values, colour in lines:
        chart.add_trace(line(name, tick_times, values, colour, shape="hv", yaxis="y2"))
    maximum = np.nanmax(np.concatenate(([1.0], data.sizes.desired, data.sizes.ready)))
    for kind in MARKS:
        marks = [m for m in data.marks if m.kind == kind]
        if marks:
            chart.add_trace(_marks(marks, unit_s, float(maximum) * 1.08))
    return chart


def latency_plot(data: RunData, latency: str) -> Any:
    """Return the plot of a latency's quantiles over time.

    It also shows the latency's SLO limit and the share of late requests.
    """
    unit_s, unit = _time_unit(data)
    chart = figure(
        xaxis={"title": {"text": unit}, "range": [0, float(data.edges_s[-1] / unit_s)]},
        yaxis={"title": {"text": "seconds"}, "type": "log", "dtick": "D2"},
        yaxis2={"title": {"text": "SLO violations"}, "overlaying": "y", "side": "right", "range": [0, 1],
                "tickmode": "auto", "showgrid": False, "tickformat": ".0%"},
    )  # fmt: skip
    times = json_numbers(data.edges_s[:-1] / unit_s)
    width = json_numbers(np.diff(data.edges_s) / unit_s)
    chart.add_trace(
        go.Bar(name="SLO violations", x=times, y=json_numbers(data.missed), width=width, offset=0, yaxis="y2",
               marker={"color": MISSED_COLOUR, "line": {"width": 0}})
    )  # fmt: skip
    for (name, values), colour in zip(data.latency_s[latency].items(), ("#14937f", "#2f6fde", "#9a4fd0"), strict=True):
        chart.add_trace(line(name, times, np.where(values > 0, values, np.nan), colour, shape="hv"))
    limit = getattr(data.slo, f"{latency}_s")
    if limit is not None:
        ends = [0.0, float(data.edges_s[-1] / unit_s)]
        chart.add_trace(line("SLO", ends, np.array([limit, limit]), "#b42318", dash="dash"))
    return chart


def cost(data: RunData) -> Any:
    """Return the plot of the cost per hour by use, and of the cumulative cost in each market."""
    unit_s, unit = _time_unit(data)
    chart = figure(
        xaxis={"title": {"text": unit}, "range": [0, float(data.edges_s[-1] / unit_s)]},
        yaxis={"title": {"text": "USD per hour"}, "rangemode": "tozero"},
        yaxis2={"title": {"text": "cumulative USD"}, "overlaying": "y", "side": "right", "rangemode": "tozero",
                "tickmode": "auto", "showgrid": False},
    )  # fmt: skip
    hours = np.diff(data.edges_s) / HOUR_S
    times = json_numbers(data.edges_s[:-1] / unit_s)
    for use, values in data.cost_usd.items():
        chart.add_trace(
            line(use, times, rounded(values / hours), USE_COLOURS[use], shape="hv", stackgroup="use", width=0.5)
        )
    for (market, values), dash in zip(data.paid_usd.items(), ("solid", "dash", "dot"), strict=False):
        name = f"cumulative, {market.replace('_', ' ')}"
        chart.add_trace(line(name, json_numbers(data.edges_s / unit_s), values, "#c43d6b", dash=dash, yaxis="y2"))
    return chart


def distributions(cdf_s: Mapping[str, Floats]) -> Any:
    """Return the plot of latencies as cumulative distributions."""
    chart = figure(
        xaxis={"title": {"text": "seconds"}, "type": "log", "dtick": "D2"},
        yaxis={"title": {"text": "share of requests"}, "range": [0, 1.01], "tickformat": ".0%"},
        hovermode="closest",
    )
    shares = np.linspace(0, 1, CDF_POINTS + 1)
    for (name, times), colour in zip(cdf_s.items(), _colours(len(cdf_s)), strict=True):
        positive = times > 0
        if positive.any():
            chart.add_trace(line(name, json_numbers(times[positive]), shares[positive], colour))
    return chart


def cost_by_use(runs: Sequence[RunData]) -> Any:
    """Return the plot of the cost by use, one bar for each run."""
    chart = figure(barmode="stack", xaxis={"title": {"text": "USD"}}, hovermode="y unified")
    names = [s.name for s in runs]
    for use in (*USES, "rounding"):
        values = [s.summary.cost_by_use_usd.get(use, 0.0) for s in runs]
        if any(values):
            colour = USE_COLOURS.get(use, "#7d8794")
            chart.add_trace(go.Bar(name=use, y=names, x=values, orientation="h", marker={"color": colour}))
    chart.update_yaxes(autorange="reversed", automargin=True, type="category")
    chart.update_layout(height=140 + 34 * len(runs))
    return chart


def _overlay(runs: Sequence[RunData], series: Any, unit: str, *, log: bool = False, shape: str = "linear") -> Any:
    """Return the plot of one series of every run. `pick` returns its times and values."""
    unit_s, clock = _time_unit(max(runs, key=lambda s: float(s.edges_s[-1])))
    chart = figure(xaxis={"title": {"text": clock}}, yaxis={"title": {"text": unit}, "rangemode": "tozero"})
    for data, colour in zip(runs, _colours(len(runs)), strict=True):
        at_s, values = series(data)
        values = np.where(values > 0, values, np.nan) if log else values
        chart.add_trace(line(data.name, json_numbers(at_s / unit_s), values, colour, shape=shape))
    if log:
        chart.update_yaxes(type="log", dtick="D2")
    return chart


def _ready(data: RunData) -> tuple[Floats, Floats]:
    return data.sizes.at_s, data.sizes.ready


def _ttft_p95(data: RunData) -> tuple[Floats, Floats]:
    return data.edges_s[:-1], data.latency_s["ttft"]["p95"]


def _missed(data: RunData) -> tuple[Floats, Floats]:
    return data.edges_s[:-1], data.missed


def _paid(data: RunData) -> tuple[Floats, Floats]:
    return data.edges_s, rounded(np.sum(list(data.paid_usd.values()), axis=0)) if data.paid_usd else data.edges_s * 0


def _time_unit(data: RunData) -> tuple[float, str]:
    """Return the time axis's unit in seconds, and its title: hours for 3 hours to 3 days."""
    end_s = float(data.edges_s[-1])
    for unit, size in (("days", 86400.0), ("hours", HOUR_S), ("minutes", 60.0)):
        if end_s >= 3 * size:
            return size, f"{unit} since the start"
    return 1.0, "seconds since the start"


def _sampling_note(data: RunData) -> str:
    if data.summary.ticks <= len(data.sizes.at_s):
        return "Replicas at each tick."
    return "Each bin shows its worst ticks: the largest demand and desired replicas, the fewest ready replicas."


def _marks(marks: Sequence[Mark], unit_s: float, height: float) -> Any:
    symbol, colour = MARKS[marks[0].kind]
    return go.Scatter(
        name=marks[0].kind,
        x=json_numbers(np.array([m.at_s for m in marks]) / unit_s),
        y=[height] * len(marks),
        text=[f"{m.count}" for m in marks],
        hovertemplate="%{text}",
        mode="markers",
        marker={"symbol": symbol, "color": colour, "size": 8},
        yaxis="y2",
    )


def _colours(count: int) -> list[str]:
    return [COLOURS[k % len(COLOURS)] for k in range(count)]
