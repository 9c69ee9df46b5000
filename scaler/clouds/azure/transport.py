"""The Azure SDKs' HTTP transport, with a limit on the body."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Self

import aiohttp
from aiohttp.base_protocol import BaseProtocol
from azure.core.pipeline.transport import AioHttpTransport

from scaler.clouds.http_answers import read_body

MAX_BODY: Final = 2**18
"""Bytes of a response: a token or a queue's description has some kilobytes. The SDK detects encodings byte by byte."""


class _Response(aiohttp.ClientResponse):
    """A response that is read whole, decompressed and within `MAX_BODY` before the SDK reads it."""

    async def start(self, connection: Any) -> Self:
        await super().start(connection)
        content = await read_body(f"Azure at {self.url.host}", self, MAX_BODY)
        loop = asyncio.get_running_loop()
        self.content = aiohttp.StreamReader(BaseProtocol(loop), MAX_BODY, loop=loop)
        self.content.feed_data(content)
        self.content.feed_eof()
        return self


class _Transport(AioHttpTransport):  # type: ignore[misc]
    session: aiohttp.ClientSession | None

    async def open(self) -> None:
        if self.session is None:
            jar = aiohttp.DummyCookieJar()
            self.session = aiohttp.ClientSession(response_class=_Response, trust_env=True, cookie_jar=jar)
        await super().open()


def transport(ca_file: str | None) -> AioHttpTransport:
    """Return a transport for one SDK client, which closes it.

    `ca_file` replaces the system's CAs.
    """
    return _Transport(connection_verify=ca_file or True)
