"""Checks the values of a record.

A damaged line may be JSON of another shape, and must not reach its readers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from scaler.config.problems import ConfigError

T = TypeVar("T")
DAMAGED: Final = (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, ConfigError)
"""All exceptions that decoding a damaged line may raise."""
MAX_COUNT: Final = 2**53
"""Maximum magnitude of an integer: beyond it a float no longer represents every integer."""
MIN_TIME_S: Final = -62_135_596_800.0
MAX_TIME_S: Final = 253_402_300_799.0
"""Start of the year 1 and end of the year 9999, the range of `datetime`. Seconds since the Unix epoch."""


def number(value: object) -> float:
    """Return a finite number unchanged. Raises `TypeError` or `ValueError`."""
    if type(value) is not float and type(value) is not int:
        raise TypeError(f"{type(value).__name__} instead of a number")
    if not abs(value) < float("inf") or (type(value) is int and abs(value) > MAX_COUNT):
        raise ValueError("a number beyond all bounds")
    return value


def non_negative(value: object) -> float:
    """Return a finite number that is not negative. Raises `TypeError` or `ValueError`."""
    if number(value) < 0.0:
        raise ValueError("a negative amount")
    return number(value)


def integer(value: object) -> int:
    """Return an integer of at most `MAX_COUNT`. Raises `TypeError` or `ValueError`."""
    if type(value) is not int:
        raise TypeError(f"{type(value).__name__} instead of a whole number")
    if abs(value) > MAX_COUNT:
        raise ValueError("a number beyond all bounds")
    return value


def unix_time(value: object) -> float:
    """Return a time from `MIN_TIME_S` to `MAX_TIME_S`. Raises `TypeError` or `ValueError`."""
    time_s = number(value)
    if not MIN_TIME_S <= time_s <= MAX_TIME_S:
        raise ValueError("a time beyond the calendar")
    return time_s


def text(value: object) -> str:
    """Return a string. Raises `TypeError`."""
    if type(value) is not str:
        raise TypeError(f"{type(value).__name__} instead of a text")
    return value


def flag(value: object) -> bool:
    """Return a boolean. Raises `TypeError`."""
    if type(value) is not bool:
        raise TypeError(f"{type(value).__name__} instead of true or false")
    return value


def optional(check: Callable[[object], T], value: object) -> T | None:
    """Return None, or the value after `check`. Raises the exceptions of `check`."""
    return None if value is None else check(value)


def mapping(check: Callable[[object], T], value: Mapping[str, Any]) -> dict[str, T]:
    """Return a mapping with every value after `check`.

    Raises `AttributeError` and the exceptions of `check`.
    """
    return {key: check(item) for key, item in value.items()}
