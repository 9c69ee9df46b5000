"""Source contract of PostgreSQL, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest
from yarl import URL

from scaler.adapters import open_source
from scaler.config.kinds.postgresql import PostgreSql
from scaler.ports import Source
from scaler.shared_resources import AdapterContext
from tests.contracts.source import SourceContract, SourceRig
from tests.contracts.wire import HTTP, garbling
from tests.servers.postgresql import execute, needs_postgres, postgres
from tests.servers.tcp_fault import ProxyFault, TcpProxy, tcp_proxy

pytestmark = [pytest.mark.slow, needs_postgres]


class Rig(SourceRig):
    """Source -> TCP proxy -> PostgreSQL."""

    quantity = "visible"

    def __init__(self, url: str, wire: TcpProxy, garbage_port: int) -> None:
        self._url = url
        self._wire = wire
        self._garbage_port = garbage_port

    async def open(self, context: AdapterContext) -> Source:
        query = "SELECT waiting AS visible FROM queue"
        server: dict[str, Any] = {"host": "127.0.0.1", "database": "postgres", "username": "scaler"}
        return await open_source(PostgreSql(**server, port=self._wire.port, query=query), context)

    async def execute(self, *statements: str) -> None:
        await asyncio.to_thread(execute, self._url, *statements)

    async def answer(self, value: float) -> None:
        await self.execute("DELETE FROM queue", f"INSERT INTO queue VALUES ({value})")  # noqa: S608

    async def garble(self) -> None:
        self._wire.target = ("127.0.0.1", self._garbage_port)
        self._wire.tear_down()

    async def hang(self) -> None:
        self._wire.fault = ProxyFault.FROZEN

    async def refuse(self) -> None:
        self._wire.fault = ProxyFault.RESET
        self._wire.tear_down()

    async def throttle(self) -> None:
        await self.execute("ALTER ROLE scaler CONNECTION LIMIT 0")

    async def forbid(self) -> None:
        await self.execute("REVOKE SELECT ON queue FROM scaler")

    async def cut_short(self) -> bool:
        self._wire.fault, self._wire.cut_after = ProxyFault.CUT, 400
        return True

    async def empty(self) -> bool:
        await self.execute("DELETE FROM queue")
        return True

    async def recover(self) -> None:
        self._wire.target = ("127.0.0.1", int(URL(self._url).port or 0))
        self._wire.fault = ProxyFault.NONE
        self._wire.tear_down()
        await self.execute("ALTER ROLE scaler CONNECTION LIMIT -1", "GRANT SELECT ON queue TO scaler")


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgres() as address:
        yield address


class TestPostgreSql(SourceContract):
    @pytest.fixture(autouse=True)
    def _url(self, url: str) -> None:
        self.url = url

    def rig(self) -> AbstractAsyncContextManager[SourceRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[SourceRig]:
        port = int(URL(self.url).port or 0)
        async with tcp_proxy("127.0.0.1", port) as wire, garbling(HTTP) as garbage_port:
            rig = Rig(self.url, wire, garbage_port)
            await rig.execute(
                "DROP TABLE IF EXISTS queue",
                "DROP ROLE IF EXISTS scaler",
                "CREATE ROLE scaler LOGIN",
                "CREATE TABLE queue (waiting double precision)",
                "GRANT SELECT ON queue TO scaler",
            )
            yield rig
