"""Leases in PostgreSQL on a real server: permissions, other tables, locks, crashes and commits that may be lost."""

from __future__ import annotations

import asyncio
import itertools
import re
import textwrap
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from pg8000.native import Connection
from yarl import URL

from policies.model import WorkloadName
from scaler.clock import SystemClock
from scaler.clouds.postgresql.leases import COLUMNS
from scaler.clouds.postgresql.snapshots import open_snapshots
from scaler.config.high_availability import HighAvailability, LeaseSettings
from scaler.config.postgresql_server import PostgreSqlServer
from scaler.config.snapshots import SnapshotSettings
from scaler.leases.opening import open_store
from scaler.leases.protocol import Claim, LeaseOrigin, Record
from scaler.leases.store import LeaseStore
from scaler.ports import Conflict, Misconfigured, Permit, PortError, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.servers.daemon import until
from tests.servers.postgresql import INITDB, USER, execute, postgres

pytestmark = pytest.mark.slow
SHARD: Final = "forescale-shard-3"
TABLES: Final = (f"leases_{n}" for n in itertools.count())
BLOCKED: Final = "SELECT pid FROM pg_stat_activity WHERE application_name = 'forescale' AND wait_event_type = 'Lock'"


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    if INITDB is None:
        pytest.skip("no initdb on PATH (Debian: apt install postgresql)")
    with postgres() as address:
        yield address


@pytest.fixture
def table() -> str:
    return next(TABLES)


@asynccontextmanager
async def store_of(url: str, table: str, username: str = USER) -> AsyncIterator[LeaseStore]:
    server = PostgreSqlServer(host="127.0.0.1", port=URL(url).port or 0, database="postgres", username=username)
    spec = HighAvailability(lease=LeaseSettings(kind="postgresql", server=server, table=table, renew_s=5.0))
    async with Resources() as resources:
        yield await open_store(spec, resources, SystemClock())


async def run(url: str, *statements: str) -> list[Any]:
    return await asyncio.to_thread(execute, url, *statements)


def claim(holder: str, replaces: str | None = None) -> Claim:
    return Claim(Record(holder, 0, 15.0), replaces, LeaseOrigin.UNKNOWN, 0.0)


@asynccontextmanager
async def locked_row(url: str, table: str) -> AsyncIterator[None]:
    """Lock the rows of a table, as a transaction that does not end."""
    other = await asyncio.to_thread(Connection, USER, "127.0.0.1", "postgres", URL(url).port)
    try:
        await asyncio.to_thread(other.run, "BEGIN")
        await asyncio.to_thread(other.run, f"SELECT 1 FROM {table} FOR UPDATE")  # noqa: S608
        yield
    finally:
        await asyncio.to_thread(other.close)


async def blocked(url: str) -> int:
    """Return the process of a blocked statement, when there is one."""
    found: list[Any] = []

    async def is_blocked() -> bool:
        found.extend(await run(url, BLOCKED))
        return bool(found)

    await until(is_blocked)
    pid: int = found[0][0]
    return pid


async def test_several_daemons_may_create_the_table(url: str) -> None:
    """The server has several errors for a table that was created meanwhile, the rarest in one of a hundred tries."""
    for table in itertools.islice(TABLES, 40):
        async with store_of(url, table) as one, store_of(url, table) as two, store_of(url, table) as three:
            writes = (store.put(f"forescale-shard-{n}", claim("a")) for n, store in enumerate((one, two, three)))
            assert len(await asyncio.gather(*writes)) == len(await one.list()) == 3


