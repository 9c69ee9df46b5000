"""The contract of every store of leases, on a real API server and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

import pytest
from yarl import URL

from scaler.clock import SystemClock
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.config.high_availability import HighAvailability, LeaseSettings
from scaler.config.postgresql_server import PostgreSqlServer
from scaler.leases.opening import open_store
from scaler.leases.protocol import Claim, LeaseOrigin, Record
from scaler.leases.store import LeaseNames, LeaseStore
from scaler.ports import Conflict, PortError
from scaler.shared_resources import Resources
from tests.servers.control_plane import why_not
from tests.servers.daemon import until
from tests.servers.daemons import LEASES
from tests.servers.kube_real import kube_namespace
from tests.servers.postgresql import INITDB, USER, postgres
from tests.servers.tcp_fault import ProxyFault, TcpProxy, tcp_proxy

pytestmark = pytest.mark.slow
SPEC = HighAvailability()
SHARD = LeaseNames.of(SPEC).shard(3)
RENEW_S = 7.0
"""Also the limit of a call, which a loaded machine must not reach."""


@dataclass(frozen=True)
class Place:
    """Stores of one installation, and the proxy before their server."""

    settings: LeaseSettings
    proxy: TcpProxy

    @asynccontextmanager
    async def store(self) -> AsyncIterator[LeaseStore]:
        """Open the store of one more daemon."""
        async with Resources() as resources:
            yield await open_store(replace(SPEC, lease=self.settings), resources, SystemClock())


@pytest.fixture(scope="module")
def database() -> Iterator[URL]:
    if INITDB is None:
        pytest.skip("no initdb on PATH (Debian: apt install postgresql)")
    with postgres() as url:
        yield URL(url)


@pytest.fixture(params=["kubernetes", "postgresql"])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Place]:
    async with AsyncExitStack() as stack:
        if request.param == "kubernetes":
            if reason := why_not():
                pytest.skip(reason)
            kube = await stack.enter_async_context(kube_namespace())
            await kube.permit([LEASES])
            await kube.permitted("delete", "coordination.k8s.io/leases", granted=True)
            cluster = KubeCluster(kubeconfig=str(kube.kubeconfig))
            yield Place(LeaseSettings(namespace=kube.namespace, cluster=cluster), kube.proxy)
        else:
            url: URL = request.getfixturevalue("database")
            proxy = await stack.enter_async_context(tcp_proxy("127.0.0.1", url.port or 0))
            server = PostgreSqlServer(host="127.0.0.1", port=proxy.port, database="postgres", username=USER)
            table = f"leases_{proxy.port}"
            yield Place(LeaseSettings(kind="postgresql", server=server, table=table, renew_s=RENEW_S), proxy)


def claim(holder: str, replaces: str | None = None, note: str = "") -> Claim:
    return Claim(Record(holder, 7, 15.0, note=note), replaces, LeaseOrigin.UNKNOWN, 0.0)


async def test_lease_is_created_replaced_by_its_version_and_deleted(place: Place) -> None:
    async with place.store() as store:
        assert (await store.list(), await store.get(SHARD)) == ({}, None)
        first = await store.put(SHARD, claim("a", note="""quotes ' " and a line\nend"""))
        assert (first.holder, first.transitions, first.duration_s) == ("a", 7, 15.0)
        assert first.note == """quotes ' " and a line\nend"""
        assert await store.get(SHARD) == first
        assert await store.list() == {SHARD: first}
        with pytest.raises(Conflict):
            await store.put(SHARD, claim("b"))
        second = await store.put(SHARD, claim("b", first.version))
        assert second.version != first.version
        with pytest.raises(Conflict):
            await store.put(SHARD, claim("a", first.version))
        with contextlib.suppress(Conflict):
            await store.delete(SHARD, first.version)
        assert await store.get(SHARD) == second
        await store.delete(SHARD, second.version)
        assert await store.get(SHARD) is None
        with pytest.raises(Conflict):
            await store.put(SHARD, claim("a", second.version))
        await store.delete(SHARD, second.version)  # it is deleted already


async def test_one_of_several_writers_of_a_version_succeeds(place: Place) -> None:
    async with place.store() as one, place.store() as two:
        version = (await one.put(SHARD, claim("a"))).version
        for _ in range(5):
            writes = [store.put(SHARD, claim(name, version)) for name, store in (("a", one), ("b", two)) for _ in "123"]
            results = await asyncio.gather(*writes, return_exceptions=True)
            assert Counter(map(type, results)) == {Record: 1, Conflict: 5}
            (written,) = (result for result in results if isinstance(result, Record))
            assert await two.get(SHARD) == written
            version = written.version


async def test_watch_reports_each_change_in_order(place: Place) -> None:
    seen: list[Record | None] = []

    async with place.store() as store, place.store() as other:
        store.watch(lambda name, record: seen.append(record) if name == SHARD else None)
        first = await other.put(SHARD, claim("a"))
        await until(lambda: seen[-1:] == [first])
        second = await other.put(SHARD, claim("b", first.version))
        await until(lambda: seen[-1:] == [second])
        await other.delete(SHARD, second.version)
        await until(lambda: seen[-1:] == [None])
        kept = [record for n, record in enumerate(seen) if seen[n - 1 : n] != [record]]
        assert kept[-3:] == [first, second, None]


@pytest.mark.parametrize("fault", [ProxyFault.RESET, ProxyFault.FROZEN, ProxyFault.SILENT])
async def test_fault_of_the_connection_is_an_error_and_passes(place: Place, fault: ProxyFault) -> None:
    async with place.store() as store:
        first = await store.put(SHARD, claim("a"))
        place.proxy.fault = fault
        place.proxy.tear_down()
        for _ in range(2):
            with pytest.raises(PortError):
                await store.get(SHARD)
        place.proxy.fault = ProxyFault.NONE
        place.proxy.tear_down()
        assert await recovered(store) == {SHARD: first}


async def test_write_whose_response_is_lost_is_read_back(place: Place) -> None:
    async with place.store() as store:
        first = await store.put(SHARD, claim("a"))
        place.proxy.cut_after, place.proxy.fault = 0, ProxyFault.CUT
        with pytest.raises(PortError):
            await store.put(SHARD, claim("b", first.version))
        place.proxy.fault = ProxyFault.NONE
        stored = (await recovered(store))[SHARD]
        assert stored.holder == "b"
        with pytest.raises(Conflict):
            await store.put(SHARD, claim("c", first.version))


async def recovered(store: LeaseStore) -> dict[str, Record]:
    """Return the leases when the store responds again."""
    read: list[Mapping[str, Record]] = []

    async def responds() -> bool:
        with contextlib.suppress(PortError):
            read.append(await store.list())
        return bool(read)

    await until(responds)
    return dict(read[0])
