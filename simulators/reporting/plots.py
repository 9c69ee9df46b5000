"""The plots of one run, and of several over one another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from simulators.reporting.cost_series import HOUR_S, USES
from simulators.reporting.html import COLOURS, PagePlot, figure, plot
from simulators.reporting.run_data import CDF_POINTS, Mark, RunData
from simulators.reporting.time_bins import Floats, rounded

TITLES: Final = {"ttft": "Time to first token", "itl": "Time between tokens, mean of a request", "e2e": "Whole request"}
USE_COLOURS: Final = dict(
    zip(USES, ("#14937f", "#b8860b", "#2f6fde", "#9a4fd0", "#b42318", "#4f7f9c", "#8d6e63"), strict=True)
)
MARKS: Final = {
    "scaled up": ("triangle-up", "#2f6fde"),
    "scaled down": ("triangle-down", "#4f7f9c"),
    "notice": ("diamond-open", "#b8860b"),
    "interrupted": ("x", "#b42318"),
    "failed": ("x", "#b42318"),
    "cut": ("cross", "#9a4fd0"),
}
USED: Final = "Used is time with one request at least in work: a replica may be used and far from full."
MISSED: Final = "rgba(180, 35, 24, 0.35)"


def of_run(data: RunData, key: str) -> Iterator[PagePlot]:
    """Yield a run's plots. `key` tells it from the page's other runs."""
    yield plot(sizes(data), f"{key}-sizes", "Traffic and replicas", _sampled(data))
    for what in data.latency_s:
        said = "Quantiles of the requests by when they arrived; bars: share of all requests that missed the SLO."
        yield plot(latency(data, what), f"{key}-{what}", TITLES[what], said)
    if data.cost_usd:
        said = "Areas: what the time was for (used: with one request at least in work); lines: paid so far."
        yield plot(cost(data), f"{key}-cost", "Money", said)
    if any(len(cdf) for cdf in data.cdf_s.values()):
        said = "Share of the finished requests that took at most so long."
        yield plot(distributions({f"{k.upper() if k != 'e2e' else k}": c for k, c in data.cdf_s.items()}),
                   f"{key}-cdf", "Distribution of latencies", said)  # fmt: skip


def of_runs(runs: Sequence[RunData], key: str = "all") -> Iterator[PagePlot]:
    """Yield the plots that lay runs over one another. `key` tells them from the page's others."""
    yield plot(cost_by_use(runs), f"{key}-cost-by-use", "Cost by what it was for", USED)
    yield plot(_over(runs, _ready, "replicas ready", shape="hv"), f"{key}-ready", "Replicas ready")
    yield plot(_over(runs, _ttft_p95, "seconds", log=True), f"{key}-ttft", "Time to first token, p95")
    yield plot(_over(runs, _missed, "share of requests", shape="hv"), f"{key}-missed", "Missed the SLO")
    yield plot(_over(runs, _paid, "USD"), f"{key}-paid", "Paid so far")
    told = {s.name: s.cdf_s["ttft"] for s in runs if len(s.cdf_s["ttft"])}
    if told:
        yield plot(distributions(told), f"{key}-cdf", "Distribution of the time to first token")


def sizes(data: RunData) -> Any:
    """Return the rate of arrivals, and over it what was wanted, asked for and ready, with marks for what happened."""
    per, unit = _clock(data)
    made = figure(
        xaxis={"title": {"text": unit}, "range": [0, float(data.edges_s[-1] / per)]},
        yaxis={"title": {"text": "requests a second"}, "rangemode": "tozero"},
        yaxis2={"title": {"text": "replicas"}, "overlaying": "y", "side": "right", "rangemode": "tozero",
                "tickmode": "auto", "showgrid": False},
    )  # fmt: skip
    at = _numbers(data.edges_s[:-1] / per)
    made.add_trace(_line("arrivals", at, data.rate_rps, "#7d8794", shape="hv", fill="tozeroy", width=0.6))
    turns = _numbers(data.sizes.at_s / per)
    lines = (("demand", data.sizes.demand, "#d9622b"), ("desired", data.sizes.desired, "#2f6fde"),
             ("ready", data.sizes.ready, "#14937f"))  # fmt: skip
    for name, values, colour in lines:
        made.add_trace(_line(name, turns, values, colour, shape="hv", yaxis="y2"))
    top = np.nanmax(np.concatenate(([1.0], data.sizes.desired, data.sizes.ready)))
    for what in MARKS:
        found = [m for m in data.marks if m.what == what]
        if found:
            made.add_trace(_marks(found, per, float(top) * 1.08))
    return made


