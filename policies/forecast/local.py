"""Forecasters that look at the last minutes only: the last value, an adaptive level, a damped trend.

Each takes the newest fine bins (oldest first, NaN for gaps) and gives the mean at each horizon, shape (H,).
"""

from __future__ import annotations

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


def last(recent: NDArray[np.float64]) -> float:
    """The newest value seen; NaN if there is none. Persistence: what a reactive policy goes by."""
    seen = recent[~np.isnan(recent)]
    return float(seen[-1]) if seen.size else np.nan


def means(recent: NDArray[np.float64], lookbacks: NDArray[np.int64]) -> NDArray[np.float64]:
    """The means over the newest so many bins; NaN where nothing was seen in them."""
    mask = ~np.isnan(recent)
    sums = np.cumsum(np.where(mask, recent, 0.0)[::-1])[lookbacks - 1]
    counts = np.cumsum(mask[::-1])[lookbacks - 1]
    mean: NDArray[np.float64] = np.divide(sums, counts, out=np.full(len(lookbacks), np.nan), where=counts > 0)
    return mean


def noise(recent: NDArray[np.float64]) -> float:
    """The standard deviation of single bins about a slowly moving level.

    From the median absolute first difference (von Neumann 1941, made robust): level, trend and lone outliers cancel.
    """
    change = np.abs(np.diff(recent[~np.isnan(recent)]))
    return float(np.median(change)) * MAD_TO_SIGMA / np.sqrt(2.0) if change.size else 0.0


def level(recent: NDArray[np.float64]) -> tuple[float, int]:
    """The mean over the longest window in which the level did not shift, and that window's length in bins.

    Windows double from the newest value backwards; the first older block whose mean differs from the younger ones' by
    more than chance allows ends it (Lepski's rule; ADWIN2). So it forgets at once after a shift and averages long in
    quiet times.
    """
    mask = ~np.isnan(recent)
    backwards = np.where(mask, recent, 0.0)[::-1]
    reach = BLOCKS[: int(np.searchsorted(BLOCKS, recent.size, side="right"))]
    sums = np.cumsum(backwards)[reach - 1]
    counts = np.cumsum(mask[::-1])[reach - 1]
    if not counts[-1]:
        return np.nan, 0
    young, old = counts[:-1], np.diff(counts)
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = np.abs(sums[:-1] / young - np.diff(sums) / old)
        allowed = SHIFT_SIGMAS * noise(recent) * np.sqrt(1.0 / young + 1.0 / old)
        shifted = apart > allowed  # an empty block proves nothing
    first = int(np.argmax(shifted)) if shifted.any() else len(reach) - 1
    return float(sums[first] / counts[first]), int(reach[first])


def trend(recent: NDArray[np.float64], step_s: float, horizons_s: NDArray[np.float64]) -> NDArray[np.float64]:
    """A line through the last minutes, by discounted least squares (Brown 1963), shrunk by doubt and damped.

    All NaN with fewer than four values. Never below zero.
    """
    seen = ~np.isnan(recent)
    if seen.sum() < 4:
        return np.full(len(horizons_s), np.nan)
    age_s = step_s * np.arange(recent.size - 1, -1, -1.0)[seen]
    values = recent[seen]
    weight = 0.5 ** (age_s / max(TREND_S, TREND_BINS * step_s))
    total = weight.sum()
    centre = weight @ age_s / total
    mean = weight @ values / total
    spread = weight @ (age_s - centre) ** 2
    slope = -(weight * (age_s - centre)) @ values / spread
    residual = values - mean + slope * (age_s - centre)
    variance = (weight @ residual**2 / total) * (weight**2 @ (age_s - centre) ** 2) / spread**2
    slope *= slope**2 / (slope**2 + TREND_DOUBT * variance) if slope else 0.0
    damping_s = max(DAMPING_S, DAMPING_BINS * step_s)
    onward_s = damping_s * -np.expm1(-horizons_s / damping_s)
    path: NDArray[np.float64] = np.maximum(mean + slope * (centre + onward_s), 0.0)
    return path
