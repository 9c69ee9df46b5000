"""Validation of decoded answers: a value of another shape raises `Unavailable`, and never ends the loop.

`http_answers.py` reads and decodes what comes over HTTP; this module checks the values, whatever the protocol.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, ParamSpec, TypeVar

from scaler.ports import Unavailable

P = ParamSpec("P")
T = TypeVar("T")
MALFORMED: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)
"""What reading a malformed answer raises."""
MAX_MACHINES: Final = 1_000_000
"""Largest credible size of a pool: no cloud's groups hold a hundredth of it."""
MAX_DIGITS: Final = 20
"""Digits of a 64-bit integer."""
MAX_TEXT_CHARS: Final = 400
"""Characters of a text kept in errors: Azure's quota refusals with current, used and required cores fit."""


@contextmanager
def understood(what: str) -> Iterator[None]:
    """Turn whatever reading a malformed answer raises into `Unavailable` that names `what`."""
    try:
        yield
    except MALFORMED as e:
        text = one_line(f"{type(e).__name__}: {e}")
        raise Unavailable(f"{what}: an answer that we do not understand: {text}") from e


def validated(what: str) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Return a decorator that runs a method which reads answers as `understood` does."""

    def reading(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        @functools.wraps(method)
        async def read(*args: P.args, **more: P.kwargs) -> T:
            with understood(what):
                return await method(*args, **more)

        return read

    return reading


def whole(what: str, value: object, *, digits: bool = False) -> int:
    """Return a number of machines. Raises `Unavailable`: missing is not zero.

    `digits`: the API may write it as text, as Google's do.
    """
    number = value
    if digits and isinstance(value, str) and value.isdecimal() and len(value) <= MAX_DIGITS:
        number = int(value)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MAX_MACHINES:
        raise Unavailable(f"{what}: {one_line(repr(value))} is no number of machines")
    return number


def list_of(what: str, body: object, key: str) -> list[dict[str, Any]]:
    """Return the list of objects under `key`.

    Raises `Unavailable`: one that is missing is not empty.
    """
    found = body.get(key) if isinstance(body, Mapping) else None
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise Unavailable(f"{what}: an answer without {key}")
    return found


def one_line(text: object) -> str:
    """Return the beginning of a text or of bytes on one line: some answers are whole web pages."""
    if isinstance(text, bytes):
        text = text[:MAX_TEXT_CHARS].decode(errors="replace")
    return " ".join(str(text).split())[:MAX_TEXT_CHARS]
