"""HTTP response bodies: read within limits and decoded whole, or `Unavailable`.

Every adapter reads bodies, streamed lines and JSON through these functions. Their values hold no text that cannot be
encoded as UTF-8, no number beyond a float, and no nesting that could exhaust the stack of a reader.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, Final, NoReturn, ParamSpec, TypeVar

import aiohttp
from aiohttp.http_exceptions import HttpProcessingError

from scaler.clouds.response_validation import one_line
from scaler.ports import Misconfigured, Unavailable

P = ParamSpec("P")
T = TypeVar("T")
MAX_DEPTH: Final = 64
"""Maximum nesting. Kubernetes objects have some 20 levels, cloud responses fewer; a Python stack holds about 1,000."""
MAX_NUMBER_CHARS: Final = 64
"""Maximum length of one number: a float or a 64-bit integer has at most 25, and 309 digits are beyond a float."""
OFF_LOOP_BYTES: Final = 2**16
"""Larger bodies are decoded in the parser thread: 64 KiB of JSON take the event loop about 1 ms."""
BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
NO_BRACKETS: Final = bytes(set(range(256)) - set(b"[]{}"))
STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
PARSER: Final = ThreadPoolExecutor(1, thread_name_prefix="parser")
"""One thread: each further parsing thread would take interpreter time from the event loop."""


@contextmanager
def http_errors(what: str) -> Iterator[None]:
    """Translate any failure of an HTTP request into a port error that names `what`."""
    try:
        yield
    except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError, aiohttp.InvalidURL) as e:
        raise Misconfigured(f"{what}: {e}") from e
    except (aiohttp.ClientError, HttpProcessingError, OSError, ValueError) as e:  # TimeoutError is an OSError
        raise Unavailable(f"{what}: {type(e).__name__}: {e}".rstrip(": ")) from e


async def read_body(what: str, response: aiohttp.ClientResponse, max_bytes: int, remedy: str = "") -> bytes:
    """Return the decompressed body. Raises `Unavailable` with the `remedy` beyond `max_bytes`."""
    content = bytearray()
    async for chunk in response.content.iter_any():
        content += chunk
        if len(content) > max_bytes:
            raise too_large(what, max_bytes, remedy)
    return bytes(content)


async def read_lines(what: str, response: aiohttp.ClientResponse, max_bytes: int) -> AsyncIterator[bytes]:
    """Yield the lines of an endless body.

    Raises `Unavailable` for a line of more than `max_bytes`.
    """
    buffer = bytearray()
    async for chunk in response.content.iter_any():
        buffer += chunk
        if b"\n" in chunk:
            *lines, buffer = buffer.split(b"\n")
            for line in lines:
                if len(line) > max_bytes:
                    raise too_large(f"{what}: a line", max_bytes)
                yield bytes(line)
        if len(buffer) > max_bytes:
            raise too_large(f"{what}: a line", max_bytes)
    if buffer:
        yield bytes(buffer)


def too_large(what: str, max_bytes: int, remedy: str = "") -> Unavailable:
    """Return the error for a body beyond its limit."""
    return Unavailable(f"{what}: the response exceeds {max_bytes / 2**20:g} MiB" + (f"; {remedy}" if remedy else ""))


def decode_json(what: str, content: bytes | str) -> Any:
    """Return the value of JSON text.

    Raises `Unavailable` for a malformed one or one beyond a limit.
    """
    raw = content.encode("utf-8", "surrogatepass") if isinstance(content, str) else content
    try:
        value = DECODER.decode(raw.decode("utf-8-sig"))
        if _is_deeper(raw):
            raise RecursionError  # noqa: TRY301 - the same error as the decoder's
        if SURROGATE.search(raw):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as e:
        raise Unavailable(f"{what}: malformed response: JSON nested deeper than {MAX_DEPTH} levels") from e
    except UnicodeEncodeError as e:
        raise Unavailable(f"{what}: malformed response: JSON with an unpaired surrogate") from e
    except ValueError as e:
        raise Unavailable(f"{what}: truncated or not JSON: {one_line(raw)!r}: {one_line(e)}") from e
    return value


async def read_json(what: str, content: bytes) -> Any:
    """Return `decode_json` of the content, from the parser thread where the content is large."""
    return await off_loop(len(content), decode_json, what, content)


async def off_loop(size: int, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Return the result of `work`.

    It runs in the parser thread where `size` exceeds `OFF_LOOP_BYTES`.
    """
    if size <= OFF_LOOP_BYTES:
        return work(*args, **kwargs)
    return await asyncio.get_running_loop().run_in_executor(PARSER, lambda: work(*args, **kwargs))


def message_of(content: bytes | str) -> Mapping[str, Any]:
    """Return a queue message that is a JSON object; empty for anything else."""
    try:
        value = decode_json("a message", content)
    except Unavailable:
        return {}
    return value if isinstance(value, dict) else {}


def _is_deeper(raw: bytes) -> bool:
    """Return whether valid JSON is nested deeper than `MAX_DEPTH`.

    Each pass removes the innermost pairs of brackets. Example: `[[],[]]` becomes `[]`, then nothing: two levels.
    """
    if raw.count(b"[") + raw.count(b"{") <= MAX_DEPTH:
        return False
    brackets = STRING.sub(b"", raw).translate(BRACKETS, NO_BRACKETS)
    for _ in range(MAX_DEPTH):
        brackets = brackets.replace(b"[]", b"")
        if not brackets:
            return False
    return True


def _integer(text: str) -> int:
    if len(text) > MAX_NUMBER_CHARS:
        raise ValueError(f"a number of {len(text)} characters")
    return int(text)


def _real(text: str) -> float:
    value = float(text) if len(text) <= MAX_NUMBER_CHARS else math.inf
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:MAX_NUMBER_CHARS]} exceeds a float")
    return value


def _no_number(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number in JSON")


DECODER: Final = json.JSONDecoder(parse_int=_integer, parse_float=_real, parse_constant=_no_number)
