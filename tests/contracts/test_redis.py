"""Source contract of Redis lists and streams, on a real server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from redis.asyncio import Redis as Client

from scaler.adapters import open_source
from scaler.config.kinds.redis import Redis
from scaler.config.secret import Secret
from scaler.ports import Source
from scaler.shared_resources import AdapterContext
from tests.contracts.source import SourceContract, SourceRig
from tests.contracts.wire import garbling
from tests.servers.redis import needs_redis, port_of, redis_server
from tests.servers.tcp_fault import ProxyFault, TcpProxy, tcp_proxy

pytestmark = [pytest.mark.slow, needs_redis]
USER, PASSWORD = "scaler", "correct-horse-battery"


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PASSWORD", PASSWORD)


class ListRig(SourceRig):
    """Source -> TCP proxy -> Redis."""

    quantity = "visible"

    def __init__(self, admin: Client, wire: TcpProxy, garbage_port: int) -> None:
        self.admin = admin
        self.wire = wire
        self._garbage_port = garbage_port

    async def open(self, context: AdapterContext) -> Source:
        return await open_source(Redis(**self.server(), list_key="prompts"), context)

    def server(self) -> dict[str, Any]:
        return {
            "host": "127.0.0.1",
            "port": self.wire.port,
            "username": USER,
            "password": Secret(env="REDIS_PASSWORD"),
        }

    async def answer(self, value: float) -> None:
        await self.admin.delete("prompts")
        if value:
            await self.admin.rpush("prompts", *["a prompt"] * int(value))

    async def garble(self) -> None:
        self.wire.target = ("127.0.0.1", self._garbage_port)
        self.wire.tear_down()

    async def hang(self) -> None:
        self.wire.fault = ProxyFault.FROZEN

    async def refuse(self) -> None:
        self.wire.fault = ProxyFault.RESET
        self.wire.tear_down()

    async def throttle(self) -> None:
        await self.admin.config_set("maxclients", 1)
        self.wire.tear_down()

    async def forbid(self) -> None:
        await self.admin.acl_setuser(USER, enabled=True, commands=["-llen", "-xinfo"])

    async def cut_short(self) -> bool:
        self.wire.fault, self.wire.cut_after = ProxyFault.CUT, 2
        return True

    async def recover(self) -> None:
        await self.admin.config_set("maxclients", 100)
        await self.admin.acl_setuser(USER, enabled=True, commands=["+llen", "+xinfo"])
        self.wire.target = ("127.0.0.1", port_of(self.admin))
        self.wire.fault = ProxyFault.NONE
        self.wire.tear_down()


class StreamRig(ListRig):
    """The same with a stream, whose group has read nothing."""

    async def open(self, context: AdapterContext) -> Source:
        await self.answer(0)
        return await open_source(Redis(**self.server(), stream_key="prompts", group="llm", oldest_age=True), context)

    async def answer(self, value: float) -> None:
        await self.admin.delete("prompts")
        await self.admin.xgroup_create("prompts", "llm", "0", mkstream=True)
        for _ in range(int(value)):
            await self.admin.xadd("prompts", {"prompt": "hello"})


@asynccontextmanager
async def rig(rig_class: type[ListRig]) -> AsyncIterator[SourceRig]:
    async with redis_server() as admin, tcp_proxy("127.0.0.1", port_of(admin)) as wire, garbling() as garbage_port:
        await admin.acl_setuser(
            USER, enabled=True, passwords=[f"+{PASSWORD}"], keys=["*"], commands=["+llen", "+xinfo", "+xrange", "+time"]
        )
        yield rig_class(admin, wire, garbage_port)


class TestList(SourceContract):
    def rig(self) -> AbstractAsyncContextManager[SourceRig]:
        return rig(ListRig)


class TestStream(SourceContract):
    def rig(self) -> AbstractAsyncContextManager[SourceRig]:
        return rig(StreamRig)
