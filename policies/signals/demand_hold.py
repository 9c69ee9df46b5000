"""Hold the previous demand for a while after demand collapses.

Demand that disappears within a minute usually returns as suddenly: an outage upstream, a pause between bursts, a client
that restarts. Users leave slowly. So the demand before a collapse is held until the collapse has lasted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLLAPSE_SHARE: Final = 0.35
"""Demand of the last minute below this share of the mean is a collapse. A daily wave falls more slowly: a sine with a
swing of 60 % loses at most 0.6 * 2 pi / 24 = 16 % of its mean per hour. Batches and outages take a minute. Share."""
HELD_QUANTILE: Final = 0.9
"""Quantile of the demand that is held: the demand without its peaks."""


def demand_to_hold(demand: NDArray[np.float64], recent_ticks: int) -> float:
    """Return the demand to hold, in replica equivalents; 0 without a collapse.

    `demand` has one value per tick of the hold time, oldest first, NaN where it is unknown. The last `recent_ticks` of
    them are the last minute.

    Example: 56 ticks at 4.0 replicas and a last minute (4 ticks) at 0.1. The mean is 3.74, and 0.1 is less than
    0.35 * 3.74 = 1.31: a collapse. The 0.9 quantile is held: 4.0 replicas.
    """
    is_known = ~np.isnan(demand)
    recent, known = demand[-recent_ticks:][is_known[-recent_ticks:]], demand[is_known]
    if not recent.size or known.size <= recent.size:
        return 0.0
    if float(recent.sum()) / recent.size >= COLLAPSE_SHARE * (float(known.sum()) / known.size):
        return 0.0
    return float(np.quantile(known, HELD_QUANTILE))
