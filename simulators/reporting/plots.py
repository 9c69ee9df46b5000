"""Plots of one run, and overlays of several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, Literal

import numpy as np

from simulators.reporting.charts import BAD, COLOURS, GREY, Axis, Chart, Series, stepped
from simulators.reporting.cost_series import HOUR_S, USES
from simulators.reporting.html import BarPart, PageBars, PagePlot
from simulators.reporting.run_data import CDF_POINTS, RunData
from simulators.reporting.table import dollars
from simulators.reporting.time_bins import Floats

TITLES: Final = {
    "ttft": "Time to first token",
    "itl": "Inter-token latency, mean per request",
    "e2e": "End-to-end latency",
}
USE_COLOURS: Final = dict(zip((*USES, "rounding"), ("c3", "c5", "c1", "c4", "c6", "c8", "c9", "c2", "c0"), strict=True))
MARKS: Final = {
    "scaled out": ("up", "c1"),
    "scaled in": ("down", "c8"),
    "notice": ("diamond", "c5"),
    "interrupted": ("cross", BAD),
    "failed": ("cross", "c6"),
    "cut": ("plus", "c4"),
}
USED_NOTE: Final = "Used: time with at least one running request. A used replica may be far from its capacity."
REPLICAS: Final = Axis(title="replicas", low=0)
SHARE: Final = Axis(title="SLO violations", format="share", low=0, high=1)
Pick = Callable[[RunData], tuple[Floats, Floats]]


def of_run(data: RunData, key: str) -> Iterator[PagePlot]:
    """Yield a run's plots. `key` makes their ids unique on the page."""
    yield PagePlot(f"{key}-sizes", "Traffic and replicas", _sampling_note(data), sizes(data, key))
    for latency in data.latency_s:
        note = "Lines: quantiles of requests by arrival time."
        if data.summary.slo is not None:
            note += " Areas: share of all requests that violated the SLO."
        yield PagePlot(f"{key}-{latency}", TITLES[latency], note, latency_plot(data, latency, key))
    if data.cost_usd:
        note = "Areas: cost by use (used: time with at least one running request). Lines: cumulative cost."
        yield PagePlot(f"{key}-cost", "Cost", note, cost(data, key))
    if any(len(cdf) for cdf in data.cdf_s.values()):
        note = "Share of finished requests with at most this latency."
        cdfs = {f"{k.upper() if k != 'e2e' else k}": c for k, c in data.cdf_s.items()}
        yield PagePlot(f"{key}-cdf", "Distribution of latencies", note, distributions(cdfs))


def of_runs(runs: Sequence[RunData], key: str = "all") -> Iterator[PagePlot | PageBars]:
    """Yield the plots that overlay runs. `key` makes their ids unique on the page."""
    if any(run.cost_usd for run in runs):
        yield cost_by_use(runs, f"{key}-cost-by-use")
    overlays: Sequence[tuple[str, str, Pick, Axis, bool]] = (
        ("ready", "Replicas ready", _ready, REPLICAS, True),
        ("ttft", "Time to first token, p95", _ttft_p95, Axis(title="seconds", kind="log", format="seconds"), True),
        ("missed", "SLO violations", _missed, Axis(title="share of requests", format="share", low=0), True),
        ("paid", "Cumulative cost", _paid, Axis(title="USD", format="usd", low=0), False),
    )
    for name, title, pick, axis, steps in overlays:
        chart = _overlay(runs, pick, axis, steps=steps)
        if any(np.isfinite(series.y).any() for series in chart.series):
            yield PagePlot(f"{key}-{name}", title, "", chart)
    cdfs = {s.name: s.cdf_s["ttft"] for s in runs if len(s.cdf_s["ttft"])}
    if cdfs:
        yield PagePlot(f"{key}-cdf", "Distribution of the time to first token", "", distributions(cdfs))


def sizes(data: RunData, group: str) -> Chart:
    """Return the chart of the arrival rate and of demand, desired and ready replicas.

    Marks show events.
    """
    unit_s, x_axis = _time_axis(data)
    ticks, end = data.sizes.at_s / unit_s, data.edges_s[-1] / unit_s
    edges, rate = stepped(data.edges_s / unit_s, data.rate_rps)
    series = [Series(name="arrivals", x=edges, y=rate, colour=GREY, shape="area")]
    lines = (
        ("demand", data.sizes.demand, "c2"),
        ("desired", data.sizes.desired, "c1"),
        ("ready", data.sizes.ready, "c3"),
    )
    for name, values, colour in lines:
        x, y = stepped(np.append(ticks, max(end, ticks[-1])), values) if len(ticks) else (ticks, values)
        series.append(Series(name=name, x=x, y=y, colour=colour, shape="step", right=True))
    for kind, (symbol, colour) in MARKS.items():
        marks = [m for m in data.marks if m.kind == kind]
        if marks:
            at, counts = np.array([m.at_s for m in marks]) / unit_s, np.array([float(m.count) for m in marks])
            series.append(Series(name=kind, x=at, y=counts, colour=colour, shape="marks", symbol=symbol))
    y_axis = Axis(title="requests per second", low=0)
    return Chart(x=x_axis, y=y_axis, right=REPLICAS, series=series, group=group)


