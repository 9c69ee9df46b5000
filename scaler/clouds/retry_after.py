"""Pauses that services request before a retry.

Each cloud has its own headers. One bound limits all pauses.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Final

MAX_RETRY_AFTER_S: Final = 60.0
"""Maximum pause: readings are stale after it, and stale readings block scale-in. Seconds."""


def requested_wait_s(candidates: Iterable[tuple[object, float]]) -> float | None:
    """Return the first valid pause, bounded, in seconds; None without one.

    `candidates` are pairs (text, seconds per unit). Example: `[("", 1.0), ("1500", 0.001)]` gives 1.5.
    """
    for text, unit_s in candidates:
        try:
            wait_s = float(str(text)) * unit_s
        except ValueError:  # absent, or an HTTP date
            continue
        if math.isfinite(wait_s) and wait_s > 0:
            return min(wait_s, MAX_RETRY_AFTER_S)
    return None
