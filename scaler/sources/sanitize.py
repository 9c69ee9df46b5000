"""What may pass for a measurement. Sentinels, NaN, infinities, negative counts and absurd values stop here."""

from __future__ import annotations

import math
from typing import Final

from policies.model import Absent, Fresh
from policies.signals.plausibility import SHARES, implausible

SHOWN: Final = 100
"""Characters of what is no number, kept in the reason."""


def sanitize(quantity: str, value: object, measured_at: float, missing: str = "") -> Fresh[float] | Absent:
    """`value` as a reading of `quantity`, or why it can't be one. Quantities are at least 0; shares at most 1.

    `missing` says what a total lacks, which makes it a lower bound.
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
