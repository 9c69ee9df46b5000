"""Validation of decoded responses.

A malformed value raises `Unavailable` and never ends the loop.

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
"""Exceptions that reading a malformed response raises."""
MAX_MACHINES: Final = 1_000_000
"""Maximum plausible size of a pool: no cloud's groups hold a hundredth of it."""
MAX_DIGITS: Final = 20
"""Digits of a 64-bit integer."""
MAX_TEXT_CHARS: Final = 400
"""Characters of a text kept in an error: Azure's quota refusals with current, used and required cores fit."""


@contextmanager
def unavailable_if_malformed(what: str) -> Iterator[None]:
    """Translate the exceptions of reading a malformed response into `Unavailable`.

    The error names `what`.
    """
    try:
        yield
    except MALFORMED as e:
        text = one_line(f"{type(e).__name__}: {e}")
        raise Unavailable(f"{what}: malformed response: {text}") from e


def validated(what: str) -> Callable[[Callable[P, Coroutine[Any, Any, T]]], Callable[P, Coroutine[Any, Any, T]]]:
    """Return a decorator that runs a method within `unavailable_if_malformed`.

    The method reads responses.
    """

    def decorate(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
        @functools.wraps(method)
        async def read(*args: P.args, **kwargs: P.kwargs) -> T:
            with unavailable_if_malformed(what):
                return await method(*args, **kwargs)

        return read

    return decorate


def machine_count(what: str, value: object, *, digits: bool = False) -> int:
    """Return a count of machines. Raises `Unavailable` for anything else: missing is not zero.

    `digits`: the API may write the count as text, as Google's do.
    """
    number = value
    if digits and isinstance(value, str) and value.isdecimal() and len(value) <= MAX_DIGITS:
        number = int(value)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number <= MAX_MACHINES:
        raise Unavailable(f"{what}: malformed response: {one_line(repr(value))} is not a number of machines")
    return number


def list_of(what: str, body: object, key: str) -> list[dict[str, Any]]:
    """Return the list of objects under `key`.

    Raises `Unavailable` for a missing list: it is not empty.
    """
    items = body.get(key) if isinstance(body, Mapping) else None
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise Unavailable(f"{what}: malformed response: no {key}")
    return items


def one_line(text: object) -> str:
    """Return the first `MAX_TEXT_CHARS` characters of a text on one line.

    Some responses are whole web pages.
    """
    if isinstance(text, bytes):
        text = text[:MAX_TEXT_CHARS].decode(errors="replace")
    return " ".join(str(text).split())[:MAX_TEXT_CHARS]
