"""Candidates that use only the last minutes.

They are the last value, an adaptive level, and a damped trend.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

WINDOW: Final = 128
"""Bins used: half an hour at 15 s. The seasonal candidates use longer means."""
BLOCKS: Final = np.array([1, 2, 4, 8, 16, 32, 64, 128])
"""The windows of the level in bins, each twice the one before, as in ADWIN2 (Bifet & Gavaldà, SDM 2007, section 4)."""
SHIFT_SIGMAS: Final = 2.5
"""An older block that differs by more standard deviations is from before a shift: 1 in 80 differs so by chance."""
MAD_TO_SIGMA: Final = 1.4826
"""Standard deviation of a normal distribution per median absolute deviation (Rousseeuw & Croux, JASA 1993)."""
TREND_S: Final = 300.0
TREND_BINS: Final = 8
"""Half-life of the weights of the trend: five minutes, or eight bins if bins are long."""
DAMPING_S: Final = 600.0
DAMPING_BINS: Final = 8
"""Time constant in which a trend levels out; Gardner & McKenzie (1985) found that damping improves forecasts."""
SLOPE_SHRINKAGE: Final = 2.0
"""A slope whose square is this many squared standard errors counts half: shrinkage as in James & Stein (1961)."""


class RecentBins:
    """The newest bins, and their sums over windows that double backwards.

    Bins are ordered from old to new, with NaN for gaps. `values` are the known bins. `counts` and `sums` are over the
    newest 1, 2, 4 ... bins, up to `size`.
    """

    __slots__ = ("counts", "has_no_gaps", "known", "size", "sums", "values")

    def __init__(self, bins: NDArray[np.float64]) -> None:
        self.size = bins.size
        self.known: NDArray[np.bool_] = ~np.isnan(bins)
        self.has_no_gaps = bool(self.known.all())
        self.values = bins if self.has_no_gaps else bins[self.known]
        windows = BLOCKS[: int(BLOCKS.searchsorted(bins.size, side="right"))]
        filled = bins if self.has_no_gaps else np.where(self.known, bins, 0.0)
        self.sums: list[float] = filled[::-1].cumsum()[windows - 1].tolist()
        self.counts: list[int] = (windows if self.has_no_gaps else self.known[::-1].cumsum()[windows - 1]).tolist()

    def last(self) -> float:
        """Return the newest known value; NaN without one.

        This is persistence, the forecast of a reactive policy.
        """
        return float(self.values[-1]) if self.values.size else math.nan

    def mean(self, window: int) -> float:
        """Return the mean of the newest ``2**window`` bins; NaN if none is known.

        Window 2 has 4 bins.
        """
        count = self.counts[window]
        return self.sums[window] / count if count else math.nan

    def noise(self) -> float:
        """Return the standard deviation of single bins about a slowly moving level.

        It is derived from the median absolute first difference (von Neumann 1941, made robust), in which level, trend
        and single outliers cancel. Example: a median difference of 0.1 is 0.1 * 1.4826 / sqrt(2) = 0.105.
        """
        change = np.abs(self.values[1:] - self.values[:-1])
        if not change.size:
            return 0.0
        middle = change.size // 2
        ordered = np.partition(change, middle)
        median_change = float(ordered[middle])
        if change.size % 2 == 0:
            median_change = 0.5 * (median_change + float(ordered[:middle].max()))
        return median_change * MAD_TO_SIGMA / math.sqrt(2.0)

    def level(self) -> tuple[float, int]:
        """Return the mean over the longest window without a shift of the level.

        The second value is the window's length in bins.

        Windows double from the newest value backwards. The first older block whose mean differs from the mean of the
        younger bins by more than chance ends the window (Lepski's rule; ADWIN2). So the level forgets at once after a
        shift and averages over many bins in quiet times.

        Example: 100 bins at 2.0, then one at 8.0. The level is 8.0, over 1 bin.
        """
        if not self.counts or not self.counts[-1]:
            return math.nan, 0
        allowed = SHIFT_SIGMAS * self.noise()
        longest = len(self.counts) - 1
        for k in range(longest):
            younger_count, older_count = self.counts[k], self.counts[k + 1] - self.counts[k]
            if younger_count and older_count:
                difference = abs(self.sums[k] / younger_count - (self.sums[k + 1] - self.sums[k]) / older_count)
                if difference > allowed * math.sqrt(1.0 / younger_count + 1.0 / older_count):
                    longest = k
                    break
        return self.sums[longest] / self.counts[longest], int(BLOCKS[longest])


@dataclass(frozen=True, slots=True)
class DiscountedLine:
    """The part of a discounted least-squares line that depends on the times only.

    `weight` is that of each known value (their sum is `total`), `centered_age_s` its age less the weighted mean
    `centre_s`, and `moment` the product of both. `sum_of_squares` is the weighted sum of squared ages, and
    `slope_variance` the variance of the slope per residual variance.
    """

    weight: NDArray[np.float64]
    centered_age_s: NDArray[np.float64]
    moment: NDArray[np.float64]
    total: float
    centre_s: float
    sum_of_squares: float
    slope_variance: float

    @staticmethod
    def through(age_s: NDArray[np.float64], half_life_s: float) -> DiscountedLine:
        weight = 0.5 ** (age_s / half_life_s)
        total = float(weight.sum())
        centre_s = float(weight @ age_s) / total
        centered_age_s = age_s - centre_s
        sum_of_squares = float(weight @ centered_age_s**2)
        slope_variance = float(weight**2 @ centered_age_s**2) / (sum_of_squares * sum_of_squares)
        return DiscountedLine(
            weight, centered_age_s, weight * centered_age_s, total, centre_s, sum_of_squares, slope_variance
        )


@lru_cache(maxsize=64)
def whole_line(size: int, step_s: float) -> DiscountedLine:
    """Return the line through `size` bins without a gap.

    It is the same for all series of this step.
    """
    return DiscountedLine.through(bin_ages_s(size, step_s), half_life_s(step_s))


def bin_ages_s(size: int, step_s: float) -> NDArray[np.float64]:
    """Return the ages of `size` bins, oldest first: 30, 15, 0 for 3 bins of 15 s. Seconds."""
    return step_s * np.arange(size - 1, -1, -1.0)


def half_life_s(step_s: float) -> float:
    """Return the age at which a value has half its weight in the trend. Seconds."""
    return max(TREND_S, TREND_BINS * step_s)


def damped_s(step_s: float, horizons_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the time for which to follow the undamped trend, for each horizon. Seconds.

    After this time, the undamped trend has the value that the damped trend has at the horizon.

    Example: at 300 s, the damped trend has moved as far as the undamped one in 600 * (1 - exp(-300 / 600)) = 236 s.
    """
    damping_s = max(DAMPING_S, DAMPING_BINS * step_s)
    times_s: NDArray[np.float64] = damping_s * -np.expm1(-horizons_s / damping_s)
    return times_s


def trend(recent: RecentBins, step_s: float, damped_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the forecast of a line through the last minutes.

    The line is fitted by discounted least squares (Brown 1963). The slope is shrunk by its uncertainty. `damped_s` is
    the time to follow the line, from the function `damped_s`. All NaN with fewer than four values; never below zero.

    Example: the line is at 10.0 now and rises by 0.01 per s, with little noise. In 300 s, which count as 236 s, the
    forecast is 12.4.
    """
    values = recent.values
    if values.size < 4:
        return np.full(len(damped_s), np.nan)
    if recent.has_no_gaps:
        line = whole_line(recent.size, step_s)
    else:
        line = DiscountedLine.through(bin_ages_s(recent.size, step_s)[recent.known], half_life_s(step_s))
    mean = float(line.weight @ values) / line.total
    slope = -float(line.moment @ values) / line.sum_of_squares
    residual = values - mean + slope * line.centered_age_s
    variance = float(line.weight @ (residual * residual)) / line.total * line.slope_variance
    squared_slope = slope * slope
    slope *= squared_slope / (squared_slope + SLOPE_SHRINKAGE * variance) if squared_slope else 0.0
    path: NDArray[np.float64] = np.maximum(mean + slope * (line.centre_s + damped_s), 0.0)
    return path
