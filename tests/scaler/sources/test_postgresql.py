"""PostgreSQL on a real server: columns, types, limits of the query, names in errors, TLS."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from yarl import URL

from policies.model import Absent, Fresh
from scaler.adapters import open_source
from scaler.clock import SystemClock
from scaler.clouds.tls import Tls
from scaler.config.kinds.postgresql import PostgreSql
from scaler.ports import Misconfigured, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.servers.certificate import self_signed
from tests.servers.postgresql import USER, needs_postgres, postgres

pytestmark = [pytest.mark.slow, needs_postgres]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with postgres() as address:
        yield address


async def read(url: str, query: str, deadline_s: float = 5.0, **settings: Any) -> Mapping[str, Fresh[float] | Absent]:
    server = {"host": "127.0.0.1", "port": URL(url).port, "database": "postgres", "username": USER, "query": query}
    async with Resources() as resources:
        context = AdapterContext(resources, SystemClock(), deadline_s)
        return await (await open_source(PostgreSql(**{**server, **settings}), context)).sample()


async def test_columns_are_quantities_of_any_numeric_type(url: str) -> None:
    query = "SELECT 0::bigint AS visible, 2.5::numeric AS in_flight, interval '90 s' AS oldest_age_s"
    readings = await read(url, query, columns=("visible", "in_flight", "oldest_age_s"))
    values = {q: r.value for q, r in readings.items() if isinstance(r, Fresh)}
    assert values == {"visible": 0, "in_flight": 2.5, "oldest_age_s": 90}


async def test_single_column_may_have_any_name(url: str) -> None:
    reading = (await read(url, "SELECT 7"))["visible"]
    assert isinstance(reading, Fresh)
    assert reading.value == 7


@pytest.mark.parametrize(
    ("query", "reason"),
    [("SELECT NULL", "visible is NULL"), ("SELECT 1 WHERE false", "the query returns no row")],
)
async def test_missing_value_is_not_zero(url: str, query: str, reason: str) -> None:
    assert await read(url, query) == {"visible": Absent(reason)}


@pytest.mark.parametrize(
    ("query", "settings", "reason"),
    [
        ("SELECT count(*) FROM jbs", {}, 'relation "jbs" does not exist (SQLSTATE 42P01)'),
        ("SELECT generate_series(1, 9)", {}, "returns more than one row"),
        ("SELECT 1 AS a, 2 AS b", {}, "the query returns no column 'visible'; its columns are a, b"),
        ("CREATE TABLE t (a int)", {}, "(SQLSTATE "),
        ("SELECT 1", {"database": "llm"}, 'database "llm" does not exist'),
        ("SELECT 1", {"username": "nobody"}, 'role "nobody" does not exist'),
        ("SELECT 1", {"tls": Tls()}, "remove tls"),
    ],
)
async def test_wrong_setting_is_named(url: str, query: str, settings: dict[str, Any], reason: str) -> None:
    with pytest.raises(Misconfigured) as error:
        await read(url, query, **settings)
    assert reason in str(error.value)


async def test_query_cannot_write(url: str) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE jobs (id int); INSERT INTO jobs VALUES (1)")
    with pytest.raises(Misconfigured, match="read-only transaction"):
        await read(url, "WITH gone AS (DELETE FROM jobs RETURNING 1) SELECT count(*) FROM gone")
    assert await connection.fetchval("SELECT count(*) FROM jobs") == 1
    await connection.close()


async def test_slow_query_ends_on_the_server_at_the_deadline(url: str) -> None:
    with pytest.raises(Unavailable):
        await read(url, "SELECT count(*) FROM pg_sleep(60)", deadline_s=0.5)
    connection = await asyncpg.connect(url)
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND pid <> pg_backend_pid()"
    for _ in range(100):
        left = await connection.fetchval(running)
        if left == 0:
            break
        await connection.execute("SELECT pg_sleep(0.05)")
    await connection.close()
    assert left == 0


async def test_certificate_is_verified(tmp_path: Path) -> None:
    _, ca_file = self_signed(tmp_path)
    with postgres(tls=tmp_path) as url:
        (reading,) = (
            await read(url, "SELECT ssl::int FROM pg_stat_ssl WHERE pid = pg_backend_pid()", tls=Tls(ca_file=ca_file))
        ).values()
        assert isinstance(reading, Fresh)
        assert reading.value == 1
        with pytest.raises(Misconfigured, match="check tls"):
            await read(url, "SELECT 1", tls=Tls())
