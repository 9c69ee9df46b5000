"""The plots of a recorded period, over its own dates. Where nothing was recorded is a gap, and no line over it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from policies.recommend.predictive.latency_model import slo_limits_s
from policies.signals.latency_quantities import LATENCIES
from simulators.backtest.backtest import BacktestResult
from simulators.backtest.counterfactuals import SAME
from simulators.backtest.period_summary import HOUR_S, PeriodSummary, binned, width_s
from simulators.backtest.recorded_run import RecordedRun
from simulators.reporting.html import COLOURS, PagePlot, figure, plot
from simulators.reporting.time_bins import Floats, rounded

MAX_POINTS: Final = 1200
"""Finer than a plot is wide shows nothing more."""
GREY, RED = "#7d8794", "#b42318"
BLIND: Final = "rgba(184, 134, 11, 0.18)"
GAP: Final = "rgba(125, 135, 148, 0.25)"
MOST_SHADES: Final = 60
"""Stretches shaded, the longest ones."""
REPLICAS: Final = {
    "title": {"text": "replicas"}, "overlaying": "y", "side": "right", "rangemode": "tozero", "tickmode": "auto",
    "showgrid": False,
}  # fmt: skip


def of(looked: BacktestResult, key: str) -> Iterator[PagePlot]:
    """Yield a workload's plots. `key` tells it from the page's others."""
    found, recorded = looked.found, looked.recorded
    said = "Shaded: turns without full evidence (amber), and no turns at all (grey)."
    yield plot(sizes(looked), f"{key}-record-sizes", "Traffic and replicas, as recorded", said)
    if len(recorded.pools) > 1:
        yield plot(pools(recorded), f"{key}-record-pools", "Replicas asked for, by pool")
    if _latencies(recorded):
        bars = f" Bars: requests late in each {_each(recorded)}, {found.late_how}."
        yield plot(latencies(found), f"{key}-record-late", "Latency, p95 as read", bars.strip())
    if found.total(found.usd) is not None:
        said = f"What was asked for in each {_each(recorded)}, and what of it exceeded the work."
        yield plot(money(found), f"{key}-record-money", "Money", said)
    if looked.others is not None:
        said = "Replicas asked for: as recorded, and by each policy on the rebuilt requests."
        yield plot(beside(looked), f"{key}-record-beside", "What others would have asked for", said)


def sizes(looked: BacktestResult) -> Any:
    """Return the rate of requests, and over it what was wanted, asked for and ready."""
    recorded = looked.recorded
    made = figure(
        yaxis={"title": {"text": "requests a second"}, "rangemode": "tozero"},
        yaxis2=dict(REPLICAS),
        xaxis=_span(recorded),
    )
    rate = _rate(looked)
    if rate is not None:
        made.add_trace(_line("requests", *rate, GREY, fill="tozeroy", width=0.6))
    else:
        made.update_yaxes(title={"text": ""}, selector={"overlaying": None})
    asked = recorded.asked()
    lines = (
        ("demand", recorded.columns["demand"], "#d9622b", np.fmax),
        ("asked for", asked, "#2f6fde", np.fmax),
        ("ready", recorded.columns["ready"], "#14937f", np.fmin),
    )
    for name, values, colour, worst in lines:
        made.add_trace(_line(name, *thinned(recorded, values, worst), colour, shape="hv", yaxis="y2"))
    for left, right, colour in _shades(recorded):
        made.add_vrect(x0=_date(left), x1=_date(right), fillcolor=colour, line_width=0, layer="below")
    return made


def pools(recorded: RecordedRun) -> Any:
    """Return every pool's size, stacked."""
    made = figure(yaxis={"title": {"text": "replicas"}, "rangemode": "tozero"}, xaxis=_span(recorded))
    for k, (name, columns) in enumerate(recorded.pools.items()):
        spec = recorded.spec.pools.get(name)
        label = name if spec is None else f"{name} ({spec.market.replace('_', ' ')})"
        at, values = thinned(recorded, columns["desired"], np.fmax)
        made.add_trace(_line(label, at, values, COLOURS[k % len(COLOURS)], shape="hv", stackgroup="pools", width=0.6))
    return made


