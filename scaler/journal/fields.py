"""Values of a record, checked: a damaged line may be JSON of another shape, and must not reach who reads it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from scaler.config.problems import ConfigError

T = TypeVar("T")
DAMAGED: Final = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, ConfigError)
"""All that decoding a damaged line may raise."""
MAX_COUNT: Final = 2**53
"""Beyond it a float no longer tells neighbouring whole numbers apart."""
FIRST_S: Final = -62_135_596_800.0
LAST_S: Final = 253_402_300_799.0
"""The years 1 to 9999, as calendars have them. Seconds since the Unix epoch."""


def number(value: object) -> float:
    """Return a finite number as it is. Raises `TypeError` or `ValueError`."""
    if type(value) is not float and type(value) is not int:
        raise TypeError(f"{type(value).__name__} instead of a number")
    if not abs(value) < float("inf") or (type(value) is int and abs(value) > MAX_COUNT):
        raise ValueError("a number beyond all bounds")
    return value


def amount(value: object) -> float:
    """Return a finite number that is not negative, as work is. Raises `TypeError` or `ValueError`."""
    if number(value) < 0.0:
        raise ValueError("a negative amount")
    return number(value)


def whole(value: object) -> int:
    """Return a whole number. Raises `TypeError` or `ValueError`."""
    if type(value) is not int:
        raise TypeError(f"{type(value).__name__} instead of a whole number")
    if abs(value) > MAX_COUNT:
        raise ValueError("a number beyond all bounds")
    return value


def moment(value: object) -> float:
    """Return a time that a calendar has, in seconds since the Unix epoch. Raises `TypeError` or `ValueError`."""
    at = number(value)
    if not FIRST_S <= at <= LAST_S:
        raise ValueError("a time beyond the calendar")
    return at


def text(value: object) -> str:
    """Return a text. Raises `TypeError`."""
    if type(value) is not str:
        raise TypeError(f"{type(value).__name__} instead of a text")
    return value


def flag(value: object) -> bool:
    """Return true or false. Raises `TypeError`."""
    if type(value) is not bool:
        raise TypeError(f"{type(value).__name__} instead of true or false")
    return value


def optional(of: Callable[[object], T], value: object) -> T | None:
    """Return None, or the value checked by `of`. Raises what `of` raises."""
    return None if value is None else of(value)


def mapping(of: Callable[[object], T], value: Mapping[str, Any]) -> dict[str, T]:
    """Return a mapping whose every value is checked by `of`. Raises `AttributeError` and what `of` raises."""
    return {key: of(item) for key, item in value.items()}
