"""Queries of the history that the peers share.

They return totals of recent ticks, and the time that a tick adds. The originals count ticks or compare times of day.
Here each tick adds the time since the previous tick, so the jitter of the interval changes nothing, and a jump of the
clock adds no time.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.history.ticks import AT
from policies.model import SignalName
from policies.recommend.context import PolicyContext

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_GAP_S: Final = 60.0
"""A gap between two ticks counts for at most this time, since nothing was observed in it. Seconds."""
JITTER_S: Final = 1e-6
"""Tolerance for sums of float durations: ten times 0.1 s are a second. Seconds."""


def elapsed_s(context: PolicyContext) -> float:
    """Return the time that this tick adds to a timer. Seconds.

    It is 0 in the first tick. Example: 15 s after the last tick, and 60 s after a gap of 2 h.
    """
    times = context.history.column(AT)
    return min(context.at - float(times[-1]), MAX_GAP_S) if times.size else 0.0


def totals(context: PolicyContext, values: Mapping[SignalName, float], window_s: float) -> NDArray[np.float64]:
    """Return the sum of these signals in each tick within `window_s` that has all of them.

    The sum of this tick's `values` is last.

    Example: running was 3 and waiting 1 in the last tick, and they are 5 and 2 now: [4.0, 7.0].
    """
    since = context.at - window_s
    series = [context.history.signal(name, since) for name in values]
    common = reduce(np.intersect1d, (times for times, _ in series))
    common = common[common > since]
    sums = np.zeros(common.size)
    for times, values_at in series:
        sums += values_at[np.isin(times, common)]
    return np.append(sums, sum(values.values()))
