"""Cost and late requests of a configuration, with intervals over batches of time.

A batch of a trace's time is averaged over the replications. With a recorded trace, replications differ only in start-up
times and interruptions and would give intervals that are too narrow. Sources: A. M. Law, "Simulation Modeling and
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
from simulators.experiments.slo_outcome import LateRequests
from simulators.experiments.statistics import LEVEL, Difference, Estimate
from simulators.tune.trial import WindowResult

MONTH_H: Final = 730.0
"""Hours of a month: 365 days of 24, by 12."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Figures:
    """A configuration's cost, requests and late requests.

    Each has one value for each batch of time, the mean over replications.
    """

    cost_usd: Floats
    arrived: Floats
    late: Floats
    hours: float

    @property
    def usd_per_month(self) -> float:
        return float(self.cost_usd.sum()) / self.hours * MONTH_H

    @property
    def late_share(self) -> float:
        return self.late_requests.share

    @property
    def late_requests(self) -> LateRequests:
        """The late requests of a run, the mean over replications."""
        return LateRequests(float(self.late.sum()), float(self.arrived.sum()))

    @property
    def late_per_month(self) -> float:
        return float(self.late.sum()) / self.hours * MONTH_H

    @property
    def requests_per_month(self) -> float:
        return float(self.arrived.sum()) / self.hours * MONTH_H

    def attainment(self, level: float = LEVEL) -> Estimate:
        """Return the SLO attainment with the interval of a ratio over batches.

        Batches of 1,000, 500, 1,500 and 1,000 requests with 10, 0, 20 and 6 late ones give 99.1 % ± 0.8 %.
        """
        n, total = len(self.late), float(self.arrived.sum())
        if not total:
            return Estimate(math.nan, math.nan, n)
        share = self.late_share
        if n < 2:
            return Estimate(1 - share, math.nan, n)
        residuals = self.late - share * self.arrived
        error = math.sqrt(n / (n - 1) * float((residuals**2).sum())) / total
        return Estimate(1 - share, float(stats.t.ppf((1 + level) / 2, n - 1)) * error, n)

    def max_late_share(self) -> float:
        """Return the upper end of the late share's interval; the share itself if it has no interval."""
        attainment = self.attainment()
        return 1 - (attainment.mean if math.isnan(attainment.half_width) else attainment.low)


def figures(results: Sequence[WindowResult]) -> Figures:
    """Return the figures of runs of the same windows under several seeds."""
    seeds = dict.fromkeys(p.seed for p in results)
    by_window: dict[int, list[Floats]] = {}
    hours = 0.0
    for result in results:
        by_window.setdefault(result.window, []).append(np.array(result.blocks, np.float64))
        hours += result.hours / len(seeds)
    rows = np.concatenate([np.mean(replications, axis=0) for _, replications in sorted(by_window.items())])
    return Figures(rows[:, 0], rows[:, 1], rows[:, 2], hours)


def cost_difference(a: Figures, b: Figures) -> Difference:
    """Return the cost of `a` minus that of `b`, paired by batches of time. USD per month."""
    return _scaled(statistics.paired(a.cost_usd, b.cost_usd), len(a.cost_usd) / a.hours * MONTH_H)


def late_difference(a: Figures, b: Figures) -> Difference:
    """Return the late share of `a` minus that of `b`, paired by batches of time."""
    total = float(a.arrived.sum())
    return _scaled(statistics.paired(a.late, b.late), len(a.late) / total if total else math.nan)


def _scaled(difference: Difference, factor: float) -> Difference:
    estimate = difference.estimate
    return Difference(Estimate(estimate.mean * factor, estimate.half_width * factor, estimate.n), difference.p)
