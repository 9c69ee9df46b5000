"""Source contract of JSON over HTTP."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest
from aiohttp import web

from scaler.adapters import open_source
from scaler.clock import SystemClock
from scaler.config.kinds.http_json import HttpJson
from scaler.ports import Source
from scaler.shared_resources import AdapterContext
from tests.contracts.fronted import FrontedRig
from tests.contracts.source import SourceContract, SourceRig
from tests.servers.http_fault import Front, http_front
from tests.servers.site import listening
from tests.servers.tcp_fault import TcpProxy, tcp_proxy

pytestmark = pytest.mark.slow


class Service:
    """A service that reports its queue, and the time by its own clock."""

    def __init__(self) -> None:
        self.waiting = 0.0
        self.ahead_s = 0.0

    async def stats(self, _: web.Request) -> web.Response:
        now = SystemClock().now() + self.ahead_s
        return web.json_response({"queues": [{"name": "prompts", "waiting": self.waiting}], "time": now})


class Rig(FrontedRig):
    """Source -> TCP proxy -> HTTP front -> service."""

    quantity = "visible"

    def __init__(self, service: Service, front: Front, proxy: TcpProxy) -> None:
        self._service = service
        super().__init__(front, proxy)

    async def open(self, context: AdapterContext) -> Source:
        url = f"http://127.0.0.1:{self.proxy.port}/stats"
        return await open_source(
            HttpJson(url=url, values={"visible": "/queues/0/waiting"}, measured_at="/time"), context
        )

    async def answer(self, value: float) -> None:
        self._service.waiting = value

    async def garble(self) -> None:
        self.front.body = b'{"queues": [{"waiting": NaN}], "time": 1}'

    async def empty(self) -> bool:
        self.front.body = b"{}"
        return True

    async def skew(self, ahead_s: float) -> bool:
        self._service.ahead_s = ahead_s
        return True


class TestHttpJson(SourceContract):
    def rig(self) -> AbstractAsyncContextManager[SourceRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[SourceRig]:
        service, app = Service(), web.Application()
        app.router.add_get("/stats", service.stats)
        async with (
            listening(app) as port,
            http_front(f"http://127.0.0.1:{port}") as front,
            tcp_proxy("127.0.0.1", front.port) as proxy,
        ):
            yield Rig(service, front, proxy)
