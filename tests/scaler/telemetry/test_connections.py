"""The HTTP server under idle, slow and unauthorized clients: it keeps responding, to authorized clients only."""

from __future__ import annotations

import asyncio
import json
import resource
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from policies.model import Tick
from policies.quota.fleet_quota import FleetLimits
from scaler.config.daemon import DaemonSpec, ServerSpec
from scaler.config.secret import Secret
from scaler.ports import Misconfigured
from scaler.quota_ledger import QuotaLedger
from scaler.supervised_tasks import Tasks
from scaler.telemetry.dashboard import Dashboard
from scaler.telemetry.dashboard.workload_facts import LiveWorkloads
from scaler.telemetry.health import Health
from scaler.telemetry.http.access import AccessControl
from scaler.telemetry.http.server import application, serve
from scaler.telemetry.metrics import Metrics
from tests.fakes import ManualClock
from tests.scaler.live_daemon import live
from tests.servers.certificate import make_pair
from tests.servers.daemon import until

PATHS = ["", "static/main.js", "api/workloads", "api/fleet", "metrics", "healthz", "readyz", "nothing"]


@asynccontextmanager
async def serving(**server: Any) -> AsyncIterator[str]:
    """Start the daemon's server with these settings, and return its address."""
    spec = DaemonSpec(listen="127.0.0.1:0", server=ServerSpec(**server))
    health, tasks = Health({}, ManualClock()), Tasks()
    dashboard = Dashboard("1", LiveWorkloads({}, health, QuotaLedger(FleetLimits())))
    app = application(Metrics("1"), health, dashboard, AccessControl(spec.server, spec.listen))
    server_handle, address = await serve(app, spec, health, tasks)
    try:
        yield address
    finally:
        await server_handle.close()


async def get(address: str, path: str, **options: Any) -> tuple[int, Any]:
    async with aiohttp.ClientSession() as http, http.get(address + path, **options) as answer:
        await answer.read()
        return answer.status, answer.headers


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("host", "ours"),
    [
        ("localhost:1234", True),
        ("127.0.0.1", True),
        ("[::1]:80", True),
        ("forescale.example.com", True),
        ("evil.example.com", False),
        ("localhost.evil.example.com", False),
        ("10.1.2.3", False),
        ("127.0.0.1.nip.io", False),
    ],
)
async def test_unknown_host_may_read_only_health_and_metrics(path: str, host: str, ours: bool) -> None:
    async with serving(hosts=("Forescale.example.com",)) as address:
        status, headers = await get(address, path, headers={"Host": host})
        expected = 404 if path == "nothing" else 200
        assert status == (expected if ours or path in {"metrics", "healthz", "readyz"} else 421)
        assert headers["Server"] == "forescale"


async def test_malformed_request_response_hides_versions() -> None:
    async with serving() as address:
        reader, writer = await asyncio.open_connection("127.0.0.1", int(address.rsplit(":", 1)[1].strip("/")))
        writer.write(b"GET / HTTP/9.9\r\nHo st: x\r\n\r\n")
        answer = (await reader.read()).decode()
        writer.close()
        assert " 400 " in answer.splitlines()[0]
        assert "aiohttp" not in answer
        assert "Python" not in answer


@pytest.mark.parametrize("path", PATHS)
async def test_token_is_required_except_for_health_checks(path: str, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("a secret\n")
    async with serving(token=Secret(file=str(file))) as address:
        right = [{"Authorization": "Bearer a secret"}, {"Authorization": aiohttp.encode_basic_auth("me", "a secret")}]
        wrong = [{}, {"Authorization": "Bearer a secreT"}, {"Authorization": "Basic !"}, {"Authorization": "a secret"}]
        expected = 404 if path == "nothing" else 200
        for headers in right:
            assert (await get(address, path, headers=headers))[0] == expected
        for headers in wrong:
            status, answer = await get(address, path, headers=headers)
            assert status == (200 if path in {"healthz", "readyz"} else 401)
            assert ("WWW-Authenticate" in answer) == (status == 401)
        file.write_text("another")
        assert (await get(address, path, headers={"Authorization": "Bearer another"}))[0] == expected


async def test_tls_uses_a_renewed_certificate_without_restart(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "localhost")

    async def subject(address: str) -> str:
        trusting = ssl.create_default_context(cafile=pair.certificate)
        assert (await get(address, "healthz", ssl=trusting))[0] == 200
        port = int(address.rsplit(":", 1)[1].strip("/"))
        _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=trusting)
        certificate = writer.get_extra_info("peercert")
        writer.close()
        return str(certificate["subject"][0][0][1])

    async with serving(tls=pair) as address:
        assert address.startswith("https://")
        assert await subject(address) == "localhost"
        make_pair(tmp_path, "renewed")
        assert await subject(address) == "renewed"
        key = Path(pair.key).read_text()
        Path(pair.key).write_text("spoiled")
        assert await subject(address) == "renewed", "the previous certificate stays in use"
        Path(pair.key).write_text(key)


async def test_invalid_certificate_raises_misconfigured_at_start(tmp_path: Path) -> None:
    pair = make_pair(tmp_path, "localhost")
    Path(pair.key).write_text("spoiled")
    with pytest.raises(Misconfigured, match=r"daemon\.server\.tls: cannot use .*tls\.crt"):
        async with serving(tls=pair):
            pass


def errors_of(tick: Tick) -> list[str]:
    return [*tick.observation.source_errors.values(), *tick.observation.pool_errors.values()]


@pytest.mark.slow
async def test_idle_and_slow_connections_do_not_exhaust_server_or_sources(tmp_path: Path) -> None:
    async with live(tmp_path) as servers, servers.run(limits={resource.RLIMIT_NOFILE: 256}) as d:
        await until(lambda: len(d.ticks()) > 1, d)
        port = int(d.address.rsplit(":", 1)[1].strip("/"))
        writers = [(await asyncio.open_connection("127.0.0.1", port))[1] for _ in range(400)]
        for writer in writers[::2]:
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
        ticks, lines = len(d.ticks()), len(d.lines)
        for _ in range(10):
            status, body = await d.get("healthz")
            assert (status, json.loads(body)["status"]) == (200, "ok")
        await until(lambda: sum(not errors_of(tick) for tick in d.ticks()[ticks:]) > 10, d)
        errors = {error for tick in d.ticks()[ticks:] for error in errors_of(tick)}
        assert all(error.startswith("no response within") for error in errors), "a busy machine may be late, no more"
        assert len(d.lines) - lines <= len(d.ticks()) - ticks + 40, "one line per tick, and few others"
        for writer in writers:
            writer.close()


@pytest.mark.slow
def test_descriptor_soft_limit_is_raised_to_the_hard_limit() -> None:
    script = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (64, 200));"
        "from scaler.telemetry.http.connections import raise_descriptor_limit as r; print(r(),"
        " resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "200 (200, 200)"
