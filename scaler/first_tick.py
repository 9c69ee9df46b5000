"""Time of a workload's first tick: workloads spread over the interval, in slots."""

from __future__ import annotations

import math
import zlib
from typing import Final

from policies.model import WorkloadName

SPREAD_S: Final = 0.01
"""Mean time between two workloads' first ticks. Seconds. 3 workloads start within 0.02 s, 1000 within 10 s."""
SLOT_S: Final = 0.25
"""Time between two slots, which first ticks have where they spread over more than this. Seconds. The reads of a slot
share calls: 2,000 workloads at 15 s are 33 in each slot."""


def first_tick_s(name: WorkloadName, interval_s: float, workloads: int, now: float) -> float:
    """Return the Unix time of a workload's first tick, by its name. Seconds.

    Example: 101 workloads spread over 1.00 s; one whose name hashes to a quarter of the range waits 0.25 s, and up to
    `SLOT_S` more for the next slot.
    """
    spread_s = min(interval_s, SPREAD_S * (workloads - 1))
    first_s = now + spread_s * (zlib.crc32(name.encode()) / 2**32)
    return first_s if spread_s <= SLOT_S else math.ceil(first_s / SLOT_S) * SLOT_S
