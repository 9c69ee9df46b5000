"""Source contract of Prometheus, on a real server that scrapes a recorded vLLM page."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from scaler.adapters import open_source
from scaler.config.kinds.prometheus import Prometheus
from scaler.ports import Source
from scaler.shared_resources import AdapterContext
from tests.contracts.fronted import FrontedRig
from tests.contracts.source import SourceContract, SourceRig
from tests.servers.exporter import Engine, exporter, vllm
from tests.servers.http_fault import Front, http_front
from tests.servers.in_thread import run_in_thread
from tests.servers.prometheus import PrometheusServer, Target, needs_prometheus, prometheus
from tests.servers.tcp_fault import TcpProxy, tcp_proxy


class Rig(FrontedRig):
    """Source -> TCP proxy -> HTTP front -> Prometheus -> exporter."""

    quantity = "running"

    def __init__(self, engine: Engine, server: PrometheusServer, front: Front, proxy: TcpProxy) -> None:
        self._engine = engine
        self._server = server
        super().__init__(front, proxy)

    async def open(self, context: AdapterContext) -> Source:
        spec = Prometheus(url=f"http://127.0.0.1:{self.proxy.port}", preset="vllm", match={"case": "contract"})
        return await open_source(spec, context)

    async def answer(self, value: float) -> None:
        self._engine.set(num_requests_running=value)
        changed = f"timestamp(vllm:num_requests_running == {value}) > {time.time()}"
        await self._server.until(changed, lambda values: len(values) == 1)

    async def garble(self) -> None:
        self.front.edit = lambda body: body[: len(body) // 2]


@asynccontextmanager
async def scraped(engine: Engine) -> AsyncIterator[PrometheusServer]:
    async with exporter({"vllm": engine}) as pages:
        target = Target(f"127.0.0.1:{pages.port}", "/vllm/metrics", {"case": "contract"})
        async with prometheus([target]) as server:
            yield server


@pytest.fixture(scope="module")
def shared() -> Iterator[tuple[Engine, PrometheusServer]]:
    engine = Engine(vllm({}))
    with run_in_thread(scraped(engine)) as server:
        yield engine, server


@pytest.mark.slow
@needs_prometheus
class TestPrometheus(SourceContract):
    @pytest.fixture(autouse=True)
    def _share(self, shared: tuple[Engine, PrometheusServer]) -> None:
        self.engine, self.server = shared

    def rig(self) -> AbstractAsyncContextManager[SourceRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[SourceRig]:
        async with http_front(self.server.url) as front, tcp_proxy("127.0.0.1", front.port) as proxy:
            yield Rig(self.engine, self.server, front, proxy)
