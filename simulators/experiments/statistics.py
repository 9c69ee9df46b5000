"""Statistics of simulated output: confidence intervals, paired comparisons and steady state.

Replications are independent (one seed each), so a mean over them has a t interval. Policies that faced the same seeds
are compared pair by pair. Within one run neighbouring requests are correlated: an estimate from one run deletes the
warm-up and uses the means of batches.

Sources: A. M. Law, "Simulation Modeling and Analysis" (5th ed., 2015), sections 9.5 (batch means) and 10.2 (paired t);
K. P. White, "An effective truncation heuristic for bias reduction in simulation output" (Simulation 69, 1997) and K. P.
White, M. J. Cobb and S. C. Spratt (WSC 2000) for MSER-5; S. Holm, Scand. J. Statist. 6 (1979); H. A. David and H. N.
Nagaraja, "Order Statistics" (3rd ed., 2003), section 7.1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Floats = NDArray[np.float64]
LEVEL: Final = 0.95
BATCHES: Final = 20
"""Law (9.5.3): 20 to 30 batches; more of them are too short to be independent."""
MSER_BATCH: Final = 5
ROUNDING: Final = 1e-12
"""A difference below this share of the values is floating-point noise."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean of `n` values and the half-width of its confidence interval; NaN where unknown."""

    mean: float
    half_width: float
    n: int

    @property
    def low(self) -> float:
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        return self.mean + self.half_width


@dataclass(frozen=True, slots=True)
class Difference:
    """The mean difference of pairs and its two-sided p-value; NaN with fewer than two pairs."""

    estimate: Estimate
    p: float


@dataclass(frozen=True, slots=True)
class Spread:
    """An interval between two order statistics, and its actual level.

    Whole ranks rarely meet the requested level exactly.
    """

    low: float
    high: float
    level: float


@dataclass(frozen=True, slots=True)
class Steady:
    """The mean of a run in steady state, after `dropped` values.

    `lag_1` is the batches' autocorrelation. A `lag_1` beyond 2 / sqrt(batches), 0.45 for 20 batches, means that the
    batches are too short and the interval too narrow.
    """

    estimate: Estimate
    dropped: int
    lag_1: float


def mean(values: Sequence[float] | Floats, level: float = LEVEL) -> Estimate:
    """Return the mean of independent values with its t interval.

    10, 11, 12, 13 and 14 give 12 ± 1.96 at 95 %: t = 2.78 for 4 degrees of freedom, standard error 0.71.
    """
    array = np.asarray(values, np.float64)
    n = len(array)
    if not n:
        return Estimate(math.nan, math.nan, 0)
    if n == 1:
        return Estimate(float(array[0]), math.nan, 1)
    return Estimate(float(array.mean()), _t(level, n - 1) * _standard_error(array), n)


def paired(a: Sequence[float] | Floats, b: Sequence[float] | Floats, level: float = LEVEL) -> Difference:
    """Return the mean of ``a - b`` over pairs with the same seed.

    Raises `ValueError` if the lengths differ.

    10, 12, 15 against 9, 10, 11 gives 2.33 ± 3.79 and p = 0.118: three pairs are too few to tell the two apart.
    """
    if len(a) != len(b):
        raise ValueError(f"pairs are needed: {len(a)} values cannot be paired with {len(b)}")
    differences = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    estimate = mean(differences, level)
    if estimate.n < 2 or math.isnan(estimate.mean):
        return Difference(estimate, math.nan)
    noise = ROUNDING * float(np.abs(a).max())
    if np.abs(differences).max() <= noise:
        return Difference(Estimate(0.0, 0.0, estimate.n), 1.0)
    error = _standard_error(differences)
    if error <= noise:
        return Difference(estimate, 0.0)
    return Difference(estimate, float(2 * stats.t.sf(abs(estimate.mean) / error, estimate.n - 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for multiple comparisons by Holm's step-down.

    NaN stays and is not counted.

    0.01, 0.04 and 0.03 become 0.03, 0.06 and 0.06: the smallest is multiplied by 3, the next by 2, the largest by 1,
    and none may be below the one before it.
    """
    adjusted = list(p_values)
    order = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    largest = 0.0
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(order) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def quantile_spread(values: Sequence[float] | Floats, q: float, level: float = LEVEL) -> Spread:
    """Return a distribution-free interval for the q-quantile of independent values.

    Its ends are order statistics with binomial ranks. The ranks are the narrowest symmetric choice that reaches the
    level. With too few values the interval is their whole range, at a lower level. For the median, 20 values give the
    6th to the 15th at 95.9 %, and 5 values give all five at 93.75 %. NaN without values.
    """
    if not 0 < q < 1:
        raise ValueError(f"q is {q}: must lie between 0 and 1")
    ordered = np.sort(np.asarray(values, np.float64))
    n = len(ordered)
    if not n:
        return Spread(math.nan, math.nan, 0.0)
    tail = (1 - level) / 2
    low = max(1, int(stats.binom.ppf(tail, n, q)))
    high = min(n, int(stats.binom.ppf(1 - tail, n, q)) + 1)
    actual_level = stats.binom.cdf(high - 1, n, q) - stats.binom.cdf(low - 1, n, q)
    return Spread(float(ordered[low - 1]), float(ordered[high - 1]), float(actual_level))


def warm_up(values: Sequence[float] | Floats) -> int:
    """Return the number of first values to drop, by MSER-5.

    It is -1 if the run never reaches its steady state. MSER-5 averages five values at a time and cuts where the
    standard error of the remaining averages is smallest. A cut in the second half means that the run had not settled
    (White, 1997). Ten values of 100, then 95 values around 10: the first 10 are dropped. Values that only rise, 0 to
    99, give -1.
    """
    array = np.asarray(values, np.float64)
    count = len(array) // MSER_BATCH
    if count < 2:
        return -1
    batches = array[: count * MSER_BATCH].reshape(count, MSER_BATCH).mean(axis=1)
    shifted = batches - batches.mean()
    remaining = np.arange(count, 0, -1)
    sums = np.cumsum(shifted[::-1])[::-1]
    squares = np.cumsum(shifted[::-1] ** 2)[::-1]
    errors = np.maximum(squares - sums**2 / remaining, 0.0) / remaining.astype(np.float64) ** 2
    cut = int(np.argmin(errors[: max(1, count - MSER_BATCH)]))
    return -1 if cut > count // 2 else cut * MSER_BATCH


def batch_means(values: Sequence[float] | Floats, batches: int = BATCHES, level: float = LEVEL) -> Steady | None:
    """Return the mean of one run in steady state from batch means; None if the run is too short.

    MSER-5 drops the warm-up, and the last values fill `batches` equal batches: 105 values with a warm-up of 5 and 20
    batches give batches of 5.
    """
    dropped = warm_up(values)
    steady = np.asarray(values, np.float64)[max(dropped, 0) :]
    size = len(steady) // batches
    if dropped < 0 or size < 1:
        return None
    batched = steady[len(steady) - size * batches :]
    means = batched.reshape(batches, size).mean(axis=1)
    return Steady(mean(means, level), len(values) - len(batched), _lag_1(means))


def _t(level: float, degrees: int) -> float:
    return float(stats.t.ppf((1 + level) / 2, degrees))


def _standard_error(values: Floats) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def _lag_1(values: Floats) -> float:
    deviations = values - values.mean()
    square_sum = float((deviations**2).sum())
    return float((deviations[1:] * deviations[:-1]).sum()) / square_sum if square_sum > 0 else 0.0
