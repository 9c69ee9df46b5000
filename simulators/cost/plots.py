"""Plots of the advice."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from simulators.cost.advice import Advice
from simulators.cost.figures import MONTH_H, Figure, Section
from simulators.cost.plan import MARKETS, by_reserved
from simulators.cost.recommendation import Purchase
from simulators.cost.text import number
from simulators.reporting.charts import Axis, Chart, Series
from simulators.reporting.html import BarPart, PageBars, PagePlot

COLOUR: Final = {"reserved": "c3", "spot": "c5", "on_demand": "c1"}
NEEDED: Final = "c2"


def parts(advised: Advice, section: str) -> Iterator[PagePlot | PageBars]:
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
    yield PagePlot("load-duration", "Load-duration curve and purchase plan", caption, load_duration(purchase))
    if purchase.prices.reserved is not None:
        caption = (
            "All other replicas are on-demand, none on spot. A flat curve means that the exact number matters little."
        )
        yield PagePlot("reserving", "Monthly cost by number of reserved replicas", caption, reserving(purchase))


def load_duration(purchase: Purchase) -> Chart:
    """Return the load-duration chart.

    It has a bar per replica, as long as the replica is held, in its market's colour.
    """
    curve, prices, series = purchase.curve, purchase.prices, []
    hours, tops = curve.shares * MONTH_H, np.arange(1, curve.maximum + 1, dtype=np.float64)
    for market in MARKETS:
        held = np.array([m == market for m in purchase.plan.markets], np.bool_)
        if held.any():
            replicas = Series(name=_name(market), x=hours[held], y=tops[held], colour=COLOUR[market], shape="rects")
            series.append(replicas)
    needed = purchase.needed.shares * MONTH_H
    outline = np.repeat(np.arange(len(needed) + 1, dtype=np.float64), 2)[1:-1]
    series.append(Series(name="needed", x=np.repeat(needed, 2)[::-1], y=outline[::-1], colour=NEEDED))
    if prices.reserved is not None:
        even = MONTH_H * prices.reserved / prices.on_demand
        name = f"reserved is cheaper from {even:.0f} h"
        at, none = np.array([even]), np.array([np.nan])
        series.append(Series(name=name, x=at, y=none, colour=COLOUR["reserved"], shape="vertical", dash=True))
    return Chart(
        x=Axis(title="hours per month", low=0, high=MONTH_H),
        y=Axis(title="replicas", low=0, high=max(curve.maximum, 1) * 1.05),
        series=series,
    )


def reserving(purchase: Purchase) -> Chart:
    """Return a month's cost for each number of reserved replicas."""
    costs = np.array(by_reserved(purchase.curve, purchase.prices)) * MONTH_H
    counts = np.arange(len(costs), dtype=np.float64)
    return Chart(
        x=Axis(title="reserved replicas"),
        y=Axis(title="USD per month", format="usd", low=0),
        series=[Series(name="cost", x=counts, y=costs, colour=COLOUR["reserved"])],
    )


def _bars(section: Section, key: str, title: str, name: str) -> Iterator[PageBars]:
    figures = [f for f in section.figures if f.key == key]
    if figures:
        note = f"In {figures[0].unit}." + ("" if figures[0].low is None else " Lines: known bounds.")
        yield PageBars(name, title, note, bars(figures))


def bars(figures: list[Figure]) -> list[tuple[str, list[BarPart], str]]:
    """Return figures of one kind as rows of bars, with their bounds."""
    longest = max(f.value if f.high is None else max(f.value, f.high) for f in figures) or 1.0
    rows = []
    for f in figures:
        text = f"{number(f.value)} {f.unit}"
        low, high = (None, None) if f.low is None or f.high is None else (f.low / longest, f.high / longest)
        name = f.about.replace("_", "-") or f.title
        rows.append((name, [BarPart(f.value / longest, text, "c1", low, high)], number(f.value)))
    return rows


def _name(market: str) -> str:
    return market.replace("_", "-")
