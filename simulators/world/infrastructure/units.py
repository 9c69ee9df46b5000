"""Times and money as integers: equal seeds give equal bytes on every machine."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Final

from simulators.engine.models.service import PS_PER_S

PS_PER_MS: Final = PS_PER_S // 1000
MICRO_PER_USD: Final = 10**6
COST_PER_MICRO_USD: Final = 3600 * PS_PER_S
"""Cost units per micro-dollar. A cost is a price in micro-dollars per hour times picoseconds, which is exact."""


def to_ps(seconds: float) -> int:
    """Return seconds as picoseconds, rounded to a millisecond.

    So the last bit of an exponential has no effect.
    """
    return round(seconds * 1000) * PS_PER_MS


def to_s(ps: int) -> float:
    """Return picoseconds as seconds."""
    return ps / PS_PER_S


def micro_usd_per_hour(usd_per_hour: float) -> int:
    """Return a price in whole micro-dollars per hour, rounded half up."""
    return int((Decimal(str(usd_per_hour)) * MICRO_PER_USD).to_integral_value(ROUND_HALF_UP))


def micro_usd(cost: int) -> int:
    """Return a cost in whole micro-dollars, rounded half up. Call it once, on a sum."""
    return (2 * cost + COST_PER_MICRO_USD) // (2 * COST_PER_MICRO_USD)
