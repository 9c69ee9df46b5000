"""What may pass for a measurement. Sentinels, NaN, infinities and negative counts stop here."""

from __future__ import annotations

import math
from typing import Final

from policies.latencies import LATE
from policies.model import Absent, Fresh

SHARES: Final = LATE | {"utilization", "kv_cache_usage", "tensor_active", "memory_active", "prefix_hit_share"}
"""Quantities that are shares, 0 to 1."""
SHARE_SLACK: Final = 0.02
"""By how much a mean of shares may exceed 1 through rounding and unequal scrapes before it is disbelieved."""


def measured(quantity: str, value: object, measured_at: float, missing: str = "") -> Fresh[float] | Absent:
    """`value` as a reading of `quantity`, or why it can't be one. Quantities are at least 0; shares at most 1.

    `missing` says what a total lacks, which makes it a lower bound.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return Absent(f"{value!r} is not a number")
    try:
        number = float(value)
    except ValueError:
        return Absent(f"{value!r} is not a number")
    if not math.isfinite(number) or not math.isfinite(measured_at):
        return Absent(f"{number} is not finite")
    if number < 0:
        return Absent(f"{number:g} is negative")
    if quantity in SHARES:
        if number > 1 + SHARE_SLACK:
            return Absent(f"{number:g} is not a share from 0 to 1")
        number = min(number, 1.0)
    return Fresh(number, measured_at, missing)