def latency(data: RunData, what: str) -> Any:
    """Return a latency's quantiles over time, the limit promised, and the share of requests that missed the SLO."""
    per, unit = _clock(data)
    made = figure(
        xaxis={"title": {"text": unit}, "range": [0, float(data.edges_s[-1] / per)]},
        yaxis={"title": {"text": "seconds"}, "type": "log", "dtick": "D2"},
        yaxis2={"title": {"text": "share missed"}, "overlaying": "y", "side": "right", "range": [0, 1],
                "tickmode": "auto", "showgrid": False, "tickformat": ".0%"},
    )  # fmt: skip
    at = _numbers(data.edges_s[:-1] / per)
    width = _numbers(np.diff(data.edges_s) / per)
    made.add_trace(
        go.Bar(name="missed the SLO", x=at, y=_numbers(data.missed), width=width, offset=0, yaxis="y2",
               marker={"color": MISSED, "line": {"width": 0}})
    )  # fmt: skip
    for (name, values), colour in zip(data.latency_s[what].items(), ("#14937f", "#2f6fde", "#9a4fd0"), strict=True):
        made.add_trace(_line(name, at, np.where(values > 0, values, np.nan), colour, shape="hv"))
    limit = getattr(data.slo, f"{what}_s")
    if limit is not None:
        ends = [0.0, float(data.edges_s[-1] / per)]
        made.add_trace(_line("promised", ends, np.array([limit, limit]), "#b42318", dash="dash"))
    return made


def cost(data: RunData) -> Any:
    """Return the cost per hour by use, and the amount paid so far in each market."""
    per, unit = _clock(data)
    made = figure(
        xaxis={"title": {"text": unit}, "range": [0, float(data.edges_s[-1] / per)]},
        yaxis={"title": {"text": "USD an hour"}, "rangemode": "tozero"},
        yaxis2={"title": {"text": "USD so far"}, "overlaying": "y", "side": "right", "rangemode": "tozero",
                "tickmode": "auto", "showgrid": False},
    )  # fmt: skip
    hours = np.diff(data.edges_s) / HOUR_S
    at = _numbers(data.edges_s[:-1] / per)
    for use, values in data.cost_usd.items():
        made.add_trace(
            _line(use, at, rounded(values / hours), USE_COLOURS[use], shape="hv", stackgroup="use", width=0.5)
        )
    for (market, values), dash in zip(data.paid_usd.items(), ("solid", "dash", "dot"), strict=False):
        name = f"paid, {market.replace('_', ' ')}"
        made.add_trace(_line(name, _numbers(data.edges_s / per), values, "#c43d6b", dash=dash, yaxis="y2"))
    return made


def distributions(cdf_s: Mapping[str, Floats]) -> Any:
    """Latencies as cumulative distributions."""
    made = figure(
        xaxis={"title": {"text": "seconds"}, "type": "log", "dtick": "D2"},
        yaxis={"title": {"text": "share of requests"}, "range": [0, 1.01], "tickformat": ".0%"},
        hovermode="closest",
    )
    shares = np.linspace(0, 1, CDF_POINTS + 1)
    for (name, times), colour in zip(cdf_s.items(), _colours(len(cdf_s)), strict=True):
        seen = times > 0
        if seen.any():
            made.add_trace(_line(name, _numbers(times[seen]), shares[seen], colour))
    return made


