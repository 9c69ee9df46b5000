"""Plans as a self-contained HTML page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from policies.model.weekly_window import DAYS
from simulators.cost.figures import MONTH_H
from simulators.cost.text import number
from simulators.provisioned.plan import ThroughputPlan, cautions, sources
from simulators.provisioned.purchase import cost_curve
from simulators.provisioned.text import findings, tables
from simulators.reporting import html
from simulators.reporting.charts import Axis, Chart, Series
from simulators.reporting.html import PagePlot
from simulators.reporting.plots import colours, level

HELD: Final = "c3"
LEAD: Final = 2
"""Findings at the top of a plan in large type."""


def page(plans: Sequence[ThroughputPlan]) -> str:
    """Return the page as HTML: equal for equal plans."""
    return html.render(
        "throughput.html.j2",
        title=f"Provisioned throughput: {', '.join(plan.named.name for plan in plans)}",
        plans=[_view(plan, f"plan{number}") for number, plan in enumerate(plans)],
    )


def _view(plan: ThroughputPlan, key: str) -> dict[str, Any]:
    sentences = list(findings(plan))
    return {
        "name": plan.named.name,
        "plan_id": plan.plan_id,
        "lead": sentences[:LEAD],
        "findings": sentences[LEAD:],
        "cards": [
            (f"{plan.named.unit.unit} to hold", f"{plan.purchase.units:,}", ""),
            ("cost per month", f"${number(plan.usd_per_month)}", ""),
            ("pay-as-you-go alone", f"${number(plan.pay_as_you_go)}", ""),
            ("spilled tokens", f"{plan.spill.share:.2%}", ""),
        ],
        "plots": [
            PagePlot(f"{key}-cost", "Cost by number of units", COST_NOTE, _cost(plan)),
            PagePlot(f"{key}-load", "Load-duration curve", LOAD_NOTE, _load_duration(plan)),
        ],
        "heat": heat(plan),
        "tables": [(title, list(head), rows) for title, head, rows in tables(plan)],
        "sources": [(str(source.basis), source.where) for source in sources(plan)],
        "cautions": list(cautions(plan)),
    }


SHOWN_COST: Final = 1.6
"""Largest cost on the cost chart, as a multiple of pay-as-you-go: the rest is of no interest."""
COST_NOTE: Final = (
    "Units of one term, and pay-as-you-go for the tokens above them. The vertical line is the plan. A flat curve means"
    " that the exact number matters little."
)
LOAD_NOTE: Final = "Share of a typical week with at least this load. The area above the plan's line spills over."


def _cost(plan: ThroughputPlan) -> Chart:
    """Return a month's cost for each number of units, with a line for each term."""
    series = [
        Series(
            name=name,
            x=plan.sizes,
            y=cost_curve(plan.load, plan.sizes, price.usd_per_unit_hour) * MONTH_H,
            colour=colour,
        )
        for (name, price), colour in zip(plan.terms.items(), colours(len(plan.terms)), strict=True)
    ]
    held = np.array([float(plan.purchase.units)])
    series.append(level("pay-as-you-go alone", plan.pay_as_you_go))
    series.append(Series(name="plan", x=held, y=np.array([np.nan]), colour=HELD, shape="vertical", dash=True))
    cost = Axis(title="USD per month", format="usd", low=0, high=SHOWN_COST * plan.pay_as_you_go or None)
    return Chart(x=Axis(title=plan.named.unit.unit, low=0), y=cost, series=series)


def _load_duration(plan: ThroughputPlan) -> Chart:
    order = np.argsort(-plan.load.units, kind="stable")
    shares = np.concatenate(([0.0], np.cumsum(plan.load.weights[order])))
    units = plan.load.units[order]
    series = [
        Series(name="load", x=shares, y=np.append(units, units[-1]), colour="c1", shape="area"),
        level("plan", float(plan.purchase.units), HELD),
    ]
    axis = Axis(title=f"load in {plan.named.unit.unit}", low=0)
    return Chart(x=Axis(title="share of the week", format="share", low=0, high=1), y=axis, series=series)


def heat(plan: ThroughputPlan) -> list[tuple[str, list[tuple[float | None, str]]]]:
    """Return a row for each day: its name, and the shade in percent and text of each hour.

    The shade is None for an hour that was not observed.
    """
    by_hour = plan.samples.mean_by_hour(plan.load.units)
    top = float(np.nanmax(by_hour)) if np.isfinite(by_hour).any() else 0.0
    return [
        (day, [_cell(float(value), top) for value in values])
        for day, values in zip(DAYS, by_hour.reshape(7, 24), strict=True)
    ]


def _cell(value: float, top: float) -> tuple[float | None, str]:
    return (None, "?") if math.isnan(value) else (100.0 * value / top if top else 0.0, f"{value:,.3g}")
