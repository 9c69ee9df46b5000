"""Plots of a recorded period over its dates. Time without a tick is a gap in each line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from policies.recommend.predictive.latency_model import slo_limits_s
from policies.signals.latency_quantities import LATENCIES
from simulators.backtest.backtest import BacktestResult
from simulators.backtest.counterfactuals import SAME_SIZES
from simulators.backtest.period_summary import HOUR_S, PeriodSummary, binned, width_s
from simulators.backtest.recorded_run import RecordedRun
from simulators.reporting.html import COLOURS, PagePlot, figure, json_numbers, line, plot
from simulators.reporting.time_bins import Floats

MAX_POINTS: Final = 1200
"""The maximum number of points of a line, about the width of a plot."""
GREY, RED = "#7d8794", "#b42318"
BLIND: Final = "rgba(184, 134, 11, 0.18)"
GAP: Final = "rgba(125, 135, 148, 0.25)"
MAX_SHADES: Final = 60
"""The maximum number of shaded periods, the longest ones."""
REPLICAS: Final = {
    "title": {"text": "replicas"}, "overlaying": "y", "side": "right", "rangemode": "tozero", "tickmode": "auto",
    "showgrid": False,
}  # fmt: skip


def plots_of(result: BacktestResult, key: str) -> Iterator[PagePlot]:
    """Yield a workload's plots. `key` makes their ids unique on the page."""
    summary, recorded = result.summary, result.recorded
    note = "Shaded: ticks with incomplete observations (amber), and periods without ticks (grey)."
    yield plot(sizes(result), f"{key}-record-sizes", "Recorded traffic and replicas", note)
    if len(recorded.pools) > 1:
        yield plot(pools(recorded), f"{key}-record-pools", "Desired replicas by pool")
    if _latencies(recorded):
        note = f"Bars: SLO violations per {_bin_name(recorded)}, {summary.late_method}."
        if summary.total(summary.late) is None:
            note = f"SLO violations are unknown: {summary.late_method}."
        yield plot(latencies(summary), f"{key}-record-late", "Recorded p95 latency", note)
    if summary.total(summary.usd) is not None:
        note = f"Cost per {_bin_name(recorded)}, and its idle part: the cost of replicas above the load."
        yield plot(money(summary), f"{key}-record-money", "Cost", note)
    if result.counterfactuals is not None:
        note = "Desired replicas: as recorded, and of each policy on the rebuilt requests."
        yield plot(counterfactual_sizes(result), f"{key}-record-others", "Desired replicas of other policies", note)


def sizes(result: BacktestResult) -> Any:
    """Return the plot of the request rate with demand, desired and ready replicas."""
    recorded = result.recorded
    chart = figure(
        yaxis={"title": {"text": "requests per second"}, "rangemode": "tozero"},
        yaxis2=dict(REPLICAS),
        xaxis=_x_axis(recorded),
    )
    rate = _rate(result)
    if rate is not None:
        chart.add_trace(_line("requests", *rate, GREY, fill="tozeroy", width=0.6))
    else:
        chart.update_yaxes(title={"text": ""}, selector={"overlaying": None})
    desired = recorded.desired()
    lines = (
        ("demand", recorded.columns["demand"], "#d9622b", np.fmax),
        ("desired", desired, "#2f6fde", np.fmax),
        ("ready", recorded.columns["ready"], "#14937f", np.fmin),
    )
    for name, values, colour, worst in lines:
        chart.add_trace(_line(name, *thinned(recorded, values, worst), colour, shape="hv", yaxis="y2"))
    for left, right, colour in _shades(recorded):
        chart.add_vrect(x0=_date(left), x1=_date(right), fillcolor=colour, line_width=0, layer="below")
    return chart


def pools(recorded: RecordedRun) -> Any:
    """Return the stacked plot of the pools' desired replicas."""
    chart = figure(yaxis={"title": {"text": "replicas"}, "rangemode": "tozero"}, xaxis=_x_axis(recorded))
    for k, (name, columns) in enumerate(recorded.pools.items()):
        spec = recorded.spec.pools.get(name)
        label = name if spec is None else f"{name} ({spec.market.replace('_', ' ')})"
        time_s, values = thinned(recorded, columns["desired"], np.fmax)
        chart.add_trace(
            _line(label, time_s, values, COLOURS[k % len(COLOURS)], shape="hv", stackgroup="pools", width=0.6)
        )
    return chart


