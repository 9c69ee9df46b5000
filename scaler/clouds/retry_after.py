"""Pauses that services request before a retry: each cloud by headers of its own, all within one bound."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

MAX_RETRY_AFTER_S: Final = 60.0
"""The longest pause that a service is granted: its readings would be stale after it, and scale-in is blocked then."""


def requested_wait_s(candidates: Iterable[tuple[object, float]]) -> float | None:
    """Return the first valid pause of these (text, seconds a unit), within bounds.

    None where there is none.

    Seconds.
    """
    for text, unit_s in candidates:
        try:
            wait_s = float(str(text)) * unit_s
        except ValueError:  # absent, or a date
            continue
        if math.isfinite(wait_s) and wait_s > 0:
            return min(wait_s, MAX_RETRY_AFTER_S)
    return None
