"""Servers that speak OpenAI's chat API: streamed answers of a chosen length, vLLM's sleep mode and metrics."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

import aiohttp
from aiohttp import web

from tests.servers.exporter import vllm
from tests.servers.site import listening


@dataclass(slots=True)
class ChatServer:
    """One server. A `failing` one answers 500 to every chat."""

    awake: bool = True
    running: int = 0
    chats: int = 0
    served: int = 0
    failing: bool = False


class ChatServers:
    """Servers `127.0.N.1` and so on, on one port, with common times.

    Those that wake do so after `wake_s`, once the platform `has_capacity`.
    """

    def __init__(self, network: int, count: int, awake: int) -> None:
        self.servers = {f"127.0.{network}.{i + 1}": ChatServer(awake=i < awake) for i in range(count)}
        self.port = 0
        self.wake_s = 0.0
        self.has_capacity = asyncio.Event()
        self.has_capacity.set()
        self.token_s = 0.05
        self.tokens = 6

    @property
    def endpoints(self) -> list[tuple[str, int]]:
        return [(address, self.port) for address in self.servers]

    @property
    def urls(self) -> list[str]:
        return [f"http://{address}:{port}" for address, port in self.endpoints]

    @property
    def awake(self) -> int:
        return sum(server.awake for server in self.servers.values())

    @property
    def chats(self) -> int:
        return sum(server.chats for server in self.servers.values())

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[None]:
        """Serve on the port of the last time, or a free one."""
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self.handle)
        async with listening(app, host="0.0.0.0", port=self.port) as self.port:
            yield

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        server = self.servers[request.transport.get_extra_info("sockname")[0]]
        match request.path:
            case "/health":
                return web.Response(status=200 if server.awake else 503)
            case "/is_sleeping":
                return web.json_response({"is_sleeping": not server.awake})
            case "/wake_up":
                await asyncio.sleep(self.wake_s)
                await self.has_capacity.wait()
                server.awake = True
            case "/sleep":
                server.awake = False
            case "/metrics":
                values = {"num_requests_running": server.running, "request_success_total": server.served}
                return web.Response(text=vllm({**values, "num_requests_waiting": 0.0}))
            case "/v1/chat/completions":
                return await self._chat(request, server)
        return web.Response()

    async def _chat(self, request: web.Request, server: ChatServer) -> web.StreamResponse:
        await request.read()
        server.chats += 1
        if server.failing:
            return web.json_response({"error": {"message": "overloaded"}}, status=500)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        server.running += 1
        try:
            await response.prepare(request)
            for i in range(self.tokens):
                await asyncio.sleep(self.token_s)
                chunk = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": f"{i} "}}]}
                await response.write(b"data: %s\n\n" % json.dumps(chunk).encode())
            await response.write(b"data: [DONE]\n\n")
            server.served += 1
        finally:
            server.running -= 1
        return response


@asynccontextmanager
async def chat_servers(network: int, count: int, awake: int | None = None) -> AsyncIterator[ChatServers]:
    servers = ChatServers(network, count, count if awake is None else awake)
    async with servers.listen():
        yield servers


async def send_chats(url: str, requests: int, headers: Mapping[str, str] | None = None) -> list[int]:
    """Send chats, twenty at a time, and return their statuses."""
    statuses: list[int] = []
    async with aiohttp.ClientSession(headers=headers) as http:

        async def some(count: int) -> None:
            for _ in range(count):
                async with http.post(f"{url}/v1/chat/completions", json={}) as response:
                    await response.read()
                    statuses.append(response.status)

        await asyncio.gather(*(some(requests // 20) for _ in range(20)))
    return statuses
