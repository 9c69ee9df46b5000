"""A collapse is not believed at once: demand that is gone from one minute to the next mostly comes back as suddenly.

It is an outage upstream, a pause between bursts, a client that restarts; users leave slowly. Until the collapse has
lasted, what was needed before it is held.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

COLLAPSED: Final = 0.35
"""Demand of the last minute below this share of what was usual is a collapse: a day's wave takes an hour to fall so far
(a sine of a swing of 60 % loses 16 % an hour at the steepest), batches and outages take a minute."""
USUAL: Final = 0.9
"""The quantile of the demand before that is held: all but its peaks."""


def demand_to_hold(past: NDArray[np.float64], last: int) -> float:
    """Return the demand to hold on to, in replicas' worth; 0 where nothing has collapsed.

    `past` is the demand of the turns over which a collapse is disbelieved, oldest first, NaN where it was not seen; the
    `last` of them are the last minute.
    """
    seen = past[~np.isnan(past)]
    lately = past[-last:][~np.isnan(past[-last:])]
    if not lately.size or seen.size <= lately.size:
        return 0.0
    return float(np.quantile(seen, USUAL)) if float(lately.mean()) < COLLAPSED * float(seen.mean()) else 0.0
