"""PostgreSQL on a real server: columns, types, limits of the query, names in errors, TLS. And on a hostile server."""

from __future__ import annotations

import asyncio
import json
import os
import re
import struct
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from policies.model import Absent, Fresh
from scaler.adapters import open_source
from scaler.clock import SystemClock
from scaler.clouds.tls import Tls
from scaler.config.kinds.postgresql import PostgreSql
from scaler.ports import Misconfigured, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.patience import PATIENCE_S
from tests.servers.certificate import self_signed
from tests.servers.postgresql import (
    BEGUN,
    INITDB,
    PARSED,
    SIGNED_IN,
    USER,
    described,
    execute,
    hostile_postgres,
    message,
    needs_postgres,
    postgres,
    row,
)

pytestmark = pytest.mark.slow
NUMERIC = 1700
WORKLOAD: dict[str, Any] = {
    "workload": "chat",
    "max_replicas": 2,
    "policies": {"size": {"kind": "static", "replicas": 1}},
    "pools": {"gpus": {"kind": "kubernetes", "name": "vllm", "namespace": "llm"}},
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    if INITDB is None:
        pytest.skip("no initdb on PATH (Debian: apt install postgresql)")
    with postgres() as address:
        yield address


async def read(
    url: str, query: str, deadline_s: float = DEADLINE_S, **settings: Any
) -> Mapping[str, Fresh[float] | Absent]:
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
    await asyncio.to_thread(execute, url, "CREATE TABLE jobs (id int)", "INSERT INTO jobs VALUES (1)")
    with pytest.raises(Misconfigured, match="read-only transaction"):
        await read(url, "WITH gone AS (DELETE FROM jobs RETURNING 1) SELECT count(*) FROM gone")
    assert await asyncio.to_thread(execute, url, "SELECT count(*) FROM jobs") == [[1]]


async def test_slow_query_ends_on_the_server_at_the_deadline(url: str) -> None:
    with pytest.raises(Unavailable):
        await read(url, "SELECT count(*) FROM pg_sleep(60)", deadline_s=0.5)
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(60)' AND pid <> pg_backend_pid()"
    for _ in range(100):
        left = await asyncio.to_thread(execute, url, running)
        if left == [[0]]:
            break
        await asyncio.sleep(0.05)
    assert left == [[0]]


@needs_postgres
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


HOSTILE: Mapping[str, tuple[tuple[bytes, ...], str]] = {
    "an unknown message": ((message(b"?"),), "malformed response"),
    "a message of negative length": ((b"R" + struct.pack("!i", -9),), "PostgreSQL"),
    "a message of 2 GiB that never comes": ((b"R" + struct.pack("!i", 2**31 - 1),), "no response within"),
    "a short message": ((message(b"R", b"1"),), "PostgreSQL"),
    "silence": ((SIGNED_IN, BEGUN), "no response within"),
    "more rows than requested": (
        (SIGNED_IN, BEGUN, PARSED, described(NUMERIC), row(b"1") * 100_000),
        "more than the 2 rows",
    ),
    "a value beyond its message": (
        (SIGNED_IN, BEGUN, PARSED, described(NUMERIC), message(b"D", struct.pack("!hi", 1, 2**31 - 1))),
        "PostgreSQL",
    ),
    "a number that is none": ((SIGNED_IN, BEGUN, PARSED, described(NUMERIC), row(b"many")), "malformed response"),
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_message_is_a_failed_read(name: str) -> None:
    responses, reason = HOSTILE[name]
    async with hostile_postgres(*responses) as port:
        with pytest.raises(Unavailable, match=reason):
            await read(f"postgresql://127.0.0.1:{port}", "SELECT 1", deadline_s=1.0)


async def test_missing_password_is_named() -> None:
    async with hostile_postgres(message(b"R", struct.pack("!i", 3))) as port:
        with pytest.raises(Misconfigured, match="set password"):
            await read(f"postgresql://127.0.0.1:{port}", "SELECT 1")


def costly_login(packet: bytes) -> bytes:
    """Continue a login with the client's nonce, and request two billion hash iterations."""
    nonce = re.search(rb"r=([^,]+)", packet)
    assert nonce is not None
    return message(b"R", struct.pack("!i", 11) + b"r=" + nonce[1] + b"server,s=c2FsdA==,i=2147483647")


async def test_login_that_costs_hours_is_refused(tmp_path: Path) -> None:
    """The command is a process of its own, since a client that obeys the server never gives control back."""
    (tmp_path / "password").write_text("secret-password")
    methods = message(b"R", struct.pack("!i", 10) + b"SCRAM-SHA-256\0\0")
    async with hostile_postgres(methods, costly_login) as port:
        source = {"kind": "postgresql", "host": "127.0.0.1", "port": port, "database": "d", "username": "u"}
        source |= {"query": "SELECT 1", "password": {"file": str(tmp_path / "password")}}
        (tmp_path / "chat.yaml").write_text(json.dumps({**WORKLOAD, "sources": {"jobs": source}}))
        command = (sys.executable, "-m", "scaler.cli", "doctor", "chat.yaml", "--json")
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])}
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, cwd=tmp_path, env=env)
        try:
            output, _ = await asyncio.wait_for(process.communicate(), PATIENCE_S)
        finally:
            if process.returncode is None:
                process.kill()
    (check,) = (check for check in json.loads(output) if check.get("source"))
    assert "2147483647 hash iterations" in check["error"]
