"""What a configuration came to, with intervals that tell how far other traffic of the kind may lead elsewhere.

The unit is a batch of time of a trace, averaged over the replications: with a recorded trace replications differ in
start-ups and losses only, and would make any figure look certain. Sources: A. M. Law, "Simulation Modeling and
Analysis" (5th ed., 2015), 9.5.3 (batch means); W. G. Cochran, "Sampling Techniques" (3rd ed., 1977), 6.3 (the variance
of a ratio: late requests over requests).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from simulators.experiments import statistics
from simulators.experiments.statistics import LEVEL, Difference, Estimate
from simulators.tune.trial import Played

MONTH_H: Final = 730.0
"""Hours of a month: 365 days of 24, by 12."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figures:
    """A configuration's cost and late requests: a row a batch of time, means over the replications."""

    cost_usd: Floats
    arrived: Floats
    late: Floats
    hours: float

    @property
    def usd_per_month(self) -> float:
        return float(self.cost_usd.sum()) / self.hours * MONTH_H

    @property
    def late_share(self) -> float:
        total = float(self.arrived.sum())
        return float(self.late.sum()) / total if total else math.nan

    @property
    def late_per_month(self) -> float:
        return float(self.late.sum()) / self.hours * MONTH_H

    @property
    def requests_per_month(self) -> float:
        return float(self.arrived.sum()) / self.hours * MONTH_H

    def in_time(self, level: float = LEVEL) -> Estimate:
        """Return the share of requests in time, with its interval: the ratio's, over batches."""
        n, total = len(self.late), float(self.arrived.sum())
        if not total:
            return Estimate(math.nan, math.nan, n)
        share = self.late_share
        if n < 2:
            return Estimate(1 - share, math.nan, n)
        rest = self.late - share * self.arrived
        error = math.sqrt(n / (n - 1) * float((rest**2).sum())) / total
        return Estimate(1 - share, float(stats.t.ppf((1 + level) / 2, n - 1)) * error, n)

    def most_late(self) -> float:
        """Return the share of late requests, at the upper end of its interval; the share itself where there is none."""
        told = self.in_time()
        return 1 - (told.mean if math.isnan(told.half_width) else told.low)


def figures(played: Sequence[Played]) -> Figures:
    """Return the figures of runs of the same stretches under several seeds."""
    seeds = dict.fromkeys(p.seed for p in played)
    by_stretch: dict[int, list[Floats]] = {}
    hours = 0.0
    for one in played:
        by_stretch.setdefault(one.stretch, []).append(np.array(one.blocks, np.float64))
        hours += one.hours / len(seeds)
    rows = np.concatenate([np.mean(found, axis=0) for _, found in sorted(by_stretch.items())])
    return Figures(rows[:, 0], rows[:, 1], rows[:, 2], hours)


def dearer(a: Figures, b: Figures) -> Difference:
    """Return how much more `a` costs than `b`, USD a month: paired by batches of time."""
    return _scaled(statistics.paired(a.cost_usd, b.cost_usd), len(a.cost_usd) / a.hours * MONTH_H)


def later(a: Figures, b: Figures) -> Difference:
    """By how much more of the requests are late with `a` than with `b`. A share; paired by batches of time."""
    total = float(a.arrived.sum())
    return _scaled(statistics.paired(a.late, b.late), len(a.late) / total if total else math.nan)


def _scaled(found: Difference, factor: float) -> Difference:
    told = found.estimate
    return Difference(Estimate(told.mean * factor, told.half_width * factor, told.n), found.p)
