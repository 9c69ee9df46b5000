"""How long starts took in a recorded period."""

from __future__ import annotations

import math

from policies.lead_times import LeadTimes
from policies.model import PoolName
from simulators.retrospect.record import Recorded


def lead_times(recorded: Recorded, pool: PoolName) -> LeadTimes:
    """A pool's lead times, as its sizes show them."""
    seen, sizes = LeadTimes(), recorded.pools[pool]
    for at, desired, ready in zip(recorded.at, sizes["desired"], sizes["ready"], strict=True):
        if math.isfinite(desired) and math.isfinite(ready):
            seen.note(float(at), int(desired), int(ready))
    return seen
