"""Forecasters that look at the last minutes only: the last value, an adaptive level, a damped trend.

Each takes the newest fine bins and gives the mean of what comes.
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
"""Bins looked at: half an hour of turns at 15 s; a longer mean is a season's business."""
BLOCKS: Final = np.array([1, 2, 4, 8, 16, 32, 64, 128])
"""The level's windows, each twice the one before, as in ADWIN2 (Bifet & Gavaldà, SDM 2007, section 4)."""
SHIFT_SIGMAS: Final = 2.5
"""An older block that differs by more is from before a shift: about 1 in 80 by chance."""
MAD_TO_SIGMA: Final = 1.4826
"""A normal's standard deviation in median absolute deviations (Rousseeuw & Croux, JASA 1993)."""
TREND_S: Final = 300.0
TREND_BINS: Final = 8
"""The trend forgets half in five minutes, or in eight bins where bins are long."""
DAMPING_S: Final = 600.0
DAMPING_BINS: Final = 8
"""A trend goes on for about so long before it has levelled out: Gardner & McKenzie (1985) found damping to pay."""
TREND_DOUBT: Final = 2.0
"""A slope of so many squared standard errors is believed by half: shrinkage as in James & Stein (1961)."""


class RecentBins:
    """The newest bins, oldest first, NaN for gaps, and their sums over windows that double backwards.

    `values` are those seen. `counts` and `sums` are over the newest 1, 2, 4 ... bins, as far as there are so many.
    """

    __slots__ = ("counts", "seen", "size", "sums", "values", "whole")

    def __init__(self, bins: NDArray[np.float64]) -> None:
        self.size = bins.size
        self.seen: NDArray[np.bool_] = ~np.isnan(bins)
        self.whole = bool(self.seen.all())
        self.values = bins if self.whole else bins[self.seen]
        reach = BLOCKS[: int(BLOCKS.searchsorted(bins.size, side="right"))]
        filled = bins if self.whole else np.where(self.seen, bins, 0.0)
        self.sums: list[float] = filled[::-1].cumsum()[reach - 1].tolist()
        self.counts: list[int] = (reach if self.whole else self.seen[::-1].cumsum()[reach - 1]).tolist()

    def last(self) -> float:
        """Return the newest value seen; NaN if there is none. Persistence: what a reactive policy goes by."""
        return float(self.values[-1]) if self.values.size else math.nan

    def mean(self, window: int) -> float:
        """Return the mean over the newest 1, 2, 4 ...

        Bins, for a `window` of 0, 1, 2 ...; NaN where nothing was seen.
        """
        count = self.counts[window]
        return self.sums[window] / count if count else math.nan

    def noise(self) -> float:
        """Return the standard deviation of single bins about a slowly moving level.

        From the median absolute first difference (von Neumann 1941, made robust): level, trend and lone outliers
        cancel.
        """
        change = np.abs(self.values[1:] - self.values[:-1])
        if not change.size:
            return 0.0
        half = change.size // 2
        ordered = np.partition(change, half)
        middle = float(ordered[half])
        if change.size % 2 == 0:
            middle = 0.5 * (middle + float(ordered[:half].max()))
        return middle * MAD_TO_SIGMA / math.sqrt(2.0)

    def level(self) -> tuple[float, int]:
        """Return the mean over the longest window in which the level did not shift, and that window's length in bins.

        Windows double from the newest value backwards; the first older block whose mean differs from the younger
        ones' by more than chance allows ends it (Lepski's rule; ADWIN2). So it forgets at once after a shift and
        averages long in quiet times.
        """
        if not self.counts or not self.counts[-1]:
            return math.nan, 0
        allowed = SHIFT_SIGMAS * self.noise()
        until = len(self.counts) - 1
        for k in range(until):
            young, old = self.counts[k], self.counts[k + 1] - self.counts[k]
            if young and old:  # an empty block proves nothing
                apart = abs(self.sums[k] / young - (self.sums[k + 1] - self.sums[k]) / old)
                if apart > allowed * math.sqrt(1.0 / young + 1.0 / old):
                    until = k
                    break
        return self.sums[until] / self.counts[until], int(BLOCKS[until])


@dataclass(frozen=True, slots=True)
class DiscountedLine:
    """What a discounted least-squares line needs of the times alone: it changes only with the gaps.

    `weight` of each value seen (they sum to `total`), `apart_s` its age less the weighted mean `centre_s`, `pull` the
    product of both, `spread` its weighted square, and `doubt` what a residual variance becomes as the slope's.
    """

    weight: NDArray[np.float64]
    apart_s: NDArray[np.float64]
    pull: NDArray[np.float64]
    total: float
    centre_s: float
    spread: float
    doubt: float

    @staticmethod
    def through(age_s: NDArray[np.float64], half_life_s: float) -> DiscountedLine:
        weight = 0.5 ** (age_s / half_life_s)
        total = float(weight.sum())
        centre_s = float(weight @ age_s) / total
        apart_s = age_s - centre_s
        spread = float(weight @ apart_s**2)
        doubt = float(weight**2 @ apart_s**2) / (spread * spread)
        return DiscountedLine(weight, apart_s, weight * apart_s, total, centre_s, spread, doubt)


@lru_cache(maxsize=64)
def whole_line(size: int, step_s: float) -> DiscountedLine:
    """Return the line through `size` bins without a gap; shared by all who watch at this step."""
    return DiscountedLine.through(bin_ages_s(size, step_s), half_life_s(step_s))


def bin_ages_s(size: int, step_s: float) -> NDArray[np.float64]:
    """Return the age of each of so many bins, oldest first. Seconds."""
    return step_s * np.arange(size - 1, -1, -1.0)


def half_life_s(step_s: float) -> float:
    """Return the age at which a value weighs half in the trend. Seconds."""
    return max(TREND_S, TREND_BINS * step_s)


def onward_s(step_s: float, horizons_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how long a trend goes on undamped for what it comes to by each horizon. Seconds."""
    damping_s = max(DAMPING_S, DAMPING_BINS * step_s)
    onward: NDArray[np.float64] = damping_s * -np.expm1(-horizons_s / damping_s)
    return onward


def trend(recent: RecentBins, step_s: float, onward_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return a line through the last minutes, by discounted least squares (Brown 1963), shrunk by doubt and damped.

    `onward_s` tells how far to follow it, as `onward_s()` does. All NaN with fewer than four values. Never below zero.
    """
    values = recent.values
    if values.size < 4:
        return np.full(len(onward_s), np.nan)
    if recent.whole:
        line = whole_line(recent.size, step_s)
    else:
        line = DiscountedLine.through(bin_ages_s(recent.size, step_s)[recent.seen], half_life_s(step_s))
    mean = float(line.weight @ values) / line.total
    slope = -float(line.pull @ values) / line.spread
    residual = values - mean + slope * line.apart_s
    variance = float(line.weight @ (residual * residual)) / line.total * line.doubt
    proved = slope * slope
    slope *= proved / (proved + TREND_DOUBT * variance) if proved else 0.0
    path: NDArray[np.float64] = np.maximum(mean + slope * (line.centre_s + onward_s), 0.0)
    return path
