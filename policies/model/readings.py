"""A value that was read, or why there is none: missing is never zero."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeAlias, TypeVar

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Fresh(Generic[T]):
    """A value recent enough to act on.

    `missing` names the part of a total that did not respond. The value is then a lower bound, which may raise the size
    and not lower it.
    """

    value: T
    measured_at: float
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Stale(Generic[T]):
    """The last known value, too old to act on: it is shown and blocks scale-in, but changes no size."""

    value: T
    measured_at: float
    age_s: float


@dataclass(frozen=True, slots=True)
class Absent:
    """No value, and the reason. Never read as zero."""

    reason: str


Reading: TypeAlias = Fresh[T] | Stale[T] | Absent
