"""Notices of a running daemon: off by default, sent once across restarts, and never in the way of a tick."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scaler.config.load import load
from scaler.config.notices import NoticeDestination, NoticesSpec
from scaler.config.secret import Secret
from scaler.extras import missing_packages
from tests.scaler.live_daemon import Live, live
from tests.servers.daemon import Daemon, until
from tests.servers.notice_services import Webhook, webhook

TOKEN = "b1946ac92492d2347c6235b4d2611184"
OVERRIDE = {"replicas": 3, "until": "2026-06-01T10:00:00+00:00", "reason": "launch"}


def configure(servers: Live, service: Webhook, **settings: object) -> None:
    (servers.folder / "url").write_text(f"json://127.0.0.1:{service.port}/{TOKEN}\n")
    destinations = {"oncall": {"url": {"file": str(servers.folder / "url")}}}
    servers.daemon_settings(notices={"destinations": destinations, **settings})
    servers.write(override=OVERRIDE)


async def notices_total(running: Daemon) -> dict[str, float]:
    _, page = await running.get("metrics")
    lines = [line for line in page.splitlines() if line.startswith("forescale_notices_total")]
    return {line.split('result="')[1].split('"')[0]: float(line.split()[-1]) for line in lines}


@pytest.mark.slow
async def test_condition_is_sent_once_across_restarts(tmp_path: Path) -> None:
    async with live(tmp_path) as servers, webhook() as service:
        configure(servers, service, dashboard_url="http://dashboard.example.com/")
        async with servers.run() as first:
            await until(lambda: len(service.bodies) == 1, first)
            await until(lambda: len(first.ticks()) >= 2, first)
            assert (await notices_total(first)) == {"sent": 1, "failed": 0, "dropped": 0}
            assert await first.stop() == 0
        before = len(first.ticks())
        async with servers.run() as second:
            await until(lambda: len(second.ticks()) >= before + 4, second)
            assert (await notices_total(second)) == {"sent": 0, "failed": 0, "dropped": 0}
    (body,) = service.bodies
    assert body["title"] == "Forescale: llm override until 2026-06-01T10:00:00+00:00"
    assert "It was 3 replicas until 2026-06-01T10:00:00+00:00 (launch)" in body["message"]
    assert "http://dashboard.example.com/" in body["message"]
    assert TOKEN not in "\n".join([*first.lines, *second.lines])


@pytest.mark.slow
async def test_hanging_destination_delays_no_tick_and_no_end(tmp_path: Path) -> None:
    async with live(tmp_path) as servers, webhook() as service:
        service.hang = True
        configure(servers, service)
        async with servers.run() as running:
            await until(service.arrived.is_set, running)
            hung = len(running.ticks())
            await until(lambda: len(running.ticks()) >= hung + 6, running)
            status, _ = await running.get("readyz")
            assert status == 200
            assert await running.stop() == 0


@pytest.mark.slow
async def test_url_of_no_service_ends_the_start_without_showing_it(tmp_path: Path) -> None:
    async with live(tmp_path) as servers, webhook() as service:
        configure(servers, service)
        (tmp_path / "url").write_text(f"gopher://{TOKEN}")
        async with servers.run() as running:
            assert await running.process.wait() == 2
        await running.stop()
    (line,) = (line for line in running.lines if "daemon.notices" in line)
    assert "daemon.notices.destinations.oncall.url: is no URL of a service" in line
    assert TOKEN not in line


@pytest.mark.slow
def test_daemon_without_notices_and_otlp_imports_neither_library() -> None:
    script = (
        "import sys, scaler.app, scaler.commands.check\n"
        "sys.exit(sorted({m.split('.')[0] for m in sys.modules} & {'apprise', 'opentelemetry'}) or 0)"
    )
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"destinations": {"On Call": NoticeDestination(url=Secret(env="HOME"))}}, "destinations"),
        ({"dashboard_url": "https://user:password@forescale"}, "dashboard_url"),
        ({"dashboard_url": "forescale"}, "dashboard_url"),
    ],
)
def test_setting_is_refused(settings: dict[str, Any], key: str) -> None:
    assert [place for place, _ in NoticesSpec(**settings).problems()] == [key]


def test_destination_without_events_is_refused() -> None:
    ((place, rule),) = NoticeDestination(url=Secret(env="HOME"), events=()).problems()
    assert (place, "slo" in rule) == ("events", True)


def test_extras_of_the_daemon_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTICE_URL", "json://x")
    file = tmp_path / "config.yaml"
    workload = "workload: chat\nmax_replicas: 2\npolicies: {size: {kind: static, replicas: 1}}\npools:\n"
    workload += "  gpus: {kind: kubernetes, name: vllm, namespace: llm}\n"
    daemon = "daemon:\n  opentelemetry: {}\n  notices: {destinations: {oncall: {url: {env: NOTICE_URL}}}}\n"
    file.write_text(f"{daemon}---\n{workload}")
    assert missing_packages(load([file])) == {"kubernetes": [], "notices": [], "otel": []}
    file.write_text(workload)
    assert missing_packages(load([file])) == {"kubernetes": []}
    for setting in ("ha: {}", "kubernetes_workloads: {namespaces: [llm]}"):
        on_aws = workload.replace("kind: kubernetes, name: vllm, namespace: llm", "kind: asg, group: vllm")
        file.write_text(f"daemon:\n  {setting}\n---\n{on_aws}")
        assert missing_packages(load([file])) == {"aws": [], "kubernetes": []}
