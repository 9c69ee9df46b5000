"""Risk of a purchase: spilled tokens, unlike weeks, and errors of the table of units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from simulators.provisioned.purchase import UnitPurchase
from simulators.provisioned.samples import HOUR_S, WEEK_S, TokenSamples
from simulators.provisioned.spillover import UnitLoad
from simulators.reporting.time_bins import Floats

QUANTILES: Final = (0.5, 0.9, 0.99)
WHOLE_WEEK_H: Final = 151.0
"""Observed time from which a week counts as whole: 90 % of 168 hours. Hours."""
BUSY: Final = (0.05, 0.95)
"""Range of the utilization that is compared: below it noise is large, above it the capacity limits the load."""
NOTABLE: Final = 0.1
"""Difference between the table and the observed utilization to report."""
MIN_COMPARED: Final = 30
"""The minimum number of spans to compare."""


@dataclass(frozen=True, slots=True)
class Spill:
    """Spilled tokens with a number of units.

    `share` is the expected share of all tokens, `time_share` the share of time with any spill, `hours` quantiles of the
    share of the tokens of an hour, and `largest_hour` its maximum.
    """

    share: float
    time_share: float
    hours: tuple[float, ...]
    largest_hour: float


@dataclass(frozen=True, slots=True)
class WeekOutcome:
    """A week under the purchase planned from the weeks before it. Costs are USD per hour.

    `best_usd` is the cost of the best purchase of this week, known only after it.
    """

    start: float
    units: int
    usd: float
    pay_as_you_go_usd: float
    best_usd: float
    spilled_share: float


@dataclass(frozen=True, slots=True)
class UtilizationCheck:
    """The table of units compared with the observed utilization.

    `ratio` is the observed over the calculated utilization: 1.25 if units serve a fifth fewer tokens than the table
    states. `compared_h` is the compared time in hours.
    """

    ratio: float
    compared_h: float

    @property
    def differs(self) -> bool:
        return abs(self.ratio - 1.0) > NOTABLE


def spill(samples: TokenSamples, load: UnitLoad, held: int) -> Spill:
    """Return the spilled tokens with `held` units."""
    shares = load.shares(float(held))
    _, hour = np.unique(samples.at // HOUR_S, return_inverse=True)
    amounts = samples.tokens * samples.seconds
    totals, spilled = np.bincount(hour, amounts), np.bincount(hour, amounts * shares)
    hourly = np.divide(spilled, totals, out=np.zeros_like(totals), where=totals > 0)
    return Spill(
        load.spilled_share(float(held)),
        float(load.weights[(shares > 0) & (samples.tokens > 0)].sum()),
        tuple(float(q) for q in np.quantile(hourly, QUANTILES)),
        float(hourly.max()),
    )


def weeks(
    samples: TokenSamples,
    load_of: Callable[[TokenSamples], UnitLoad],
    plan: Callable[[UnitLoad], UnitPurchase],
    best: Callable[[UnitLoad], UnitPurchase],
) -> Sequence[WeekOutcome]:
    """Return each whole week after the first, under the plan of the weeks before it."""
    number = ((samples.at - samples.at[0]) // WEEK_S).astype(np.int64)
    outcomes = []
    for week in range(1, int(number[-1]) + 1):
        rows, earlier = number == week, number < week
        current = samples.taken(rows)
        if not rows.any() or current.seen_h < WHOLE_WEEK_H or samples.taken(earlier).seen_h < WHOLE_WEEK_H:
            continue
        load, purchase = load_of(current), plan(load_of(samples.taken(earlier)))
        outcomes.append(
            WeekOutcome(
                float(samples.at[0] + week * WEEK_S),
                purchase.units,
                purchase.usd_per_hour(load),
                load.pay_as_you_go,
                best(load).usd_per_hour(load),
                load.spilled_share(float(purchase.units)),
            )
        )
    return outcomes


def check_units(samples: TokenSamples, units: Floats, held: float | None) -> UtilizationCheck | None:
    """Return the comparison with the observed utilization; None without enough of it."""
    if samples.utilization is None or held is None:
        return None
    low, high = BUSY
    with np.errstate(invalid="ignore"):
        compared = (samples.utilization >= low) & (samples.utilization <= high) & (units > 0)
    if int(compared.sum()) < MIN_COMPARED:
        return None
    seconds = samples.seconds[compared]
    calculated = float((units[compared] / held) @ seconds)
    return UtilizationCheck(float(samples.utilization[compared] @ seconds) / calculated, float(seconds.sum()) / HOUR_S)
