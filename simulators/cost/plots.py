"""Plots of the advice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import plotly.graph_objects as go

from simulators.cost.advice import Advice
from simulators.cost.figures import MONTH_H, Figure, Section
from simulators.cost.plan import MARKETS, by_reserved
from simulators.cost.recommendation import Purchase
from simulators.reporting.html import COLOURS, PagePlot, figure, plot
from simulators.reporting.time_bins import Floats

COLOUR: Final = {"reserved": "#14937f", "spot": "#b8860b", "on_demand": "#2f6fde"}
NEEDED: Final = "#d9622b"


def parts(advised: Advice, section: str) -> Iterator[PagePlot]:
    """Yield the plots of a section."""
    if section == "buying" and advised.purchase is not None:
        yield from _buying(advised.purchase)
    elif section == "sizing":
        yield from _bars(advised.section(section), "request_usd", "Cost of 1,000 requests on a full replica", "sizing")
    elif section == "effects":
        batches, cached = (
            "Cost of 1,000 requests at saturation, by batch size",
            "Cost of 1,000 requests, by cached share of the prompt",
        )
        yield from _bars(advised.section(section), "batch_usd", batches, "batching")
        yield from _bars(advised.section(section), "cache_usd", cached, "caching")
    elif section == "headroom":
        yield from _bars(advised.section(section), "use_usd", "Monthly cost of unused capacity, by use", "uses")


def _buying(purchase: Purchase) -> Iterator[PagePlot]:
    caption = (
        "Hours per month for which each number of replicas is held and needed. The colour of a replica is its cheapest"
        " market; right of the dashed line a reserved replica is cheaper."
    )
    yield plot(load_duration(purchase), "load-duration", "Load-duration curve and purchase plan", caption)
    if purchase.prices.reserved is not None:
        caption = (
            "All other replicas are on-demand, none on spot. A flat curve means that the exact number matters little."
        )
        yield plot(reserving(purchase), "reserving", "Monthly cost by number of reserved replicas", caption)


def load_duration(purchase: Purchase) -> Any:
    """Return the load-duration chart.

    It has a bar per replica, as long as the replica is held, in its market's colour.
    """
    curve, prices = purchase.curve, purchase.prices
    chart = figure(
        xaxis={"title": {"text": "hours per month"}, "range": [0, MONTH_H]},
        yaxis={"title": {"text": "replicas"}, "rangemode": "tozero"},
        barmode="overlay",
        bargap=0,
        hovermode="closest",
    )
    hours, level = curve.shares * MONTH_H, np.arange(curve.maximum, dtype=np.float64) + 0.5
    for market in MARKETS:
        in_market = np.array([m == market for m in purchase.plan.markets], np.bool_)
        if in_market.any():
            bars = {"x": _numbers(hours[in_market]), "y": _numbers(level[in_market]), "width": 1, "orientation": "h"}
            chart.add_trace(go.Bar(name=_name(market), marker={"color": COLOUR[market]}, opacity=0.75, **bars))
    chart.add_trace(_steps("needed", purchase.needed.shares * MONTH_H, NEEDED))
    if prices.reserved is not None:
        even = MONTH_H * prices.reserved / prices.on_demand
        line = {"color": COLOUR["reserved"], "dash": "dash", "width": 1.4}
        ends = {"x": [even, even], "y": [0, max(curve.maximum, 1)]}
        chart.add_trace(go.Scatter(name=f"reserved is cheaper from {even:.0f} h", mode="lines", line=line, **ends))
    return chart


def _steps(name: str, hours: Floats, colour: str) -> Any:
    """Return the outline of a curve, from the lowest replica up."""
    x = np.repeat(hours, 2)
    y = np.repeat(np.arange(len(hours) + 1, dtype=np.float64), 2)[1:-1]
    return go.Scatter(name=name, x=_numbers(x), y=_numbers(y), mode="lines", line={"color": colour, "width": 1.6})


def reserving(purchase: Purchase) -> Any:
    """Return a month's cost for each number of reserved replicas."""
    costs = np.array(by_reserved(purchase.curve, purchase.prices)) * MONTH_H
    chart = figure(
        xaxis={"title": {"text": "reserved replicas"}},
        yaxis={"title": {"text": "USD per month"}, "rangemode": "tozero"},
        showlegend=False,
    )
    line = {"color": COLOUR["reserved"], "width": 1.6}
    chart.add_trace(go.Scatter(x=list(range(len(costs))), y=_numbers(costs), mode="lines+markers", line=line))
    return chart


def _bars(section: Section, key: str, title: str, name: str) -> Iterator[PagePlot]:
    figures = [f for f in section.figures if f.key == key]
    if figures:
        yield plot(bars(figures), name, title, "Error bars: known bounds." if figures[0].low else "")


def bars(figures: list[Figure]) -> Any:
    """Return a bar chart of figures of one kind, with their bounds."""
    chart = figure(yaxis={"title": {"text": figures[0].unit}, "rangemode": "tozero"}, showlegend=False)
    values = np.array([f.value for f in figures])
    above = np.array([f.value if f.high is None else f.high for f in figures]) - values
    below = values - np.array([f.value if f.low is None else f.low for f in figures])
    error = {
        "type": "data",
        "array": _numbers(above),
        "arrayminus": _numbers(below),
        "visible": bool((above > 0).any()),
    }
    names = [f.about.replace("_", "-") or f.title for f in figures]
    chart.add_trace(go.Bar(x=names, y=_numbers(values), error_y=error, marker={"color": COLOURS[0]}, opacity=0.8))
    chart.update_xaxes(type="category")
    return chart


def _name(market: str) -> str:
    return market.replace("_", "-")


def _numbers(values: Floats) -> list[float]:
    """Return plain numbers with six significant digits."""
    return [float(f"{value:.6g}") for value in values]
