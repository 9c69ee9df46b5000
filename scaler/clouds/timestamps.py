"""Times as clouds write them: RFC 3339 text."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TypeVar

T = TypeVar("T")


def seconds_of(text: object, otherwise: T) -> float | T:
    """Return the seconds since the Unix epoch of an RFC 3339 time.

    `otherwise` where it cannot be read.

    A time without a zone is no RFC 3339: it could be off by hours.
    """
    if not isinstance(text, str):
        return otherwise
    try:
        found = datetime.fromisoformat(text)
        return found.timestamp() if found.tzinfo else otherwise
    except (OverflowError, ValueError):
        return otherwise


def text_of(at: float) -> str:
    """Return seconds since the Unix epoch as an RFC 3339 time in UTC, in whole seconds."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
