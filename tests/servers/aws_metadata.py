"""An instance's metadata server, IMDSv2 only: no values without a token, and 404 for a missing notice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.servers.site import listening


@dataclass
class MetadataServer:
    """`values` has the values by path below /latest/meta-data. `tokens` are the issued ones; a test may void them.

    The next `busy` requests for a token are refused.
    """

    url: str = ""
    values: dict[str, str] = field(default_factory=lambda: {"instance-id": "i-0123456789abcdef0"})
    tokens: set[str] = field(default_factory=set)
    given: int = 0
    busy: int = 0

    async def token(self, request: web.Request) -> web.Response:
        if int(request.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "0")) not in range(1, 21601):
            return web.Response(status=400)
        if self.busy:
            self.busy -= 1
            return web.Response(status=503)
        self.given += 1
        self.tokens.add(f"token-{self.given}")
        return web.Response(text=f"token-{self.given}")

    async def data(self, request: web.Request) -> web.Response:
        if request.headers.get("X-aws-ec2-metadata-token") not in self.tokens:
            return web.Response(status=401)
        value = self.values.get(request.match_info["path"])
        return web.Response(status=404) if value is None else web.Response(text=value)


@asynccontextmanager
async def metadata_server() -> AsyncIterator[MetadataServer]:
    it = MetadataServer()
    app = web.Application()
    app.router.add_put("/latest/api/token", it.token)
    app.router.add_get("/latest/meta-data/{path:.*}", it.data)
    async with listening(app) as port:
        it.url = f"http://127.0.0.1:{port}"
        yield it
