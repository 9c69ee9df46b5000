"""A plan as text for a terminal."""

from __future__ import annotations

import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from typing import Final

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from policies.model.weekly_window import DAYS
from scaler.journal.explain import timestamp
from simulators.cost.figures import usd
from simulators.cost.text import WIDTH, number
from simulators.provisioned import risk
from simulators.provisioned.apply import held_text
from simulators.provisioned.offers import UnitRow, unit_rows
from simulators.provisioned.plan import ThroughputPlan, cautions, sources
from simulators.provisioned.samples import WEEK_HOURS
from simulators.reporting.time_bins import Floats

SHADES: Final = " ▁▂▃▄▅▆▇█"
UNSEEN: Final = "?"
HOURS: Final = "00    03    06    09    12    15    18    21"
NEVER: Final = "never"
YOURS: Final = "yours"
"""Shown for a value that the table does not have."""


def lines(plan: ThroughputPlan) -> Iterator[str]:
    """Yield the lines of a plan: purchase, terms, risk, observed week and sources."""
    yield f"{plan.named.name}: plan {plan.plan_id}"
    for sentence in findings(plan):
        yield from _wrapped(sentence, "  ", "  ")
    for title, head, rows in tables(plan):
        yield ""
        yield title
        yield from _table(head, rows)
    yield ""
    yield "Mean load by hour of the week (UTC)"
    yield from heat(plan.samples.mean_by_hour(plan.load.units), plan.named.unit.unit)
    yield ""
    yield "Sources"
    for source in sources(plan):
        yield from _wrapped(str(source), "  - ", "    ")
    yield ""
    yield "Limits of this plan"
    for caution in cautions(plan):
        yield from _wrapped(caution, "  - ", "    ")


def findings(plan: ThroughputPlan) -> Iterator[str]:
    """Yield the purchase, its cost, its spillover and its break-even as sentences."""
    load, purchase = plan.load, plan.purchase
    yield f"Hold {held_text(plan)}."
    base = f"{usd(plan.pay_as_you_go)} per month"
    if not purchase.units:
        yield f"Pay-as-you-go alone is the cheapest: {base}. No unit saves as much as it costs."
        yield from _why_not(plan)
    else:
        saved = plan.pay_as_you_go - plan.usd_per_month
        yield (
            f"It costs {usd(plan.usd_per_month)} per month with spillover. Pay-as-you-go alone costs {base}: the plan"
            f" saves {usd(saved)}, {saved / plan.pay_as_you_go:.1%}."
        )
        yield (
            f"Expected spillover: {plan.spill.share:.2%} of the tokens, in {plan.spill.time_share:.1%} of the time. The"
            f" load is {load.mean:,.1f} units on average and {load.peak:,.1f} at most."
        )
        yield f"The plan is cheaper than pay-as-you-go while the load is above {_break_even(plan.break_even_load)}."
    yield (
        f"Observed: {plan.samples.seen_h:,.1f} h in {plan.samples.span_h / 24:,.1f} days,"
        f" {plan.samples.hours_seen} of the {WEEK_HOURS} hours of the week."
    )
    if plan.check is not None:
        yield check_text(plan)


def _why_not(plan: ThroughputPlan) -> Iterator[str]:
    best = min(plan.by_term, key=lambda term: term.break_even_use)
    if 1 < best.break_even_use < math.inf:
        yield (
            f"Even a unit in full use costs more than its tokens: {best.break_even_use:.2f} times as much for"
            f" {best.name}."
        )


def _break_even(factor: float) -> str:
    return f"{factor:.0%} of the observed one" if math.isfinite(factor) else "ten times the observed one"


def check_text(plan: ThroughputPlan) -> str:
    """Return the comparison of the table of units with the observed utilization."""
    check, unit = plan.check, plan.named.unit
    if check is None:
        return "The table of units was not compared with an observed utilization."
    observed = f"Observed utilization is {check.ratio:.2f} times the calculated one over {check.compared_h:,.1f} h"
    if not check.differs:
        return f"{observed}: the table of units fits."
    rates = {
        "input_tokens_per_minute": unit.input_tokens_per_minute,
        "output_tokens_per_minute": unit.output_tokens_per_minute,
    }
    remedy = ", ".join(f"{key}: {value / check.ratio:,.0f}" for key, value in rates.items() if value is not None)
    return f"{observed}: the table of units does not fit your requests. Plan again with {remedy.replace(',', '')}."


