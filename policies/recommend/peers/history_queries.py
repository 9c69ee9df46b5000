"""Queries of the history that the peers share: totals over past ticks, and the time that a tick adds.

The originals count loop iterations or compare times of day. Here it is time seen: a turn adds the time since the turn
before it, so that an interval's jitter changes nothing and a jump of the clock is no time at all.
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
"""The longest that a gap between two turns counts for: in a longer one nobody looked, and nothing is proved."""
JITTER_S: Final = 1e-6
"""What sums of float durations may lack: ten tenths of a second are a second."""


def elapsed_s(context: PolicyContext) -> float:
    """Return the time that this turn adds to whatever is being timed. Seconds; 0 in the first turn."""
    at = context.history.column(AT)
    return min(context.at - float(at[-1]), MAX_GAP_S) if at.size else 0.0


def totals(context: PolicyContext, values: Mapping[SignalName, float], window_s: float) -> NDArray[np.float64]:
    """Return the sum of these signals in each tick younger than `window_s` that saw them all.

    This tick's `values` come last.
    """
    since = context.at - window_s
    seen = [context.history.signal(name, since) for name in values]
    common = reduce(np.intersect1d, (at for at, _ in seen))
    common = common[common > since]
    past = np.zeros(common.size)
    for at, value in seen:
        past += value[np.isin(at, common)]
    return np.append(past, sum(values.values()))
