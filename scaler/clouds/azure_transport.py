"""The Azure SDKs' HTTP transport, with a limit on what it reads."""

from __future__ import annotations

from typing import Final

import aiohttp
from azure.core.pipeline.transport import AioHttpTransport

from scaler.clouds.answers import read_body

MAX_BODY: Final = 2**18
"""Bytes: a token, or a queue's description, has some kilobytes. The SDK guesses a text's encoding byte by byte."""


class _Response(aiohttp.ClientResponse):
    async def read(self) -> bytes:
        """Return the body, unpacked. Raises `Unavailable` beyond `MAX_BODY`."""
        return await read_body(f"Azure {self.url.host}", self, MAX_BODY)


def transport() -> AioHttpTransport:
    """Return a transport of its own for one SDK client, which closes it."""
    session = aiohttp.ClientSession(response_class=_Response, trust_env=True, cookie_jar=aiohttp.DummyCookieJar())
    return AioHttpTransport(session=session)