def tables(plan: ThroughputPlan) -> Iterator[tuple[str, Sequence[str], list[Sequence[str]]]]:
    """Yield the tables of a plan: title, names of the columns, and rows of text."""
    unit = plan.named.unit.unit
    yield (
        "All units in one term",
        ("term", "hours", f"USD per {unit} and hour", "break-even use", unit, "USD per month", "due until the end"),
        [
            (
                term.name,
                f"{term.price.term_h:,.0f}",
                f"{term.price.usd_per_unit_hour:.4g}",
                f"{term.break_even_use:.0%}" if term.break_even_use <= 1 else NEVER,
                f"{term.units:,}",
                usd(term.usd_per_month),
                usd(term.commitment_usd) if term.units else "-",
            )
            for term in plan.by_term
        ],
    )
    yield (
        "If the load changes",
        ("load", "USD per month", "pay-as-you-go alone", "saved", "spilled tokens"),
        [
            (
                f"{change.factor:.0%}",
                usd(change.usd_per_month),
                usd(change.pay_as_you_go),
                signed_usd(change.pay_as_you_go - change.usd_per_month),
                f"{change.spilled_share:.2%}",
            )
            for change in plan.changes
        ],
    )
    quantiles = [f"P{100 * q:g} of hours" for q in risk.QUANTILES]
    hourly = [f"{share:.1%}" for share in (*plan.spill.hours, plan.spill.largest_hour)]
    yield "Spilled share of the tokens of an hour", (*quantiles, "largest hour"), [hourly]
    if plan.weeks:
        yield (
            "Each week under the plan of the weeks before it",
            ("week from", unit, "USD", "pay-as-you-go alone", "best in hindsight", "spilled tokens"),
            [
                (
                    timestamp(week.start)[:10],
                    f"{week.units:,}",
                    usd(week.usd * WEEK_HOURS),
                    usd(week.pay_as_you_go_usd * WEEK_HOURS),
                    usd(week.best_usd * WEEK_HOURS),
                    f"{week.spilled_share:.2%}",
                )
                for week in plan.weeks
            ],
        )


def signed_usd(value: float) -> str:
    """Return an amount that may be negative."""
    return usd(value) if value >= 0 else f"-{usd(-value)}"


def heat(by_hour: Floats, unit: str) -> Iterator[str]:
    """Yield a row for each day of the week, with the mean load of its hours as shades."""
    top = float(np.nanmax(by_hour)) if np.isfinite(by_hour).any() else 0.0
    yield f"       {HOURS}"
    for day, values in zip(DAYS, by_hour.reshape(7, 24), strict=True):
        yield f"  {day}  " + "".join(2 * _shade(float(value), top) for value in values)
    yield f"  {SHADES[-1]} {number(top)} {unit}   {UNSEEN} not observed"


def _shade(value: float, top: float) -> str:
    if math.isnan(value):
        return UNSEEN
    return SHADES[math.ceil((len(SHADES) - 1) * value / top)] if top else SHADES[0]


def units_table() -> str:
    """Return the shipped table of units as text."""
    head = ("row", "unit", "input/min", "output/min", "output counts", "fewest", "step", "checked")
    origins = sorted({row.source for row in unit_rows().values()})
    return "\n".join(
        [
            *_table(head, [_unit_cells(row) for row in unit_rows().values()]),
            "",
            f"input/min, output/min: tokens per minute of a unit. {YOURS}: set it in the file of --offers.",
            "output counts: input tokens that an output token counts as. price: the ratio of the prices.",
            "",
            "Sources",
            *(f"  - {origin}" for origin in origins),
        ]
    )


def _unit_cells(row: UnitRow) -> Sequence[str]:
    rates = row.input_tokens_per_minute, row.output_tokens_per_minute
    shown = [f"{rate:,.0f}" if rate is not None else "-" for rate in rates]
    if rates == (None, None):
        shown = [YOURS, YOURS]
    weight = row.output_weight or (YOURS if row.output_tokens_per_minute is None else "-")
    return (row.name, row.unit, *shown, weight, f"{row.min_units}", f"{row.step_units}", row.checked)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for k, name in enumerate(head):
        table.add_column(name, justify="left" if k == 0 and len(rows) > 1 else "right", no_wrap=k == 0)
    for row in rows:
        table.add_row(*row)
    console = Console(file=io.StringIO(), width=WIDTH, color_system=None, markup=False, highlight=False)
    with console.capture() as capture:
        console.print(table)
    return ["  " + line.rstrip() for line in capture.get().splitlines() if line.strip()]


def _wrapped(text: str, first: str, rest: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=rest, break_long_words=False, break_on_hyphens=False
    )
