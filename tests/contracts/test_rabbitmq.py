"""Source contract of RabbitMQ, on a real broker with a quorum queue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from scaler.adapters import open_source
from scaler.clouds.http_access import Access
from scaler.config.kinds.rabbitmq import RabbitMq
from scaler.config.secret import Secret
from scaler.ports import Source
from scaler.shared_resources import AdapterContext
from tests.contracts.fronted import FrontedRig
from tests.contracts.source import SourceContract, SourceRig
from tests.servers.http_fault import Front, http_front
from tests.servers.in_thread import run_in_thread
from tests.servers.rabbitmq import RabbitServer, needs_rabbitmq, rabbitmq
from tests.servers.tcp_fault import TcpProxy, tcp_proxy

pytestmark = [pytest.mark.slow, needs_rabbitmq]


@pytest.fixture(scope="module")
def broker() -> Iterator[RabbitServer]:
    with run_in_thread(rabbitmq()) as server:
        yield server


class Rig(FrontedRig):
    """Source -> TCP proxy -> HTTP front -> RabbitMQ."""

    quantity = "visible"

    def __init__(self, broker: RabbitServer, front: Front, proxy: TcpProxy) -> None:
        self._broker = broker
        super().__init__(front, proxy)

    async def open(self, context: AdapterContext) -> Source:
        await self.answer(0)
        access = Access(username="guest", password=Secret(env="RABBITMQ_PASSWORD"))
        url = f"http://127.0.0.1:{self.proxy.port}"
        return await open_source(RabbitMq(url=url, queue="chat/prompts", access=access), context)

    async def answer(self, value: float) -> None:
        await self._broker.delete("chat/prompts")
        await self._broker.declare("chat/prompts")
        for _ in range(int(value)):
            await self._broker.publish("chat/prompts")
        await self._broker.until("chat/prompts", messages_ready=int(value))

    async def garble(self) -> None:
        self.front.edit = lambda body: body.replace(b'"messages_ready":', b'"messages_ready":-')


class TestRabbitMq(SourceContract):
    @pytest.fixture(autouse=True)
    def _broker(self, broker: RabbitServer, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RABBITMQ_PASSWORD", "guest")
        self.broker = broker

    def rig(self) -> AbstractAsyncContextManager[SourceRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[SourceRig]:
        async with http_front(self.broker.url) as front, tcp_proxy("127.0.0.1", front.port) as proxy:
            yield Rig(self.broker, front, proxy)
