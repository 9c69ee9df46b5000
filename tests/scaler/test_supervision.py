"""Failed background tasks are restarted and reported, and so are configuration files that are not in use."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from scaler.config.daemon import DaemonSpec
from scaler.config.load import Config
from scaler.config.watch import Watcher, snapshot
from scaler.ports import Clock
from scaler.reload import Reloader
from scaler.supervised_tasks import Tasks
from scaler.telemetry.health import Health
from scaler.telemetry.metrics import Metrics
from tests.fakes import ManualClock
from tests.scaler.live_daemon import Live, live
from tests.servers.daemon import Daemon, until


async def wait_until(condition: Callable[[], bool], steps: int = 2000) -> None:
    """Run other tasks until `true` returns True."""
    for _ in range(steps):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")


class TestTasks:
    async def test_failed_task_is_restarted_counted_and_reported(self) -> None:
        tasks, runs, go = Tasks(first_pause_s=0.001), list[int](), asyncio.Event()

        async def run() -> None:
            runs.append(len(runs))
            if len(runs) <= 3:
                raise MemoryError
            await go.wait()

        task = tasks.start("configuration", run)
        await wait_until(lambda: len(runs) == 4)
        assert tasks.restarts == {"configuration": 3}
        assert tasks.failing["configuration"].startswith("MemoryError at test_supervision.py:")
        tasks.recovered("configuration")
        assert tasks.failing == {}
        go.set()
        await task

    async def test_task_failure_report_omits_the_exception_message(self) -> None:
        tasks = Tasks(first_pause_s=60.0)

        async def run() -> None:
            raise ValueError("password hunter2")

        task = tasks.start("x", run)
        await wait_until(lambda: "x" in tasks.failing)
        assert "hunter2" not in tasks.failing["x"]
        task.cancel()

    async def test_task_that_returns_is_not_restarted(self) -> None:
        tasks = Tasks()

        async def run() -> None:
            return None

        await tasks.start("x", run)
        assert tasks.restarts == {}


class App:
    """The reloader's view of an app. `reload` raises one of `errors` per call, and then succeeds."""

    def __init__(self, clock: Clock, *errors: Exception) -> None:
        self.config = Config(DaemonSpec(), {})
        self.metrics = Metrics("1")
        self.controllers: dict[Any, Any] = {}
        self.tasks = Tasks(first_pause_s=0.001)
        self.health = Health(self.controllers, clock, self.tasks)
        self.shadows = self
        self.errors = list(errors)
        self.taken: list[Config] = []

    async def reload(self, config: Any) -> str:
        if isinstance(config, Config):
            if self.errors:
                raise self.errors.pop(0)
            self.taken.append(config)
        return ""

    def valid(self) -> float | None:
        return self.metrics.registry.get_sample_value("forescale_config_valid")


@pytest.mark.slow
async def test_unexpected_reload_failure_is_reported_and_retried(tmp_path: Path) -> None:
    document = {
        "workload": "llm",
        "max_replicas": 3,
        "sources": {"queue": {"kind": "embedded"}},
        "policies": {"depth": {"kind": "queue_depth"}},
        "pools": {"gpus": {"kind": "embedded"}},
    }
    file = tmp_path / "llm.yaml"
    file.write_text(yaml.safe_dump(document))
    app = App(ManualClock(), ZeroDivisionError(), RecursionError())
    reloader = Reloader(app, Watcher([tmp_path], 0.01), snapshot([tmp_path]))  # type: ignore[arg-type]
    task = app.tasks.start("configuration", reloader.follow)
    assert app.valid() == 1
    file.write_text(yaml.safe_dump({**document, "max_replicas": 4}))
    await wait_until(lambda: app.tasks.restarts["configuration"] == 1)
    assert app.valid() == 0
    assert "configuration" in app.health.problems()
    await wait_until(lambda: bool(app.taken))
    await wait_until(lambda: app.valid() == 1)
    assert app.tasks.restarts["configuration"] == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_snapshot_rejects_fifos_and_oversized_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.yaml")
    assert "cannot be read: it is a pipe" in snapshot([tmp_path]).problem
    (tmp_path / "a.yaml").unlink()
    with (tmp_path / "b.yaml").open("wb") as f:
        f.truncate(3 * 2**30)
    assert "the limit is 16,777,216 (16 MiB)" in snapshot([tmp_path]).problem
    (tmp_path / "b.yaml").write_text("{}")
    assert snapshot([tmp_path]).problem == ""


# --- a daemon


async def valid(d: Daemon) -> bool:
    return "forescale_config_valid 1.0" in (await d.get("metrics"))[1]


def null_key(servers: Live) -> Callable[[], None]:
    servers.write().write_text(servers.text() + "~: 1\n")
    return lambda: None


def number_key(servers: Live) -> Callable[[], None]:
    servers.write().write_text(servers.text() + "1.5: 1\n")
    return lambda: None


def folder_gone(servers: Live) -> Callable[[], None]:
    moved = servers.config.rename(servers.folder / "away")
    return lambda: (moved.rename(servers.config), None)[1]