def latencies(summary: PeriodSummary) -> Any:
    """Return the plot of the recorded P95 latencies, the SLO's limits and the late requests."""
    recorded = summary.recorded
    chart = figure(
        yaxis={"title": {"text": "seconds"}, "type": "log", "dtick": "D2"},
        yaxis2={**REPLICAS, "title": {"text": "SLO violations"}},
        xaxis=_x_axis(recorded),
    )
    begins, late = binned(recorded, summary.late)
    if np.isfinite(late).any():
        width_ms = width_s(recorded) * 1000.0
        chart.add_trace(
            go.Bar(name="SLO violations", x=_dates(begins), y=json_numbers(late), width=[width_ms] * len(late),
                   offset=0, yaxis="y2", marker={"color": "rgba(180, 35, 24, 0.35)", "line": {"width": 0}})
        )  # fmt: skip
    ends = np.array([recorded.at[0], recorded.at[-1]])
    for k, ((source, quantity), limit_s) in enumerate(_latencies(recorded).items()):
        values = recorded.readings[f"{source}.{quantity}"]  # type: ignore[index]
        time_s, tails = thinned(recorded, np.where(values > 0, values, np.nan), np.fmax)
        colour = COLOURS[(k + 2) % len(COLOURS)]
        chart.add_trace(_line(f"{source}.{quantity}", time_s, tails, colour))
        if limit_s is not None:
            name = f"SLO, {quantity.partition('_')[0].upper()}"
            chart.add_trace(_line(name, ends, np.array([limit_s, limit_s]), colour, dash="dash"))
    return chart


def money(summary: PeriodSummary) -> Any:
    """Return the plot of the cost by pool, its idle part, and the cumulative cost."""
    recorded = summary.recorded
    chart = figure(
        barmode="stack",
        yaxis={"title": {"text": "USD"}, "rangemode": "tozero"},
        yaxis2={**REPLICAS, "title": {"text": "cumulative USD"}},
        xaxis=_x_axis(recorded),
    )
    for k, name in enumerate(recorded.pools):
        spec = recorded.spec.pools.get(name)
        if spec is not None and spec.price_usd_per_hour is not None:
            usd = summary.paid[name] * spec.price_usd_per_hour * recorded.over_s / HOUR_S
            chart.add_trace(_bars(str(name), recorded, usd, COLOURS[k % len(COLOURS)]))
    begins, idle = binned(recorded, summary.idle_usd)
    if np.isfinite(idle).any():
        edges = np.append(begins, begins[-1] + width_s(recorded))
        chart.add_trace(_line("idle cost", edges, np.append(idle, idle[-1]), RED, shape="hv"))
    time_s, so_far = thinned(recorded, np.cumsum(np.nan_to_num(summary.usd)), np.fmax)
    chart.add_trace(_line("cumulative", time_s, so_far, "#c43d6b", yaxis="y2"))
    return chart


def counterfactual_sizes(result: BacktestResult) -> Any:
    """Return the plot of the recorded sizes and those of every simulated policy."""
    recorded = result.recorded
    chart = figure(yaxis={"title": {"text": "replicas"}, "rangemode": "tozero"}, xaxis=_x_axis(recorded))
    chart.add_trace(_line("recorded", *thinned(recorded, recorded.desired(), np.fmax), GREY, shape="hv", width=3.0))
    outcomes = [o for o in result.counterfactuals.outcomes if o.name != SAME_SIZES] if result.counterfactuals else []
    for k, outcome in enumerate(outcomes):
        starts = _group_starts(len(outcome.size_s))
        time_s = outcome.size_s[starts] + recorded.at[0]
        size = np.fmax.reduceat(outcome.size, starts)
        chart.add_trace(_line(outcome.name, time_s, size, COLOURS[k % len(COLOURS)], shape="hv"))
    return chart