async def test_documented_grants_are_enough_and_needed(url: str, table: str) -> None:
    role = f"role_{table}"
    await run(url, f"CREATE ROLE {role} LOGIN")
    async with store_of(url, table, role) as store:
        assert await store.permits() == [Permit(f'create table "{table}"', granted=False)]
        with pytest.raises(Misconfigured, match=r"permission denied.*42501.*create the table, and grant"):
            await store.put(SHARD, claim("a"))
        await run(url, f"CREATE TABLE {table} ({', '.join(COLUMNS)})")
        with pytest.raises(Misconfigured, match="grant its user SELECT"):
            await store.list()
        assert [p.granted for p in await store.permits()] == [False] * 4
        await run(url, f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO {role}")
        assert {p.action: p.granted for p in await store.permits()} == {
            f'{command} on table "{table}"': True for command in ("SELECT", "INSERT", "UPDATE", "DELETE")
        }
        first = await store.put(SHARD, claim("a"))
        second = await store.put(SHARD, claim("b", first.version))
        assert await store.list() == {SHARD: second}
        await store.delete(SHARD, second.version)


async def test_documented_statements_create_both_tables(url: str) -> None:
    page = (Path(__file__).parents[3] / "docs/how-to/high-availability.md").read_text()
    blocks = [textwrap.dedent(block) for block in re.findall(r"```sql\n(.*?)```", page, re.DOTALL)]
    await run(url, *(statement for block in blocks for statement in block.split(";") if statement.strip()))
    async with store_of(url, "forescale_leases", "forescale") as store:
        assert (await store.put(SHARD, claim("a"))).holder == "a"
    server = PostgreSqlServer(host="127.0.0.1", port=URL(url).port or 0, database="postgres", username="forescale")
    async with Resources() as resources:
        context = AdapterContext(resources, SystemClock(), DEADLINE_S)
        snapshots = await open_snapshots(SnapshotSettings(server=server), "forescale", context)
        await snapshots.write(WorkloadName("chat"), "me", "text")
        assert len(await snapshots.read([WorkloadName("chat")])) == 1


@pytest.mark.parametrize(
    "columns", ["id int", "installation text, name text", ", ".join(COLUMNS).replace("version uuid", "version int")]
)
async def test_other_table_is_named(url: str, table: str, columns: str) -> None:
    await run(url, f"CREATE TABLE {table} ({columns})")
    async with store_of(url, table) as store:
        with pytest.raises(Misconfigured, match="the table has other columns"):
            await store.put(SHARD, claim("a"))


async def test_user_that_may_only_read_is_sent_to_the_primary(url: str, table: str) -> None:
    role = f"role_{table}"
    await run(
        url,
        f"CREATE TABLE {table} ({', '.join(COLUMNS)})",
        f"CREATE ROLE {role} LOGIN",
        f"GRANT ALL ON {table} TO {role}",
        f"ALTER ROLE {role} SET default_transaction_read_only = on",
    )
    async with store_of(url, table, role) as store:
        assert await store.list() == {}
        with pytest.raises(Misconfigured, match="set host to the primary"):
            await store.put(SHARD, claim("a"))


async def test_blocked_write_ends_without_effect(url: str, table: str) -> None:
    async with store_of(url, table) as store:
        first = await store.put(SHARD, claim("a"))
        async with locked_row(url, table):
            with pytest.raises(Unavailable):
                await store.put(SHARD, claim("b", first.version))
            assert await store.get(SHARD) == first
        for _ in range(2):  # the server has ended the blocked statement, so that it has no effect later
            assert await store.get(SHARD) == first
        assert (await store.put(SHARD, claim("c", first.version))).holder == "c"


async def test_backend_that_ends_in_a_transaction_leaves_the_lease(url: str, table: str) -> None:
    async with store_of(url, table) as store:
        first = await store.put(SHARD, claim("a"))
        async with locked_row(url, table):
            write = asyncio.create_task(store.put(SHARD, claim("b", first.version)))
            pid = await blocked(url)
            await run(url, f"SELECT pg_terminate_backend({pid})")
            with pytest.raises(Unavailable):
                await write
        assert await store.get(SHARD) == first


async def test_writer_that_waited_for_another_one_has_lost(url: str, table: str) -> None:
    """The row changed while the update waited for its lock: it has another version then."""
    async with store_of(url, table) as one, store_of(url, table) as two:
        first = await one.put(SHARD, claim("a"))
        async with locked_row(url, table):
            waiting = [asyncio.create_task(s.put(SHARD, claim(n, first.version))) for n, s in (("a", one), ("b", two))]
            await blocked(url)
        results = await asyncio.gather(*waiting, return_exceptions=True)
        assert sorted(type(result).__name__ for result in results) == ["Conflict", "Record"]


async def test_commit_that_no_replica_confirms_is_not_accepted(url: str, table: str) -> None:
    """The server then ends the wait at the timeout, and reports success with a warning."""
    errors: list[PortError] = []
    async with store_of(url, table) as store:
        version = (await store.put(SHARD, claim("a"))).version
        await run(url, "ALTER SYSTEM SET synchronous_standby_names = 'absent'", "SELECT pg_reload_conf()")
        try:
            for _ in range(1000):  # the server applies the setting some time later
                version = (await store.put(SHARD, claim("a", version))).version
                await asyncio.sleep(0.05)
        except Unavailable as e:
            errors.append(e)
        finally:
            await run(url, "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")
        assert [word in str(e) for e in errors for word in ("synchronous replication", "no response")].count(True) == 1
        with pytest.raises(Conflict):  # it was committed
            await store.put(SHARD, claim("b", version))


async def test_commit_is_durable_whatever_the_default_of_the_user(url: str, table: str) -> None:
    role = f"role_{table}"
    await run(
        url,
        f"CREATE ROLE {role} LOGIN",
        f"ALTER ROLE {role} SET synchronous_commit = off",
        f"GRANT CREATE ON SCHEMA public TO {role}",
    )
    async with store_of(url, table, role) as store:
        await store.put(SHARD, claim("a"))
        trigger = f"""CREATE FUNCTION f_{table}() RETURNS trigger LANGUAGE plpgsql AS
            $$ BEGIN NEW.note := current_setting('synchronous_commit'); RETURN NEW; END $$"""
        await run(url, trigger, f"CREATE TRIGGER t BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION f_{table}()")
        await store.put("forescale-shard-4", claim("a"))
        stored = await store.get("forescale-shard-4")
        assert stored is not None
        assert stored.note == "on"
