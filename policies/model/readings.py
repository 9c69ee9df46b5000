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
