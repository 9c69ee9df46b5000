"""Source contract of the scrape source, on an exporter that serves a recorded vLLM page."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from scaler.adapters import open_source
from scaler.config.kinds.engines import Scrape
from scaler.ports import Source
from scaler.shared_resources import AdapterContext
from tests.contracts.fronted import FrontedRig
from tests.contracts.source import SourceContract, SourceRig
from tests.servers.exporter import Engine, State, exporter
from tests.servers.http_fault import Front, http_front
from tests.servers.tcp_fault import TcpProxy, tcp_proxy

pytestmark = pytest.mark.slow


class Rig(FrontedRig):
    """Source -> TCP proxy -> HTTP front -> exporter."""

    quantity = "running"

    def __init__(self, engine: Engine, front: Front, proxy: TcpProxy) -> None:
        self._engine = engine
        super().__init__(front, proxy)

    async def open(self, context: AdapterContext) -> Source:
        spec = Scrape(urls=(f"http://127.0.0.1:{self.proxy.port}/vllm/metrics",), preset="vllm")
        return await open_source(spec, context)

    async def answer(self, value: float) -> None:
        self._engine.set(num_requests_running=value)

    async def garble(self) -> None:
        self._engine.state = State.GARBAGE

    async def recover(self) -> None:
        self._engine.state = State.UP
        await super().recover()


class TestScrape(SourceContract):
    def rig(self) -> AbstractAsyncContextManager[SourceRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[SourceRig]:
        engine = Engine()
        engine.set()
        async with (
            exporter({"vllm": engine}) as pages,
            http_front(f"http://127.0.0.1:{pages.port}") as front,
            tcp_proxy("127.0.0.1", front.port) as proxy,
        ):
            yield Rig(engine, front, proxy)
