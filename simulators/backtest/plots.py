"""Plots of a recorded period over its dates. Time without a tick is a gap in each line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np

from policies.recommend.predictive.latency_model import slo_limits_s
from policies.signals.latency_quantities import LATENCIES
from simulators.backtest.backtest import BacktestResult
from simulators.backtest.counterfactuals import SAME_SIZES
from simulators.backtest.period_summary import HOUR_S, PeriodSummary, binned, width_s
from simulators.backtest.recorded_run import RecordedRun
from simulators.reporting.charts import BAD, GREY, Axis, Chart, Series, Shape, stepped
from simulators.reporting.html import PagePlot
from simulators.reporting.plots import REPLICAS, colours, level
from simulators.reporting.time_bins import Floats

MAX_POINTS: Final = 1200
"""The maximum number of points of a line, about the width of a plot."""
MAX_SHADES: Final = 60
"""The maximum number of shaded periods, the longest ones."""


def plots_of(result: BacktestResult, key: str) -> Iterator[PagePlot]:
    """Yield a workload's plots. `key` makes their ids unique on the page."""
    summary, recorded = result.summary, result.recorded
    note = "Shaded: ticks with incomplete observations (amber), and periods without ticks (grey)."
    yield PagePlot(f"{key}-record-sizes", "Recorded traffic and replicas", note, sizes(result, key))
    if len(recorded.pools) > 1:
        yield PagePlot(f"{key}-record-pools", "Desired replicas by pool", "", pools(recorded, key))
    if _latencies(recorded):
        note = f"Areas: SLO violations per {_bin_name(recorded)}, {summary.late_method}."
        if summary.total(summary.late) is None:
            note = f"SLO violations are unknown: {summary.late_method}."
        yield PagePlot(f"{key}-record-late", "Recorded p95 latency", note, latencies(summary, key))
    if summary.total(summary.usd) is not None:
        note = f"Cost per {_bin_name(recorded)}, and its idle part: the cost of replicas above the load."
        yield PagePlot(f"{key}-record-money", "Cost", note, money(summary, key))
    if result.counterfactuals is not None:
        note = "Desired replicas: as recorded, and of each policy on the rebuilt requests."
        chart = counterfactual_sizes(result, key)
        yield PagePlot(f"{key}-record-others", "Desired replicas of other policies", note, chart)


def sizes(result: BacktestResult, group: str) -> Chart:
    """Return the chart of the request rate with demand, desired and ready replicas."""
    recorded = result.recorded
    rate, series = _rate(result), []
    if rate is not None:
        series.append(Series(name="requests", x=rate[0], y=rate[1], colour=GREY, shape="area"))
    lines = (
        ("demand", recorded.columns["demand"], "c2", np.fmax),
        ("desired", recorded.desired(), "c1", np.fmax),
        ("ready", recorded.columns["ready"], "c3", np.fmin),
    )
    series += [
        _steps(name, *thinned(recorded, values, worst), colour, right=rate is not None)
        for name, values, colour, worst in lines
    ]
    y_axis = Axis(title="requests per second", low=0) if rate is not None else REPLICAS
    right = REPLICAS if rate is not None else None
    return Chart(x=_x_axis(recorded), y=y_axis, right=right, series=series, bands=_shades(recorded), group=group)


def pools(recorded: RecordedRun, group: str) -> Chart:
    """Return the stacked chart of the pools' desired replicas."""
    series = []
    for (name, columns), colour in zip(recorded.pools.items(), colours(len(recorded.pools)), strict=True):
        spec = recorded.spec.pools.get(name)
        label = str(name) if spec is None else f"{name} ({spec.market.replace('_', ' ')})"
        time_s, values = thinned(recorded, columns["desired"], np.fmax)
        series.append(Series(name=label, x=time_s, y=values, colour=colour, shape="stack"))
    return Chart(x=_x_axis(recorded), y=REPLICAS, series=series, group=group)


