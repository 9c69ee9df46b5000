"""Tokens that exceed a provisioned capacity, and their pay-as-you-go cost."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from simulators.reporting.time_bins import Floats


@dataclass(frozen=True)
class UnitLoad:
    """Load in provisioned units over a typical week, one value per sample.

    A sample of 50 units needs 50 PTUs to serve it whole. `usd_per_hour` is its cost if all of it is pay-as-you-go,
    `tokens` its tokens per minute. `weights` are the shares of the week that the samples stand for; they sum to 1.
    """

    units: Floats
    usd_per_hour: Floats
    tokens: Floats
    weights: Floats

    @cached_property
    def _order(self) -> tuple[Floats, Floats, Floats]:
        """Units in ascending order, and the sums of USD and of USD per unit from each one up."""
        order = np.argsort(self.units, kind="stable")
        units, usd = self.units[order], (self.usd_per_hour * self.weights)[order]
        slope = np.divide(usd, units, out=np.zeros_like(usd), where=units > 0)
        return units, _sums_from(usd), _sums_from(slope)

    @property
    def peak(self) -> float:
        """Largest load in units."""
        return float(self.units.max(initial=0.0))

    @property
    def mean(self) -> float:
        """Mean load in units."""
        return float(self.units @ self.weights)

    @property
    def pay_as_you_go(self) -> float:
        """Mean cost without any unit. USD per hour."""
        return float(self.usd_per_hour @ self.weights)

    def spill_usd(self, held: Floats) -> Floats:
        """Return the mean pay-as-you-go cost next to each number of held units. USD per hour.

        Without units, everything is pay-as-you-go. With k units, a sample of L > k units spills the share 1 - k / L.
        Two samples of 10 and 30 units at 1 USD per unit-hour, with 20 units held: (0 + 30 x (1 - 20 / 30)) / 2 = 5.
        """
        units, usd, slope = self._order
        first = np.searchsorted(units, held, side="right")
        above = np.maximum(usd[first] - held * slope[first], 0.0)
        return np.where(held > 0, above, self.pay_as_you_go)

    def shares(self, held: float) -> Floats:
        """Return the share of each sample that spills with these units held."""
        if held <= 0:
            return np.ones_like(self.units)
        excess = np.maximum(self.units - held, 0.0)
        return np.divide(excess, self.units, out=np.zeros_like(excess), where=self.units > 0)

    def spilled_share(self, held: float) -> float:
        """Return the share of all tokens that spill; 0 without any token."""
        tokens = self.tokens * self.weights
        total = float(tokens.sum())
        return float(tokens @ self.shares(held)) / total if total else 0.0

    def scaled(self, factor: float) -> UnitLoad:
        """Return a load that is `factor` times as large at all times."""
        return UnitLoad(self.units * factor, self.usd_per_hour * factor, self.tokens * factor, self.weights)


def _sums_from(values: Floats) -> Floats:
    """Return the sum of the values from each index to the end, and a final 0."""
    return np.append(np.cumsum(values[::-1])[::-1], 0.0)
