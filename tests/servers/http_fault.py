"""An HTTP front before a real server: forwards requests, counts them, and spoils responses."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import aiohttp
from aiohttp import web

from tests.servers.site import listening


@dataclass
class Front:
    """Faults of the responses; none after `clear`."""

    target: str
    prefix: str = ""
    port: int = 0
    secure: bool = False
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    respond: Callable[[str], tuple[int, bytes]] | None = None
    """Returns status and body for a posted body."""
    edit: Callable[[bytes], bytes] | None = None
    cut: bool = False
    hang: bool = False
    seen: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    """Requested paths, each with the request's headers."""

    @property
    def url(self) -> str:
        return f"http{'s' * self.secure}://127.0.0.1:{self.port}{self.prefix}"

    def clear(self) -> None:
        self.status = self.body = self.respond = self.edit = None
        self.headers = {}
        self.cut = self.hang = False

    async def answer(self, request: web.Request, session: aiohttp.ClientSession) -> web.StreamResponse:
        self.seen.append((request.path, dict(request.headers)))
        if self.hang:
            await asyncio.Event().wait()
        if self.status is not None or self.body is not None:
            text = self.body if self.body is not None else b"not now"
            return web.Response(status=self.status or 200, body=text, headers=self.headers)
        if self.respond is not None:
            status, text = self.respond(str((await request.post()).get("query", "")))
            return web.Response(status=status, body=text)
        path = request.path_qs.removeprefix(self.prefix)
        headers = {k: v for k, v in request.headers.items() if k in {"Accept", "Authorization", "Content-Type"}}
        async with session.request(
            request.method, self.target + path, data=await request.read(), headers=headers
        ) as answered:
            body = await answered.read()
            status, kind = answered.status, answered.headers.get("Content-Type", "")
        if self.edit is not None:
            body = self.edit(body)
        if self.cut:
            return await _half(request, body)
        return web.Response(status=status, body=body, headers={"Content-Type": kind})


async def _half(request: web.Request, body: bytes) -> web.StreamResponse:
    """Announce the whole body, send half of it, and hang up."""
    response = web.StreamResponse(headers={"Content-Length": str(len(body))})
    await response.prepare(request)
    await response.write(body[: len(body) // 2])
    assert request.transport is not None
    request.transport.abort()
    return response


@asynccontextmanager
async def http_front(target: str, prefix: str = "", tls: ssl.SSLContext | None = None) -> AsyncIterator[Front]:
    front = Front(target, prefix, secure=tls is not None)
    async with aiohttp.ClientSession() as session:

        async def answer(request: web.Request) -> web.StreamResponse:
            return await front.answer(request, session)

        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        async with listening(app, tls=tls) as front.port:
            yield front
