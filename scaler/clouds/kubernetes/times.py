"""The API server's times."""

from __future__ import annotations

from datetime import UTC, datetime


def seconds_of(text: object, otherwise: float) -> float:
    """Seconds since the Unix epoch of an RFC 3339 time; `otherwise` where there is none that can be read."""
    if not isinstance(text, str):
        return otherwise
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()
    except (OverflowError, ValueError):
        return otherwise


def text_of(at: float) -> str:
    """A time as the API server writes it."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