def latencies(found: PeriodSummary) -> Any:
    """Return the tails as read, with what is promised, and the requests that were late."""
    recorded = found.recorded
    made = figure(
        yaxis={"title": {"text": "seconds"}, "type": "log", "dtick": "D2"},
        yaxis2={**REPLICAS, "title": {"text": "requests late"}},
        xaxis=_span(recorded),
    )
    begins, late = binned(recorded, found.late)
    if np.isfinite(late).any():
        width_ms = width_s(recorded) * 1000.0
        made.add_trace(
            go.Bar(name="late", x=_dates(begins), y=_numbers(late), width=[width_ms] * len(late), offset=0, yaxis="y2",
                   marker={"color": "rgba(180, 35, 24, 0.35)", "line": {"width": 0}})
        )  # fmt: skip
    ends = np.array([recorded.at[0], recorded.at[-1]])
    for k, ((source, quantity), limit_s) in enumerate(_latencies(recorded).items()):
        values = recorded.readings[f"{source}.{quantity}"]  # type: ignore[index]
        at, tails = thinned(recorded, np.where(values > 0, values, np.nan), np.fmax)
        colour = COLOURS[(k + 2) % len(COLOURS)]
        made.add_trace(_line(f"{source}.{quantity}", at, tails, colour))
        if limit_s is not None:
            promised = f"promised, {quantity.partition('_')[0].upper()}"
            made.add_trace(_line(promised, ends, np.array([limit_s, limit_s]), colour, dash="dash"))
    return made


def money(found: PeriodSummary) -> Any:
    """Return the cost of each stretch by pool, its idle part, and the sum paid so far."""
    recorded = found.recorded
    made = figure(
        barmode="stack",
        yaxis={"title": {"text": "USD"}, "rangemode": "tozero"},
        yaxis2={**REPLICAS, "title": {"text": "USD so far"}},
        xaxis=_span(recorded),
    )
    for k, name in enumerate(recorded.pools):
        spec = recorded.spec.pools.get(name)
        if spec is not None and spec.price_usd_per_hour is not None:
            usd = found.paid[name] * spec.price_usd_per_hour * recorded.over_s / HOUR_S
            made.add_trace(_bars(str(name), recorded, usd, COLOURS[k % len(COLOURS)]))
    begins, idle = binned(recorded, found.idle_usd)
    if np.isfinite(idle).any():
        edges = np.append(begins, begins[-1] + width_s(recorded))
        made.add_trace(_line("beyond the work", edges, np.append(idle, idle[-1]), RED, shape="hv"))
    at, so_far = thinned(recorded, np.cumsum(np.nan_to_num(found.usd)), np.fmax)
    made.add_trace(_line("so far", at, so_far, "#c43d6b", yaxis="y2"))
    return made


def beside(looked: BacktestResult) -> Any:
    """Return the sizes recorded, and those of every policy simulated."""
    recorded = looked.recorded
    made = figure(yaxis={"title": {"text": "replicas"}, "rangemode": "tozero"}, xaxis=_span(recorded))
    made.add_trace(_line("recorded", *thinned(recorded, recorded.asked(), np.fmax), GREY, shape="hv", width=3.0))
    outcomes = [o for o in looked.others.outcomes if o.name != SAME] if looked.others else []
    for k, outcome in enumerate(outcomes):
        firsts = _firsts(len(outcome.size_s))
        at = outcome.size_s[firsts] + recorded.at[0]
        size = np.fmax.reduceat(outcome.size, firsts)
        made.add_trace(_line(outcome.name, at, size, COLOURS[k % len(COLOURS)], shape="hv"))
    return made


def thinned(recorded: RecordedRun, values: Floats, worst: Any) -> tuple[Floats, Floats]:
    """Return times and values: of many ticks the worst in each of `MAX_POINTS`, with a gap where no tick was taken."""
    firsts = _firsts(len(recorded))
    silent = recorded.at[:-1] + 2.0 * recorded.over_s[:-1] < recorded.at[1:]
    ends = np.flatnonzero(silent)  # a turn that none followed: its line ends, and the next begins a line of its own
    firsts = np.union1d(firsts, ends + 1)
    at, found = recorded.at[firsts], worst.reduceat(np.asarray(values, np.float64), firsts)
    where = np.searchsorted(firsts, ends + 1)
    return (
        np.insert(at, where, recorded.at[ends] + recorded.over_s[ends]),
        np.insert(found, where, np.full(len(ends), np.nan)),
    )