def sparse(servers: Live) -> Callable[[], None]:
    with (servers.config / "big.yaml").open("wb") as f:
        f.truncate(3 * 2**30)
    return (servers.config / "big.yaml").unlink


def fifo(servers: Live) -> Callable[[], None]:
    os.mkfifo(servers.config / "pipe.yaml")
    return (servers.config / "pipe.yaml").unlink


@pytest.mark.slow
@pytest.mark.parametrize("spoil", [null_key, number_key, folder_gone, sparse, fifo])
async def test_daemon_reports_spoiled_files_and_applies_the_next_edit(
    tmp_path: Path, spoil: Callable[[Live], Callable[[], None]]
) -> None:
    async with live(tmp_path) as servers, servers.run() as d:
        await until(lambda: len(d.ticks()) > 1, d)
        before = d.ticks()[-1].spec
        repair = spoil(servers)

        async def is_reported() -> bool:
            return not await valid(d) and "configuration" in json.loads((await d.get("healthz"))[1])["problems"]

        await until(is_reported, d)
        ticks_before = len(d.ticks())
        await until(lambda: len(d.ticks()) > ticks_before + 4, d)
        assert (await d.get("healthz"))[0] == 200, "a restart would not fix it"
        repair()
        servers.write(paused=True)
        await until(lambda: d.ticks()[-1].spec != before, d)
        await until(lambda: valid(d), d)
        assert json.loads((await d.get("healthz"))[1])["problems"] == {}


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["truncated", "gone"])
async def test_file_empty_or_missing_for_one_poll_keeps_its_workload(tmp_path: Path, lost: str) -> None:
    async with live(tmp_path) as servers:
        servers.daemon_settings(config_poll_s=4.0)
        other = servers.write("other")
        async with servers.run() as d:
            await until(lambda: {"llm", "other"} <= {t.workload for t in d.ticks()}, d)
            if lost == "truncated":
                other.write_text("")
            else:
                other.unlink()
            await until(lambda: any(e.get("missing") == ["other"] for e in d.events()), d)
            servers.write("other")
            await until(lambda: valid(d), d)
            assert not [e for e in d.events() if e.get("removed")]
            other.unlink()
            await until(lambda: any(e.get("removed") == ["other"] for e in d.events()), d)


async def wait_for_ticks(d: Daemon, ticks: int) -> None:
    """Wait until the log has this many more ticks."""
    before = sum(e["event"] == "tick" for e in d.events())
    await until(lambda: sum(e["event"] == "tick" for e in d.events()) >= before + ticks, d)


@pytest.mark.slow
async def test_daemon_on_a_full_disk_decides_and_reports_lost_records(tmp_path: Path) -> None:
    async with live(tmp_path) as servers:
        servers.journal.mkdir()
        (servers.journal / "00000001.jsonl").write_text('{"v":2,"type":"tick","workload":"llm","at":"damaged"}\n')
        async with servers.run(limits={resource.RLIMIT_FSIZE: 1}) as d:
            await wait_for_ticks(d, 3)
            status, body = await d.get("healthz")
            assert (status, json.loads(body)["status"]) == (200, "degraded")
            assert "cannot write records: File too large" in json.loads(body)["problems"]["journal"]
            metrics = (await d.get("metrics"))[1]
            assert "forescale_journal_damaged_lines 1.0" in metrics
            lost = next(line for line in metrics.splitlines() if line.startswith("forescale_journal_lost_records "))
            assert float(lost.split()[1]) >= 3
            assert servers.kube.get("deployments", "llm")["spec"]["replicas"] == 2
            assert len([e for e in d.events() if e["event"] == "journal" and e["level"] == "error"]) == 1
            assert await d.stop() == 0


@pytest.mark.slow
async def test_daemon_reports_a_journal_of_another_schema_once(tmp_path: Path) -> None:
    async with live(tmp_path) as servers:
        servers.journal.mkdir()
        old_file = servers.journal / "00000001.jsonl"
        old_file.write_text('{"v":1,"type":"start","at":1}\n{"v":1,"type":"tick"}\n')
        async with servers.run() as d:
            await wait_for_ticks(d, 3)
            assert "forescale_journal_damaged_lines 2.0" in (await d.get("metrics"))[1]
            (event,) = [e for e in d.events() if e["event"] == "journal"]
            assert event["unreadable_records"] == 2
            assert "this version reads 2 and 3. Read it with Forescale 0.1.0" in event["error"]
            assert await d.stop() == 0
        assert old_file.read_text().count("\n") == 2
        assert '"type":"tick"' in (servers.journal / "00000002.jsonl").read_text()


@pytest.mark.slow
async def test_running_daemon_recreates_a_removed_journal_folder(tmp_path: Path) -> None:
    async with live(tmp_path) as servers, servers.run() as d:
        await until(lambda: len(d.ticks()) > 2, d)
        servers.journal.rename(tmp_path / "removed")
        shutil.rmtree(tmp_path / "removed")
        await until(lambda: len(d.ticks()) > 2, d)
        lost = next(e for e in d.events() if e["event"] == "journal")
        assert lost["lost"] >= 3
        assert (await d.get("healthz"))[0] == 200
