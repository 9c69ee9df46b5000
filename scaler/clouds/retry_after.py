"""How long a service asks to be left alone: each cloud says it in words of its own, and all within one bound."""

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
            asked = float(str(text)) * unit_s
        except ValueError:  # absent, or a date
            continue
        if math.isfinite(asked) and asked > 0:
            return min(asked, MAX_RETRY_AFTER_S)
    return None