def _firsts(turns: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.unique(np.linspace(0, turns, min(turns, MAX_POINTS), endpoint=False).astype(np.int64))


def _rate(looked: BacktestResult) -> tuple[Floats, Floats] | None:
    """Return requests a second, as rebuilt; as read where nothing was."""
    recorded = looked.recorded
    if looked.world is not None:
        rebuilt = looked.world.rebuilt
        at = recorded.at[0] + (rebuilt.edges_s[:-1] + rebuilt.edges_s[1:]) / 2
        place = np.clip(np.searchsorted(recorded.at, at, side="right") - 1, 0, len(recorded) - 1)
        seen = at - recorded.at[place] <= 2.0 * recorded.over_s[place]
        firsts = _firsts(len(at))
        return at[firsts], np.fmax.reduceat(np.where(seen, rebuilt.rate_rps, np.nan), firsts)
    for source in recorded.spec.sources:
        values = recorded.reading(source, "requests_per_s")
        if values is not None:
            return thinned(recorded, values, np.fmax)
    return None


def _latencies(recorded: RecordedRun) -> Mapping[tuple[str, str], float | None]:
    """Return the tails that were read, with the promise about each."""
    return {
        (source, latency.p95): slo_limits_s(recorded.spec).get(key)
        for source in recorded.spec.sources
        for key, latency in LATENCIES.items()
        if recorded.reading(source, latency.p95) is not None
    }


def _shades(recorded: RecordedRun) -> list[tuple[float, float, str]]:
    """Stretches that were blind, or in which no turn was taken."""
    at, over_s = recorded.at, recorded.over_s
    edges = np.flatnonzero(np.diff(np.concatenate(([0], (recorded.columns["blind"] > 0).astype(np.int8), [0]))))
    found = [
        (float(at[a]), float(at[b - 1] + over_s[b - 1]), BLIND) for a, b in zip(edges[::2], edges[1::2], strict=True)
    ]
    silent = np.flatnonzero(at[:-1] + 2.0 * over_s[:-1] < at[1:])
    found += [(float(at[k] + over_s[k]), float(at[k + 1]), GAP) for k in silent]
    return sorted(found, key=lambda shade: shade[0] - shade[1])[:MOST_SHADES]


def _each(recorded: RecordedRun) -> str:
    """Return the stretches that are added up, in words."""
    return {3600.0: "hour", 600.0: "ten minutes", 60.0: "minute"}[width_s(recorded)]


def _bars(name: str, recorded: RecordedRun, values: Floats, colour: str) -> Any:
    begins, sums = binned(recorded, values)
    width_ms = [width_s(recorded) * 1000.0] * len(begins)
    style = {"color": colour, "line": {"width": 0}}
    return go.Bar(name=name, x=_dates(begins), y=_numbers(sums), width=width_ms, offset=0, marker=style)


def _line(name: str, at: Floats, values: Floats, colour: str, **more: Any) -> Any:
    style: dict[str, Any] = {"color": colour, "width": 1.6}
    style |= {key: more.pop(key) for key in ("shape", "width", "dash") if key in more}
    return go.Scatter(name=name, x=_dates(at), y=_numbers(values), mode="lines", line=style, connectgaps=False, **more)


def _span(recorded: RecordedRun) -> dict[str, Any]:
    ends = [_date(float(recorded.at[0])), _date(float(recorded.at[-1]) + recorded.interval_s)]
    return {"type": "date", "title": {"text": "UTC"}, "range": ends}


def _dates(at: Floats) -> list[str]:
    return [_date(float(t)) for t in at]


def _date(at: float) -> str:
    return datetime.fromtimestamp(round(at), UTC).strftime("%Y-%m-%d %H:%M:%S")


def _numbers(values: Floats) -> list[float | None]:
    """Values as JSON has them: null for what is no number."""
    return [v if np.isfinite(v) else None for v in rounded(values).tolist()]
