"""The SDK's HTTP session for AWS, with a limit on what it reads, and a check of what its parsers made of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aiobotocore.awsrequest import AioAWSResponse
from aiobotocore.httpsession import AIOHTTPSession

from scaler.clouds.http_answers import http_errors, read_body
from scaler.ports import Unavailable

T = TypeVar("T")
MAX_BODY: Final = 16 * 2**20
"""Bytes. A page of a thousand described instances has some 5 MB of XML."""
MAX_BITS: Final = 1023
"""Of a whole number: a larger one is beyond a float."""


@dataclass(frozen=True, slots=True)
class _ReadBody:
    """A body that was read, as the SDK reads it."""

    content: bytes

    async def read(self) -> bytes:
        return self.content


class BoundedSession(AIOHTTPSession):
    """Reads an answer of at most `MAX_BODY`. Raises `Unavailable` beyond."""

    async def send(self, request: Any) -> Any:
        request.stream_output = True  # the SDK would read all of it, however large it is
        response: Any = await super().send(request)
        what = f"AWS {request.url.partition('?')[0]}"
        with http_errors(what):
            async with response.raw:
                content = await read_body(what, response.raw, MAX_BODY)
        return AioAWSResponse(response.url, response.status_code, response.headers, _ReadBody(content))


def checked(what: str, answer: T) -> T:
    """Return an answer that the SDK decoded.

    Raises `Unavailable` for a text or number that cannot be encoded.

    JSON may hold half a character or a number beyond a float, which fail where they are written or computed with. A
    value that is not finite stays: it makes its own reading absent, and not those of a whole batch.
    """
    left: list[Any] = [answer]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += value.keys()
            left += value.values()
        elif isinstance(value, list | tuple):
            left += value
        elif isinstance(value, str):
            _check_text(what, value)
        elif isinstance(value, int) and value.bit_length() > MAX_BITS:
            raise Unavailable(f"{what}: an answer with a number of {value.bit_length()} bits")
    return answer


def _check_text(what: str, text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise Unavailable(f"{what}: an answer with half a character (a lone surrogate)") from e