def latency_plot(data: RunData, latency: str, group: str) -> Chart:
    """Return the chart of a latency's quantiles over time.

    It also shows the latency's SLO limit and the share of late requests.
    """
    unit_s, x_axis = _time_axis(data)
    series, slo = [], data.summary.slo
    if slo is not None:
        edges, missed = stepped(data.edges_s / unit_s, data.missed)
        series.append(Series(name="SLO violations", x=edges, y=missed, colour="late", shape="area", right=True))
    for (name, values), colour in zip(data.latency_s[latency].items(), ("c3", "c1", "c4"), strict=True):
        edges, values_ = stepped(data.edges_s / unit_s, np.where(values > 0, values, np.nan))
        series.append(Series(name=name, x=edges, y=values_, colour=colour, shape="step"))
    limit_s = None if slo is None else getattr(slo, f"{latency}_s")
    if limit_s is not None:
        series.append(level("SLO", limit_s))
    y_axis = Axis(title="seconds", kind="log", format="seconds")
    return Chart(x=x_axis, y=y_axis, right=None if slo is None else SHARE, series=series, group=group)


def cost(data: RunData, group: str) -> Chart:
    """Return the chart of the cost per hour by use, and of the cumulative cost in each market."""
    unit_s, x_axis = _time_axis(data)
    hours, edges = np.diff(data.edges_s) / HOUR_S, data.edges_s / unit_s
    series = []
    for use, values in data.cost_usd.items():
        x, y = stepped(edges, values / hours)
        series.append(Series(name=use, x=x, y=y, colour=USE_COLOURS[use], shape="stack"))
    for k, (market, paid) in enumerate(data.paid_usd.items()):
        name = f"cumulative, {market.replace('_', ' ')}"
        series.append(Series(name=name, x=edges, y=paid, colour="c6", right=True, dash=k > 0))
    y_axis = Axis(title="USD per hour", format="usd", low=0)
    right = Axis(title="cumulative USD", format="usd", low=0)
    return Chart(x=x_axis, y=y_axis, right=right, series=series, group=group)


def distributions(cdf_s: Mapping[str, Floats]) -> Chart:
    """Return the chart of latencies as cumulative distributions."""
    shares = np.linspace(0, 1, CDF_POINTS + 1)
    series = [
        Series(name=name, x=times[times > 0], y=shares[times > 0], colour=colour)
        for (name, times), colour in zip(cdf_s.items(), colours(len(cdf_s)), strict=True)
        if (times > 0).any()
    ]
    return Chart(
        x=Axis(title="seconds", kind="log", format="seconds"),
        y=Axis(title="share of requests", format="share", low=0, high=1.01),
        series=series,
    )


def cost_by_use(runs: Sequence[RunData], name: str) -> PageBars:
    """Return the cost by use as one bar for each run."""
    uses = [use for use in USE_COLOURS if any(s.summary.cost_by_use_usd.get(use, 0.0) for s in runs)]
    longest = max(sum(s.summary.cost_by_use_usd.values()) for s in runs) or 1.0
    rows = []
    for s in runs:
        costs = {use: s.summary.cost_by_use_usd.get(use, 0.0) for use in uses}
        parts = [
            BarPart(usd / longest, f"{use}: {dollars(usd)}", USE_COLOURS[use]) for use, usd in costs.items() if usd > 0
        ]
        rows.append((s.name, parts, dollars(s.summary.cost_usd)))
    return PageBars(name, "Cost by use", USED_NOTE, rows, [(use, USE_COLOURS[use]) for use in uses])


def level(name: str, value: float, colour: str = BAD) -> Series:
    """Return a dashed horizontal line."""
    return Series(name=name, x=np.zeros(1), y=np.array([value]), colour=colour, shape="level", dash=True)


def colours(count: int) -> list[str]:
    """Return the colours of as many series. They repeat after nine."""
    return [COLOURS[k % len(COLOURS)] for k in range(count)]


def _overlay(runs: Sequence[RunData], pick: Pick, axis: Axis, *, steps: bool) -> Chart:
    """Return the chart of one series of every run. `pick` returns its times and values."""
    unit_s, x_axis = _time_axis(max(runs, key=lambda s: float(s.edges_s[-1])))
    series = []
    for data, colour in zip(runs, colours(len(runs)), strict=True):
        at_s, values = pick(data)
        shape: Literal["step", "line"] = "step" if steps else "line"
        series.append(Series(name=data.name, x=at_s / unit_s, y=values, colour=colour, shape=shape))
    return Chart(x=x_axis, y=axis, series=series)


def _ready(data: RunData) -> tuple[Floats, Floats]:
    return data.sizes.at_s, data.sizes.ready


def _ttft_p95(data: RunData) -> tuple[Floats, Floats]:
    return stepped(data.edges_s, data.latency_s["ttft"]["p95"])


def _missed(data: RunData) -> tuple[Floats, Floats]:
    return stepped(data.edges_s, data.missed)


def _paid(data: RunData) -> tuple[Floats, Floats]:
    paid = list(data.paid_usd.values())
    return data.edges_s, np.sum(paid, axis=0) if paid else np.full(len(data.edges_s), np.nan)


def _time_axis(data: RunData) -> tuple[float, Axis]:
    """Return the time axis's unit in seconds, and the axis: hours for 3 hours to 3 days."""
    end_s = float(data.edges_s[-1])
    units = (("days", 86400.0), ("hours", HOUR_S), ("minutes", 60.0), ("seconds", 1.0))
    unit, size = next((unit, size) for unit, size in units if end_s >= 3 * size or size == 1.0)
    return size, Axis(title=f"{unit} since the start", low=0, high=end_s / size)


def _sampling_note(data: RunData) -> str:
    if data.summary.ticks <= len(data.sizes.at_s):
        return "Replicas at each tick."
    return "Each bin shows its worst ticks: the largest demand and desired replicas, the fewest ready replicas."