def cost_by_use(runs: Sequence[RunData]) -> Any:
    """Return one bar a run."""
    made = figure(barmode="stack", xaxis={"title": {"text": "USD"}}, hovermode="y unified")
    names = [s.name for s in runs]
    for use in (*USES, "rounding"):
        values = [s.summary.cost_by_use_usd.get(use, 0.0) for s in runs]
        if any(values):
            colour = USE_COLOURS.get(use, "#7d8794")
            made.add_trace(go.Bar(name=use, y=names, x=values, orientation="h", marker={"color": colour}))
    made.update_yaxes(autorange="reversed", automargin=True, type="category")
    made.update_layout(height=140 + 34 * len(runs))
    return made


def _over(runs: Sequence[RunData], pick: Any, unit: str, *, log: bool = False, shape: str = "linear") -> Any:
    """Return the same series of every run. `pick` gives times and values."""
    per, clock = _clock(max(runs, key=lambda s: float(s.edges_s[-1])))
    made = figure(xaxis={"title": {"text": clock}}, yaxis={"title": {"text": unit}, "rangemode": "tozero"})
    for data, colour in zip(runs, _colours(len(runs)), strict=True):
        at_s, values = pick(data)
        values = np.where(values > 0, values, np.nan) if log else values
        made.add_trace(_line(data.name, _numbers(at_s / per), values, colour, shape=shape))
    if log:
        made.update_yaxes(type="log", dtick="D2")
    return made


def _ready(data: RunData) -> tuple[Floats, Floats]:
    return data.sizes.at_s, data.sizes.ready


def _ttft_p95(data: RunData) -> tuple[Floats, Floats]:
    return data.edges_s[:-1], data.latency_s["ttft"]["p95"]


def _missed(data: RunData) -> tuple[Floats, Floats]:
    return data.edges_s[:-1], data.missed


def _paid(data: RunData) -> tuple[Floats, Floats]:
    return data.edges_s, rounded(np.sum(list(data.paid_usd.values()), axis=0)) if data.paid_usd else data.edges_s * 0


def _clock(data: RunData) -> tuple[float, str]:
    """Return the unit that the run's time is told in: seconds in it, and what it is called."""
    end_s = float(data.edges_s[-1])
    for unit, size in (("days", 86400.0), ("hours", HOUR_S), ("minutes", 60.0)):
        if end_s >= 3 * size:
            return size, f"{unit} since the beginning"
    return 1.0, "seconds since the beginning"


def _sampled(data: RunData) -> str:
    if data.summary.turns <= len(data.sizes.at_s):
        return "Replicas at every turn."
    return "Replicas by the worst of the turns in each bin: the largest demand and size, the fewest ready."


def _line(name: str, x: Sequence[float | None], y: Floats, colour: str, **more: Any) -> Any:
    """Return a line; `more` is what plotly calls it, with the line's shape, width and dash among it."""
    style: dict[str, Any] = {"color": colour, "width": 1.6}
    style |= {key: more.pop(key) for key in ("shape", "width", "dash") if key in more}
    return go.Scatter(name=name, x=list(x), y=_numbers(y), mode="lines", line=style, **more)


def _marks(found: Sequence[Mark], per: float, height: float) -> Any:
    symbol, colour = MARKS[found[0].what]
    return go.Scatter(
        name=found[0].what,
        x=_numbers(np.array([m.at_s for m in found]) / per),
        y=[height] * len(found),
        text=[f"{m.count}" for m in found],
        hovertemplate="%{text}",
        mode="markers",
        marker={"symbol": symbol, "color": colour, "size": 8},
        yaxis="y2",
    )


def _colours(count: int) -> list[str]:
    return [COLOURS[k % len(COLOURS)] for k in range(count)]


def _numbers(values: Floats) -> list[float | None]:
    """Values as JSON has them: null for what is no number."""
    return [v if np.isfinite(v) else None for v in rounded(values).tolist()]
