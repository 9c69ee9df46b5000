"""A server that responds to every request with the same bytes, valid HTTP or not, and hostile responses."""

from __future__ import annotations

import asyncio
import functools
import gzip
import json
import ssl
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

CHUNK: Final = 2**16
DEEP: Final = 100_000
"""Levels of nesting: a hundred times the depth of Python's stack."""
MIB: Final = 2**20


@dataclass(frozen=True, slots=True)
class Raw:
    """One response: its head, and its body, which is created when it is sent."""

    body: Callable[[], Iterator[bytes]]
    head: bytes = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    length: bool = True
    """Whether the head has the body's length."""


@dataclass
class Hostile:
    """The present response, and whether it was requested."""

    answer: Raw
    port: int = 0
    requested: asyncio.Event = field(default_factory=asyncio.Event)
    sent: int = 0
    """Bytes of the last response's body that the client read."""

    def set(self, answer: Raw) -> None:
        """Set the response."""
        self.answer, self.sent = answer, 0
        self.requested.clear()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            request = await reader.readuntil(b"\r\n\r\n")
            length = next((x for x in request.lower().split(b"\r\n") if x.startswith(b"content-length:")), b":0")
            await reader.readexactly(int(length.partition(b":")[2]))
            self.requested.set()
            await self._answer(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass  # the client hung up
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raw = self.answer
        if raw.length:
            size = sum(len(part) for part in raw.body())
            writer.write(raw.head + f"Content-Length: {size}\r\nConnection: close\r\n\r\n".encode())
        else:
            writer.write(raw.head + b"Connection: close\r\n\r\n")
        self.sent = 0
        for part in raw.body():
            if reader.at_eof() or reader.exception() is not None:
                return  # the client hung up; over TLS, writing does not report it
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)  # `drain` does not wait where the connection is lost
            self.sent += len(part)


@asynccontextmanager
async def hostile(tls: ssl.SSLContext | None = None) -> AsyncIterator[Hostile]:
    """Open a server on a free port, with an empty JSON object as the default response."""
    hostile_server = Hostile(plain(b"{}"))
    server = await asyncio.start_server(hostile_server.serve, "127.0.0.1", 0, ssl=tls, limit=4 * MIB)
    hostile_server.port = server.sockets[0].getsockname()[1]
    try:
        yield hostile_server
    finally:
        server.close()


def plain(body: bytes, extra: bytes = b"", status: bytes = b"200 OK") -> Raw:
    """Return a complete response with further header lines."""
    head = b"HTTP/1.1 " + status + b"\r\nContent-Type: application/json\r\n" + extra
    return Raw(lambda: iter((body,)), head)


def repeated(part: bytes, times: int, length: bool = True) -> Raw:
    """Return a large response that is never in memory as a whole."""
    return Raw(lambda: (part for _ in range(times)), length=length)


def nested(depth: int = DEEP) -> bytes:
    return b'{"a":' * depth + b"1" + b"}" * depth


@functools.cache
def bomb(kind: str) -> Raw:
    """Return a small body that decompresses to 256 MiB."""
    zeros = b" " * MIB
    packer = zlib.compressobj(9, zlib.DEFLATED, 31 if kind == "gzip" else 15)
    packed = b"".join(packer.compress(zeros) for _ in range(256)) + packer.flush()
    return plain(packed, b"Content-Encoding: " + kind.encode() + b"\r\n")


def document(value: str) -> bytes:
    """Return a JSON object with `value`, nearly valid JSON, in every field that an adapter may read."""
    keys = ("data", "value", "values", "metadata", "items", "resources", "Events", "is_sleeping", "status", "spec")
    return ("{" + ",".join(f'"{key}":{value}' for key in keys) + "}").encode()


