"""Checks that a source's readings are valid for any response."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping

from policies.model import Absent, Fresh


def invalid_reading(readings: Mapping[str, Fresh[float] | Absent]) -> str:
    """Describe the first invalid reading; empty if all are valid."""
    for quantity, reading in readings.items():
        if isinstance(reading, Absent):
            if not reading.reason.strip():
                return f"{quantity} is absent without a reason"
            text = reading.reason
        else:
            if type(reading.value) is not float or not (math.isfinite(reading.value) and reading.value >= 0):
                return f"{quantity} is {reading.value!r}"
            if not math.isfinite(reading.measured_at):
                return f"{quantity} was measured at {reading.measured_at!r}"
            text = reading.missing
        if problem := encoding_problem(text):
            return f"{quantity}: {problem}"
    return ""


def encoding_problem(text: str) -> str:
    """Describe why a text cannot be written to a journal, a log or a page; empty if it can."""
    try:
        json.dumps(text, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return f"{text[:80]!r} cannot be encoded"
    return f"of {len(text):,} characters" if len(text) > 20_000 else ""
