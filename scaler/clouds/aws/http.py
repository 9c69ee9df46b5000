"""The AWS SDK's HTTP session with a limit on the body, and a check of parsed values.

The SDK's parsers return these values.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Self, TypeVar

from aiobotocore.httpsession import AIOHTTPSession

from scaler.clouds.http_answers import http_errors, read_body
from scaler.ports import Unavailable

T = TypeVar("T")
MAX_BODY: Final = 16 * 2**20
"""Bytes of a response. A page of a thousand described instances has some 5 MB of XML."""
METADATA: Final = "ResponseMetadata"
"""Key of status and HTTP headers in a response."""
MAX_BITS: Final = 1023
"""Maximum size of an integer: a larger one is beyond a float."""


@dataclass(frozen=True, slots=True)
class _ReadBody:
    """A body already read, with the interface that the SDK expects of it and of its stream."""

    body: bytes

    @property
    def content(self) -> Self:
        return self

    async def read(self, _amount: int = -1) -> bytes:
        return self.body


class BoundedSession(AIOHTTPSession):
    """Reads a response of at most `MAX_BODY`. Raises `Unavailable` beyond."""

    async def send(self, request: Any) -> Any:
        request.stream_output = True  # otherwise the SDK reads all of it, however large it is
        response: Any = await super().send(request)
        what = f"AWS {request.url.partition('?')[0]}"
        with http_errors(what):
            async with response.raw:
                response.raw = _ReadBody(await read_body(what, response.raw, MAX_BODY))
        return response


def check_encodable(what: str, response: T) -> T:
    """Return a response that the SDK decoded.

    Raises `Unavailable` for a text or number that cannot be encoded.

    JSON may hold a lone surrogate or a number beyond a float, which fail later where they are written or computed
    with. A value that is not finite is kept: it makes only its own reading absent, not those of a whole batch. The HTTP
    headers are UTF-8 already.
    """
    unchecked: list[Any] = [response]
    if isinstance(response, dict):
        unchecked = [part for name, value in response.items() if name != METADATA for part in (name, value)]
    while unchecked:
        value = unchecked.pop()
        if isinstance(value, dict):
            unchecked += value.keys()
            unchecked += value.values()
        elif isinstance(value, list | tuple):
            unchecked += value
        elif isinstance(value, str):
            _check_text(what, value)
        elif isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise Unavailable(f"{what}: malformed response: a number of {value.bit_length()} bits")
    return response


def _check_text(what: str, text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise Unavailable(f"{what}: malformed response: an unpaired surrogate in a text") from e
