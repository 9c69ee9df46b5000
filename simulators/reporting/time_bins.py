"""Time bins: their edges, and the time in each that spans cover."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MAX_BINS: Final = 400
"""The maximum number of bins, for the width of a plot."""
WIDTHS_S: Final = (1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
"""The widths of bins. Seconds."""
DIGITS: Final = 6
"""Significant digits of plotted values: the last digits of a sum differ between machines."""


def edges(end_s: float) -> Floats:
    """Return the edges of equal bins from 0 to the end; the last bin may be shorter. Seconds.

    A run of 3,600 s has 360 bins of 10 s.
    """
    width_s = next((w for w in WIDTHS_S if end_s / w <= MAX_BINS), WIDTHS_S[-1])
    return np.append(np.arange(0.0, end_s, width_s), end_s) if end_s > 0 else np.array([0.0, 1.0])


def covered(start_s: Floats, end_s: Floats, edges_s: Floats) -> Floats:
    """Return the time that spans cover in each bin, summed over the spans. Seconds.

    Spans of 0 to 15 s and 5 to 10 s cover 15 s of the bin 0 to 10 s and 5 s of the bin 10 to 20 s.
    """
    return np.diff(_elapsed(np.sort(start_s), edges_s) - _elapsed(np.sort(end_s), edges_s))


def _elapsed(ordered_s: Floats, times_s: Floats) -> Floats:
    """Return the time elapsed since all of `ordered_s`, summed, at each time."""
    count = np.searchsorted(ordered_s, times_s, side="right")
    sums = np.concatenate(([0.0], np.cumsum(ordered_s)))
    return count * times_s - sums[count]


def merged(start_s: Floats, end_s: Floats) -> tuple[Floats, Floats]:
    """Merge overlapping spans.

    Return the starts and ends in order: 0 to 4 and 3 to 6 become 0 to 6.
    """
    order = np.argsort(start_s, kind="stable")
    start_s, ends_s = start_s[order], np.maximum.accumulate(end_s[order])
    if not len(start_s):
        return start_s, ends_s
    gaps = np.flatnonzero(start_s[1:] > ends_s[:-1])
    return start_s[np.concatenate(([0], gaps + 1))], ends_s[np.concatenate((gaps, [len(ends_s) - 1]))]


def rounded(values: Floats) -> Floats:
    """Round to `DIGITS` significant digits. Infinities and NaN stay."""
    values = np.asarray(values, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        magnitude = np.floor(np.log10(np.abs(values)))
    places = np.where(np.isfinite(magnitude), DIGITS - 1 - magnitude, 0)
    scale = 10.0 ** np.clip(places, -300, 300)
    return np.where(np.isfinite(values), np.round(values * scale) / scale, values)