def thinned(recorded: RecordedRun, values: Floats, worst: Any) -> tuple[Floats, Floats]:
    """Return times and the worst value of each of at most `MAX_POINTS` groups of ticks.

    A NaN stands in each gap.
    """
    starts = _group_starts(len(recorded))
    silent = recorded.at[:-1] + 2.0 * recorded.over_s[:-1] < recorded.at[1:]
    ends = np.flatnonzero(silent)  # the last ticks before gaps: a line ends there
    starts = np.union1d(starts, ends + 1)
    time_s, thinned_values = recorded.at[starts], worst.reduceat(np.asarray(values, np.float64), starts)
    positions = np.searchsorted(starts, ends + 1)
    return (
        np.insert(time_s, positions, recorded.at[ends] + recorded.over_s[ends]),
        np.insert(thinned_values, positions, np.full(len(ends), np.nan)),
    )


def _group_starts(ticks: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.unique(np.linspace(0, ticks, min(ticks, MAX_POINTS), endpoint=False).astype(np.int64))


def _rate(result: BacktestResult) -> tuple[Floats, Floats] | None:
    """Return the rebuilt request rate, else the recorded one."""
    recorded = result.recorded
    if result.world is not None:
        rebuilt = result.world.rebuilt
        time_s = recorded.at[0] + (rebuilt.edges_s[:-1] + rebuilt.edges_s[1:]) / 2
        tick = np.clip(np.searchsorted(recorded.at, time_s, side="right") - 1, 0, len(recorded) - 1)
        recorded_near = time_s - recorded.at[tick] <= 2.0 * recorded.over_s[tick]
        starts = _group_starts(len(time_s))
        return time_s[starts], np.fmax.reduceat(np.where(recorded_near, rebuilt.rate_rps, np.nan), starts)
    for source in recorded.spec.sources:
        values = recorded.reading(source, "requests_per_s")
        if values is not None:
            return thinned(recorded, values, np.fmax)
    return None


def _latencies(recorded: RecordedRun) -> Mapping[tuple[str, str], float | None]:
    """Return the recorded P95 latencies as (source, quantity), each with its SLO limit."""
    return {
        (source, latency.p95): slo_limits_s(recorded.spec).get(key)
        for source in recorded.spec.sources
        for key, latency in LATENCIES.items()
        if recorded.reading(source, latency.p95) is not None
    }


def _shades(recorded: RecordedRun) -> list[tuple[float, float, str]]:
    """Return the periods without full evidence or without ticks, each with its colour."""
    time_s, over_s = recorded.at, recorded.over_s
    edges = np.flatnonzero(np.diff(np.concatenate(([0], (recorded.columns["blind"] > 0).astype(np.int8), [0]))))
    shades = [
        (float(time_s[a]), float(time_s[b - 1] + over_s[b - 1]), BLIND)
        for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]
    silent = np.flatnonzero(time_s[:-1] + 2.0 * over_s[:-1] < time_s[1:])
    shades += [(float(time_s[k] + over_s[k]), float(time_s[k + 1]), GAP) for k in silent]
    return sorted(shades, key=lambda shade: shade[0] - shade[1])[:MAX_SHADES]


def _bin_name(recorded: RecordedRun) -> str:
    """Return the length of the summed periods as text."""
    return {3600.0: "hour", 600.0: "10 minutes", 60.0: "minute"}[width_s(recorded)]


def _bars(name: str, recorded: RecordedRun, values: Floats, colour: str) -> Any:
    begins, sums = binned(recorded, values)
    width_ms = [width_s(recorded) * 1000.0] * len(begins)
    style = {"color": colour, "line": {"width": 0}}
    return go.Bar(name=name, x=_dates(begins), y=json_numbers(sums), width=width_ms, offset=0, marker=style)


def _line(name: str, time_s: Floats, values: Floats, colour: str, **options: Any) -> Any:
    return line(name, _dates(time_s), values, colour, connectgaps=False, **options)


def _x_axis(recorded: RecordedRun) -> dict[str, Any]:
    ends = [_date(float(recorded.at[0])), _date(float(recorded.at[-1]) + recorded.interval_s)]
    return {"type": "date", "title": {"text": "UTC"}, "range": ends}


def _dates(time_s: Floats) -> list[str]:
    return [_date(float(t)) for t in time_s]


def _date(time_s: float) -> str:
    return datetime.fromtimestamp(round(time_s), UTC).strftime("%Y-%m-%d %H:%M:%S")
