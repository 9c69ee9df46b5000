"""Readings: a fresh or stale value, or the reason for its absence, which is never zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fresh(Generic[T]):
    """A value recent enough to act on.

    `missing` names the part of a total that did not respond. The value is then a lower bound, which may raise the size
    and not lower it: 7 messages in one of two queues, while the other one does not respond.
    """

    value: T
    measured_at: float
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Stale(Generic[T]):
    """The last known value, too old to act on: it blocks scale-in, and changes no size."""

    value: T
    measured_at: float
    age_s: float


@dataclass(frozen=True, slots=True)
class Absent:
    """No value, and the reason. It never counts as zero."""

    reason: str


Reading: TypeAlias = Fresh[T] | Stale[T] | Absent


def grade(last: Fresh[T] | None, max_age_s: float, now: float, error: str, *, failed: bool) -> Reading[T]:
    """Return the last known value as a reading by its age.

    It is stale at any age where this tick's read `failed`.
    """
    if last is None:
        return Absent(error or "never read")
    age_s = max(0.0, now - last.measured_at)
    if failed or age_s > max_age_s:
        return Stale(last.value, last.measured_at, age_s)
    return last
