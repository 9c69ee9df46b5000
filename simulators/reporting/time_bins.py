"""Time in bins: how much of each is covered by spans, and what part of it each thing falls into."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
MAX_BINS: Final = 400
"""Finer than a plot is wide shows nothing more."""
WIDTHS_S: Final = (1, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 21600, 43200, 86400)
"""Widths that people think in. Seconds."""
DIGITS: Final = 6
"""Digits kept of what is plotted: more cannot be seen, and the last ones of a sum differ from machine to machine."""


def edges(end_s: float) -> Floats:
    """Bins of an even width from 0 to the end, the last one cut short there. Seconds."""
    width_s = next((w for w in WIDTHS_S if end_s / w <= MAX_BINS), WIDTHS_S[-1])
    return np.append(np.arange(0.0, end_s, width_s), end_s) if end_s > 0 else np.array([0.0, 1.0])


def covered(start_s: Floats, end_s: Floats, edges_s: Floats) -> Floats:
    """How long spans cover each bin, added up over the spans. Seconds."""
    return np.diff(_before(np.sort(start_s), edges_s) - _before(np.sort(end_s), edges_s))


def _before(ordered_s: Floats, at_s: Floats) -> Floats:
    """Return the time since each of `ordered_s`, added up, at each time."""
    count = np.searchsorted(ordered_s, at_s, side="right")
    sums = np.concatenate(([0.0], np.cumsum(ordered_s)))
    return count * at_s - sums[count]


def union(start_s: Floats, end_s: Floats) -> tuple[Floats, Floats]:
    """Return the same time as spans that do not overlap: their starts and ends, in order."""
    order = np.argsort(start_s, kind="stable")
    start_s, reach_s = start_s[order], np.maximum.accumulate(end_s[order])
    if not len(start_s):
        return start_s, reach_s
    gaps = np.flatnonzero(start_s[1:] > reach_s[:-1])
    return start_s[np.concatenate(([0], gaps + 1))], reach_s[np.concatenate((gaps, [len(reach_s) - 1]))]


def rounded(values: Floats) -> Floats:
    """To `DIGITS` significant digits; what is no number stays."""
    values = np.asarray(values, np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        magnitude = np.floor(np.log10(np.abs(values)))
    places = np.where(np.isfinite(magnitude), DIGITS - 1 - magnitude, 0)
    scale = 10.0 ** np.clip(places, -300, 300)
    return np.where(np.isfinite(values), np.round(values * scale) / scale, values)
