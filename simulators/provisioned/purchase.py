"""Number of units to hold, and the term of each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from simulators.provisioned.spillover import UnitLoad
from simulators.reporting.time_bins import Floats

WEEK_H: Final = 168.0
"""The longest term that can follow the plan of the next week. Hours."""
STEPS: Final = 60
"""Bisection steps of the break-even load: more than the digits of a float."""


@dataclass(frozen=True, slots=True)
class TermPrice:
    """Price of a unit held for a term: hours of the term, USD per unit and hour."""

    term_h: float
    usd_per_unit_hour: float


@dataclass(frozen=True, slots=True)
class UnitPurchase:
    """Units to hold in each term, and their cost. USD per hour.

    `held` has the terms with units only. `fixed_usd` is the cost of the units, paid whether they are used or not.
    """

    held: Mapping[str, int]
    fixed_usd: float

    @property
    def units(self) -> int:
        return sum(self.held.values())

    def usd_per_hour(self, load: UnitLoad) -> float:
        """Return the cost of the units and of the spillover under a load. USD per hour."""
        return self.fixed_usd + float(load.spill_usd(np.array([float(self.units)]))[0])


def sizes(peak: float, minimum: int, step: int, maximum: int | None) -> Floats:
    """Return the sizes that can be bought: 0, then from the minimum in steps.

    The last one is the first above the peak, or the largest up to the maximum.
    """
    if maximum is not None and maximum < minimum:
        return np.zeros(1)
    last = minimum + step * max(0, int(np.ceil((peak - minimum) / step)))
    if maximum is not None:
        last = min(last, minimum + step * ((maximum - minimum) // step))
    return np.concatenate(([0.0], np.arange(minimum, last + 1, step, dtype=np.float64)))


def cost_curve(load: UnitLoad, held: Floats, usd_per_unit_hour: float) -> Floats:
    """Return the cost of units and spillover for each size. USD per hour.

    The curve is convex.
    """
    return held * usd_per_unit_hour + load.spill_usd(held)


def buy(load: UnitLoad, terms: Mapping[str, TermPrice], available: Floats, fall: float) -> UnitPurchase:
    """Return the units to hold in each term.

    Each step of size gets the lowest price among the terms in which it pays: its price is below the pay-as-you-go cost
    that it saves. In terms above a week it must pay even if the load falls by the share `fall`. Steps save less the
    higher they are, so the longest terms are at the bottom.

    A step of 5 units saves 4 USD/h at the observed load and 3 USD/h at 80 % of it. At 3.5 USD/h for a year and 3.9 by
    the hour, it is held by the hour.
    """
    widths = np.diff(available)
    saved = -np.diff(load.spill_usd(available))
    saved_fallen = -np.diff(load.scaled(1.0 - fall).spill_usd(available))
    best, chosen = np.full(len(widths), np.inf), np.full(len(widths), -1)
    names = sorted(terms, key=lambda name: (terms[name].usd_per_unit_hour, terms[name].term_h, name))
    for k, name in enumerate(names):
        price = terms[name].usd_per_unit_hour * widths
        pays = price < (saved if terms[name].term_h <= WEEK_H else saved_fallen)
        better = pays & (price < best)
        best[better], chosen[better] = price[better], k
    stop = int(np.argmax(chosen < 0)) if (chosen < 0).any() else len(chosen)
    held = {
        name: round(float(widths[:stop][chosen[:stop] == k].sum()))
        for k, name in enumerate(names)
        if (chosen[:stop] == k).any()
    }
    return UnitPurchase(held, float(best[:stop].sum()))


def break_even_use(load: UnitLoad, usd_per_unit_hour: float) -> float:
    """Return the mean use from which a unit is cheaper; infinity without a load.

    A unit at 0.30 USD/h whose tokens cost 0.36 USD/h at full use pays from 83 % of use.
    """
    full = load.pay_as_you_go / load.mean if load.mean else 0.0
    return usd_per_unit_hour / full if full else float("inf")


def break_even_load(purchase: UnitPurchase, load: UnitLoad) -> float:
    """Return the share of the load at which the purchase costs the same as pay-as-you-go.

    1 is the observed load. Infinity if the purchase does not pay at any load up to ten times the observed one.
    """

    def surplus(factor: float) -> float:
        scaled = load.scaled(factor)
        return scaled.pay_as_you_go - purchase.usd_per_hour(scaled)

    if not purchase.units:
        return 0.0
    low, high = 0.0, 1.0
    while surplus(high) < 0:
        low, high = high, 2.0 * high
        if high > 10.0:
            return float("inf")
    for _ in range(STEPS):
        middle = (low + high) / 2.0
        low, high = (middle, high) if surplus(middle) < 0 else (low, middle)
    return high
