"""Conversion between seconds since the Unix epoch and the clouds' RFC 3339 timestamps."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

T = TypeVar("T")


def seconds_of(text: object, otherwise: T) -> float | T:
    """Return an RFC 3339 time as seconds since the Unix epoch.

    Returns `otherwise` where the time cannot be read. A time without a zone is not RFC 3339: it could be off by hours.
    """
    if not isinstance(text, str):
        return otherwise
    try:
        time = datetime.fromisoformat(text)
        return time.timestamp() if time.tzinfo else otherwise
    except (OverflowError, ValueError):
        return otherwise


def text_of(time_s: float) -> str:
    """Return seconds since the Unix epoch as an RFC 3339 time in UTC.

    The time is truncated to whole seconds.
    """
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
