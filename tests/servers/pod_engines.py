"""Engines of pods: one port on many addresses, with a vLLM metrics page each, whose load the test sets."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp import web

from tests.servers.exporter import vllm
from tests.servers.site import listening


class PodEngines:
    """Loads by address; None, or an address without a load, responds with 503."""

    def __init__(self) -> None:
        self.loads: dict[str, float | None] = {}
        self.requests: list[str] = []
        self.port = 0

    async def metrics(self, request: web.Request) -> web.Response:
        assert request.transport is not None
        address = str(request.transport.get_extra_info("sockname")[0])
        self.requests.append(address)
        load = self.loads.get(address)
        if load is None:
            return web.Response(status=503, text="starting")
        return web.Response(text=vllm({"num_requests_running": load, "num_requests_waiting": 0.0}))


@asynccontextmanager
async def pod_engines() -> AsyncIterator[PodEngines]:
    """Open engines on all loopback addresses."""
    engines = PodEngines()
    app = web.Application()
    app.router.add_get("/metrics", engines.metrics)
    async with listening(app, host="0.0.0.0") as engines.port:
        yield engines
