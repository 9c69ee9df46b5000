"""Malformed answers: a value that is read wrongly raises `Unavailable`, and never ends the loop."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, ParamSpec, TypeVar

from scaler.ports import Unavailable

P = ParamSpec("P")
T = TypeVar("T")
MISSHAPEN: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What comes of reading one."""
MOST_MACHINES: Final = 1_000_000
"""Of one pool. A larger number is none: no cloud's groups hold a hundredth of it."""
SHOWN: Final = 300
"""Characters of what went wrong, kept in errors."""


def malformed(cloud: str, error: Exception) -> Unavailable:
    """The error of an answer that could not be read."""
    return Unavailable(f"{cloud}: an answer of another shape: {type(error).__name__}: {error}"[:SHOWN])


@contextmanager
def understood(what: str) -> Iterator[None]:
    """Turn whatever comes of reading a malformed answer into `Unavailable` that names `what`."""
    try:
        yield
    except MISSHAPEN as e:
        raise Unavailable(f"{what}: an answer that we do not understand: {type(e).__name__}: {e}"[:SHOWN]) from e


def validated(
    cloud: str,
) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Of what reads answers: one of another shape is no answer (`Unavailable`)."""

    def reading(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        @functools.wraps(method)
        async def read(*args: P.args, **more: P.kwargs) -> T:
            try:
                return await method(*args, **more)
            except MISSHAPEN as e:
                raise malformed(cloud, e) from e

        return read

    return reading


def whole(what: str, value: object) -> int:
    """A count out of an answer: missing is not zero, and no truth is a one. Raises `Unavailable`."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MOST_MACHINES:
        raise Unavailable(f"{what}: {value!r} is no number of machines")
    return value
