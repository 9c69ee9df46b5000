"""The statistics of simulated output: intervals that say how far a figure may be off, and which differences are real.

Replications are independent (one seed each), so a mean over them has a t interval. Policies that faced the same seeds
are compared pair by pair. Within one long run neighbouring requests are alike: what is taken from one run needs its
warm-up deleted and its batches' means, not its requests.

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
"""Differences smaller than this share of the values are of the arithmetic, not of what was measured."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and how far it may be off: the half-width of its interval at the level asked for; NaN where none is known.

    `n` is the number of values that it is the mean of.
    """

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
    """The mean difference of pairs, with the two-sided p-value of there being none; NaN with less than two pairs."""

    estimate: Estimate
    p: float


@dataclass(frozen=True, slots=True)
class Spread:
    """An interval between two order statistics, and the level that it truly has: whole ranks rarely meet one."""

    low: float
    high: float
    level: float


@dataclass(frozen=True, slots=True)
class Steady:
    """The mean of a run in steady state. `dropped` values came before it; `lag_1` is the batches' correlation.

    Batches whose `lag_1` is far from 0 (beyond 2 / sqrt(batches)) are too short, and the interval too narrow.
    """

    estimate: Estimate
    dropped: int
    lag_1: float


def mean(values: Sequence[float] | Floats, level: float = LEVEL) -> Estimate:
    """Return the mean of independent values with its t interval."""
    given = np.asarray(values, np.float64)
    n = len(given)
    if not n:
        return Estimate(math.nan, math.nan, 0)
    if n == 1:
        return Estimate(float(given[0]), math.nan, 1)
    return Estimate(float(given.mean()), _t(level, n - 1) * _standard_error(given), n)


def paired(a: Sequence[float] | Floats, b: Sequence[float] | Floats, level: float = LEVEL) -> Difference:
    """Return the mean of ``a - b`` over pairs that faced the same chance. Raises `ValueError` if they are not pairs."""
    if len(a) != len(b):
        raise ValueError(f"pairs are needed: {len(a)} values cannot be paired with {len(b)}")
    gaps = np.asarray(a, np.float64) - np.asarray(b, np.float64)
    found = mean(gaps, level)
    if found.n < 2 or math.isnan(found.mean):
        return Difference(found, math.nan)
    noise = ROUNDING * float(np.abs(a).max())
    if np.abs(gaps).max() <= noise:
        return Difference(Estimate(0.0, 0.0, found.n), 1.0)
    error = _standard_error(gaps)
    if error <= noise:
        return Difference(found, 0.0)
    return Difference(found, float(2 * stats.t.sf(abs(found.mean) / error, found.n - 1)))


def holm(p_values: Sequence[float]) -> list[float]:
    """Each p-value, adjusted for there being several by Holm's step-down; NaN stays, and counts as no comparison."""
    adjusted = list(p_values)
    told = sorted((i for i, p in enumerate(p_values) if not math.isnan(p)), key=lambda i: p_values[i])
    worst = 0.0
    for rank, i in enumerate(told):
        worst = max(worst, min(1.0, (len(told) - rank) * p_values[i]))
        adjusted[i] = worst
    return adjusted


def quantile_spread(values: Sequence[float] | Floats, q: float, level: float = LEVEL) -> Spread:
    """An interval for the q-quantile of independent values: two of them, by the binomial law, whatever they follow.

    The narrowest symmetric choice of ranks that has the level; with too few values for that their whole range, whose
    level is then lower. NaN without values.
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
    covered = stats.binom.cdf(high - 1, n, q) - stats.binom.cdf(low - 1, n, q)
    return Spread(float(ordered[low - 1]), float(ordered[high - 1]), float(covered))


def warm_up(values: Sequence[float] | Floats) -> int:
    """How many of the first values to drop, by MSER-5; -1 if the run is too short to have reached its steady state.

    Means of five values each; the cut that makes the standard error of the rest least. A cut in the second half says
    that the run had not settled (White, 1997).
    """
    given = np.asarray(values, np.float64)
    count = len(given) // MSER_BATCH
    if count < 2:
        return -1
    batches = given[: count * MSER_BATCH].reshape(count, MSER_BATCH).mean(axis=1)
    shifted = batches - batches.mean()
    left = np.arange(count, 0, -1)
    sums = np.cumsum(shifted[::-1])[::-1]
    squares = np.cumsum(shifted[::-1] ** 2)[::-1]
    errors = np.maximum(squares - sums**2 / left, 0.0) / left.astype(np.float64) ** 2
    least = int(np.argmin(errors[: max(1, count - MSER_BATCH)]))
    return -1 if least > count // 2 else least * MSER_BATCH


def batch_means(values: Sequence[float] | Floats, batches: int = BATCHES, level: float = LEVEL) -> Steady | None:
    """The mean of one run in steady state: warm-up dropped by MSER-5, the rest in batches; None if it is too short."""
    dropped = warm_up(values)
    rest = np.asarray(values, np.float64)[max(dropped, 0) :]
    size = len(rest) // batches
    if dropped < 0 or size < 1:
        return None
    kept = rest[len(rest) - size * batches :]
    means = kept.reshape(batches, size).mean(axis=1)
    return Steady(mean(means, level), len(values) - len(kept), _lag_1(means))


def _t(level: float, freedom: int) -> float:
    return float(stats.t.ppf((1 + level) / 2, freedom))


def _standard_error(values: Floats) -> float:
    return float(values.std(ddof=1)) / math.sqrt(len(values))


def _lag_1(values: Floats) -> float:
    gaps = values - values.mean()
    power = float((gaps**2).sum())
    return float((gaps[1:] * gaps[:-1]).sum()) / power if power > 0 else 0.0