BODIES: Final[dict[str, Callable[[], Raw]]] = {
    "objects nested 100,000 deep": lambda: plain(nested()),
    "lists nested 100,000 deep": lambda: plain(b"[" * DEEP + b"]" * DEEP),
    "lists opened 1,000,000 times": lambda: plain(b"[" * 10 * DEEP),
    "objects nested 500 deep": lambda: plain(nested(500)),
    "a number of 310 digits": lambda: plain(document("9" * 310)),
    "a number of 400 digits": lambda: plain(document("9" * 400)),
    "a number of 5,000 digits": lambda: plain(document("9" * 5000)),
    "an exponent of 400": lambda: plain(document("1e400")),
    "NaN": lambda: plain(document("NaN")),
    "Infinity": lambda: plain(document("-Infinity")),
    "a lone surrogate": lambda: plain(document('"\\ud800"')),
    "a lone surrogate in a key": lambda: plain(document('{"\\udfff":1}')),
    "bytes that are no UTF-8": lambda: plain(document('"x"').replace(b"x", b"\xff\xfe")),
    "UTF-16": lambda: plain(document("1").decode().encode("utf-16")),
    "NUL bytes": lambda: plain(b"\0" * 1000),
    "nothing": lambda: plain(b""),
    "a list": lambda: plain(json.dumps([1] * 10).encode()),
    "null": lambda: plain(b"null"),
    "a text": lambda: plain(b'"text"'),
    "cut short": lambda: plain(document("1")[:-1]),
    "a page": lambda: plain(b"<html>please log in</html>"),
    "an unknown charset": lambda: plain(document("1"), b"Content-Type: application/json; charset=klingon\r\n"),
    "a charset that is no text": lambda: plain(document("1"), b"Content-Type: application/json; charset=hex\r\n"),
    "64 MiB": lambda: repeated(b" " * CHUNK, 1024),
    "64 MiB of unknown length": lambda: repeated(b" " * CHUNK, 1024, length=False),
    "a gzip bomb": lambda: bomb("gzip"),
    "a deflate bomb": lambda: bomb("deflate"),
    "gzip that is none": lambda: plain(document("1"), b"Content-Encoding: gzip\r\n"),
    "gzip cut short": lambda: plain(gzip.compress(document("1") * 99)[:-20], b"Content-Encoding: gzip\r\n"),
    "an unknown encoding": lambda: plain(document("1"), b"Content-Encoding: rot13\r\n"),
    "a redirect": lambda: plain(b"{}", b"Location: http://127.0.0.1:1/\xff\r\n", b"302 Found"),
    "a redirect to nowhere": lambda: plain(b"{}", b"", b"307 Temporary Redirect"),
    "a header of 1 MiB": lambda: plain(b"{}", b"X-Long: " + b"x" * MIB + b"\r\n"),
    "100,000 headers": lambda: plain(b"{}", b"".join(b"X-%d: x\r\n" % i for i in range(100_000))),
    "header bytes that are no UTF-8": lambda: plain(b"{}", b"Retry-After: \xff\xfe\r\n", b"503 \xff\xfe"),
    "no HTTP": lambda: Raw(lambda: iter((b"hello",)), b"hello\r\n"),
    "a status of 999": lambda: plain(b"{}", b"", b"999 What"),
    "a refusal nested 100,000 deep": lambda: plain(nested(), b"", b"500 Oh"),
    "a refusal with a surrogate": lambda: plain(document('"\\ud800"'), b"", b"400 Oh"),
    "a refusal of 64 MiB": lambda: Raw(
        lambda: (b"x" * CHUNK for _ in range(1024)), b"HTTP/1.1 500 Oh\r\nContent-Type: text/plain\r\n"
    ),
    "broken chunks": lambda: Raw(
        lambda: iter((b"zz\r\n{}\r\n",)), b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n", length=False
    ),
    "a throttle of 400 digits": lambda: plain(b"{}", b"Retry-After: " + b"9" * 400 + b"\r\n", b"429 Slow"),
}
"""Hostile responses by name."""


def readable(value: Any) -> None:
    """Fail where a value holds a text that cannot be encoded as UTF-8."""
    json.dumps(value, ensure_ascii=False, default=repr).encode()
