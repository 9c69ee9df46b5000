"""Validation of measurements: rejects sentinels, NaN, infinities, negative counts and implausible values."""

from __future__ import annotations

import math
from typing import Final

from policies.model import Absent, Fresh
from policies.signals.plausibility import SHARES, implausible

SHOWN: Final = 100
"""Characters of an invalid value kept in the reason."""


def sanitize(quantity: str, value: object, measured_at: float, missing: str = "") -> Fresh[float] | Absent:
    """Return `value` as a reading of `quantity`, or the reason why it is not valid.

    Quantities are >= 0, shares <= 1.

    `missing` names the missing part of a total, which makes it a lower bound.
    """
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return Absent(f"{value!r:.{SHOWN}} is not a number")
    try:
        number = float(value)
    except (OverflowError, ValueError):
        return Absent(f"{value!r:.{SHOWN}} is not a number")
    if not math.isfinite(number) or not math.isfinite(measured_at):
        return Absent(f"{number} is not finite")
    if why := implausible(quantity, number):
        return Absent(why)
    return Fresh(min(number, 1.0) if quantity in SHARES else number, measured_at, missing)