def latencies(summary: PeriodSummary, group: str) -> Chart:
    """Return the chart of the recorded P95 latencies, the SLO's limits and the late requests."""
    recorded, series = summary.recorded, []
    late = _binned("SLO violations", recorded, summary.late, "late", right=True)
    has_late = bool(np.isfinite(late.y).any())
    if has_late:
        series.append(late)
    shown = _latencies(recorded)
    for ((source, quantity), limit_s), colour in zip(shown.items(), colours(len(shown) + 2)[2:], strict=True):
        values = recorded.readings[f"{source}.{quantity}"]  # type: ignore[index]
        time_s, tails = thinned(recorded, np.where(values > 0, values, np.nan), np.fmax)
        series.append(Series(name=f"{source}.{quantity}", x=time_s, y=tails, colour=colour))
        if limit_s is not None:
            series.append(level(f"SLO, {quantity.partition('_')[0].upper()}", limit_s, colour))
    return Chart(
        x=_x_axis(recorded),
        y=Axis(title="seconds", kind="log", format="seconds"),
        right=Axis(title="SLO violations", low=0) if has_late else None,
        series=series,
        group=group,
    )


def money(summary: PeriodSummary, group: str) -> Chart:
    """Return the chart of the cost by pool, its idle part, and the cumulative cost."""
    recorded, series = summary.recorded, []
    for name, colour in zip(recorded.pools, colours(len(recorded.pools)), strict=True):
        spec = recorded.spec.pools.get(name)
        if spec is not None and spec.price_usd_per_hour is not None:
            usd = summary.paid[name] * spec.price_usd_per_hour * recorded.over_s / HOUR_S
            series.append(_binned(str(name), recorded, usd, colour, shape="stack"))
    idle = _binned("idle cost", recorded, summary.idle_usd, BAD, shape="step")
    if np.isfinite(idle.y).any():
        series.append(idle)
    time_s, so_far = thinned(recorded, np.cumsum(np.nan_to_num(summary.usd)), np.fmax)
    series.append(Series(name="cumulative", x=time_s, y=so_far, colour="c6", right=True))
    return Chart(
        x=_x_axis(recorded),
        y=Axis(title="USD", format="usd", low=0),
        right=Axis(title="cumulative USD", format="usd", low=0),
        series=series,
        group=group,
    )


def counterfactual_sizes(result: BacktestResult, group: str) -> Chart:
    """Return the chart of the recorded sizes and those of every simulated policy."""
    recorded = result.recorded
    series = [_steps("recorded", *thinned(recorded, recorded.desired(), np.fmax), GREY)]
    outcomes = [o for o in result.counterfactuals.outcomes if o.name != SAME_SIZES] if result.counterfactuals else []
    for outcome, colour in zip(outcomes, colours(len(outcomes)), strict=True):
        starts = _group_starts(len(outcome.size_s))
        time_s = outcome.size_s[starts] + recorded.at[0]
        series.append(_steps(outcome.name, time_s, np.fmax.reduceat(outcome.size, starts), colour))
    return Chart(x=_x_axis(recorded), y=REPLICAS, series=series, group=group)


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
        (float(time_s[a]), float(time_s[b - 1] + over_s[b - 1]), "blind")
        for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]
    silent = np.flatnonzero(time_s[:-1] + 2.0 * over_s[:-1] < time_s[1:])
    shades += [(float(time_s[k] + over_s[k]), float(time_s[k + 1]), "gap") for k in silent]
    return sorted(shades, key=lambda shade: shade[0] - shade[1])[:MAX_SHADES]


def _bin_name(recorded: RecordedRun) -> str:
    """Return the length of the summed periods as text."""
    return {3600.0: "hour", 600.0: "10 minutes", 60.0: "minute"}[width_s(recorded)]


def _binned(  # noqa: PLR0913 - the series' parts
    name: str, recorded: RecordedRun, values: Floats, colour: str, *, shape: Shape = "area", right: bool = False
) -> Series:
    """Return the sums of the ranked periods as steps."""
    begins, sums = binned(recorded, values)
    x, y = stepped(np.append(begins, begins[-1] + width_s(recorded)), sums)
    return Series(name=name, x=x, y=y, colour=colour, shape=shape, right=right)


def _steps(name: str, time_s: Floats, values: Floats, colour: str, *, right: bool = False) -> Series:
    return Series(name=name, x=time_s, y=values, colour=colour, shape="step", right=right)


def _x_axis(recorded: RecordedRun) -> Axis:
    end_s = float(recorded.at[-1]) + recorded.interval_s
    return Axis(title="UTC", kind="utc", format="utc", low=float(recorded.at[0]), high=end_s)
