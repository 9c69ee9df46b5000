"""Times and money as integers, so that equal seeds give equal bytes on any machine."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from simulators.engine.models.service import PS_PER_S

PS_PER_MS: Final = PS_PER_S // 1000
MICRO_PER_USD: Final = 10**6
COST_PER_MICRO_USD: Final = 3600 * PS_PER_S
"""A cost is a price in micro-dollars per hour times picoseconds: exact, and a micro-dollar is this many of them."""


def to_ps(seconds: float) -> int:
    """Seconds in picoseconds, rounded to a millisecond: what the last bit of an exponential says must not matter."""
    return round(seconds * 1000) * PS_PER_MS


def to_s(ps: int) -> float:
    """Picoseconds in seconds."""
    return ps / PS_PER_S


def micro_usd_per_hour(usd_per_hour: float) -> int:
    """Return a price in whole micro-dollars per hour, half up."""
    return int((Decimal(str(usd_per_hour)) * MICRO_PER_USD).to_integral_value(ROUND_HALF_UP))


def micro_usd(cost: int) -> int:
    """Return a cost in whole micro-dollars, half up. To be called once, on a sum."""
    return (2 * cost + COST_PER_MICRO_USD) // (2 * COST_PER_MICRO_USD)
