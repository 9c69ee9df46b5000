"""vLLM engines with sleep mode, in its server's development mode, one port on many loopback addresses.

The endpoints respond as vLLM's: `/sleep` and `/wake_up` when they are done, with an empty body; `/is_sleeping` not
earlier; `/health` even while it sleeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from tests.servers.exporter import vllm
from tests.servers.site import listening


@dataclass(slots=True)
class SleepingEngine:
    """An engine. `running` is None where its metrics cannot be read."""

    asleep: bool = True
    healthy: bool = True
    running: float | None = 0.0
    down: bool = False
    lost: int = 0
    """Running requests when it was put to sleep."""
    control_calls: list[str] = field(default_factory=list)
    busy: asyncio.Lock = field(default_factory=asyncio.Lock)


class SleepingEngines:
    """Engines `127.0.1.1` and so on, and their common faults."""

    def __init__(self, count: int) -> None:
        self.engines = {f"127.0.1.{number + 1}": SleepingEngine() for number in range(count)}
        self.port = 0
        self.sleep_s = 0.0
        self.fault = ""
        self.dev_mode = True

    @property
    def urls(self) -> tuple[str, ...]:
        return tuple(f"http://{address}:{self.port}" for address in self.engines)

    def engine(self, number: int) -> SleepingEngine:
        return list(self.engines.values())[number]

    @property
    def awake(self) -> int:
        return sum(not engine.asleep for engine in self.engines.values())

    async def handle(self, request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        engine = self.engines[request.transport.get_extra_info("sockname")[0]]
        writes = request.method == "POST"
        if engine.down or self.fault == "refuse":
            request.transport.abort()
        if self.fault == "hang":
            await asyncio.Event().wait()
        if self.fault == "throttle":
            return web.Response(status=429, headers={"Retry-After": "1"})
        if self.fault == "forbid" and writes:
            return web.Response(status=403, text="not with this key")
        if self.fault == "garble" and writes:
            request.transport.write(b"\x00\xff no HTTP\r\n\r\n")
            request.transport.close()
        if self.fault == "cut" and not writes:
            request.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")
            request.transport.close()
        if request.transport.is_closing():
            return web.Response()
        response = await self._answer(request, engine)
        if self.fault == "lose" and writes:
            request.transport.abort()
        return response

    async def _answer(self, request: web.Request, engine: SleepingEngine) -> web.Response:
        if request.path == "/health":
            return web.Response(status=200 if engine.healthy else 503)
        if request.path == "/metrics" and engine.running is not None:
            return web.Response(text=vllm({"num_requests_running": engine.running, "num_requests_waiting": 0.0}))
        if not self.dev_mode or request.path == "/metrics":
            return web.Response(status=404, text='{"detail":"Not Found"}')
        async with engine.busy:
            return await self._mode(request, engine)

    async def _mode(self, request: web.Request, engine: SleepingEngine) -> web.Response:
        match request.method, request.path:
            case "GET", "/is_sleeping":
                return web.json_response({"is_sleeping": engine.asleep})
            case "POST", "/sleep":
                assert request.query["level"] == "1"
                await asyncio.sleep(self.sleep_s)
                engine.lost += int(engine.running or 0)
                engine.asleep = True
            case "POST", "/wake_up":
                engine.asleep = False
            case _:
                return web.Response(status=405)
        engine.control_calls.append(request.path)
        return web.Response()


@asynccontextmanager
async def sleeping_engines(count: int) -> AsyncIterator[SleepingEngines]:
    engines = SleepingEngines(count)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", engines.handle)
    async with listening(app, host="0.0.0.0") as engines.port:
        yield engines
