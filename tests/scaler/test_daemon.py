"""The daemon as a process: its signals, addresses and files."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from policies.model import Result
from scaler.journal.reader import Journal
from tests.patience import PATIENCE_S
from tests.servers.daemon import Daemon, daemon, until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


def configuration(folder: Path, speed: float = 60.0, **workload: object) -> Path:
    """Configure a daemon with one embedded workload, which needs another replica within seconds."""
    settings = {
        "listen": "127.0.0.1:0",
        "journal": {"directory": str(folder / "journal")},
        "clock": {"speed": speed},
        "config_poll_s": 0.1,
    }
    traffic = {"mean_rps": 20.0, "swing": 0.0, "crowd_factor": 1.0}
    document = {
        "workload": "llm",
        "max_replicas": 12,
        "sources": {"queue": {"kind": "embedded", "traffic": traffic}},
        "policies": {"depth": {"kind": "queue_depth"}},
        "pools": {"gpus": {"kind": "embedded"}},
        **workload,
    }
    config = folder / "config"
    config.mkdir(exist_ok=True)
    (config / "daemon.yaml").write_text(yaml.safe_dump({"daemon": settings}))
    (config / "llm.yaml").write_text(yaml.safe_dump(document))
    return config


@asynccontextmanager
async def running(folder: Path, *args: str) -> AsyncIterator[Daemon]:
    async with daemon(str(folder / "config"), *args, journal=folder / "journal") as d:
        yield d


def forescale(*args: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scaler.cli", *args]
    env = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=env, timeout=PATIENCE_S)


@pytest.mark.slow
async def test_daemon_runs_until_stopped_and_prints_a_summary(tmp_path: Path) -> None:
    configuration(tmp_path)
    async with running(tmp_path) as d:
        await until(lambda: len(d.ticks()) > 3, d)
        assert await d.stop() == 0
        assert d.process.stdout is not None
        summary = json.loads(await d.process.stdout.read())
        assert summary["llm"]["ticks"] == len(d.ticks())
        assert summary["llm"]["resized"] == sum(o.result is Result.ACCEPTED for t in d.ticks() for o in t.outcomes)


@pytest.mark.slow
async def test_each_tick_logs_one_canonical_line(tmp_path: Path) -> None:
    configuration(tmp_path)
    async with running(tmp_path) as d:
        await until(lambda: len(d.ticks()) > 3, d)
        await d.stop()
        lines = [e for e in d.events() if e["event"] == "tick"]
        assert len(lines) == len(d.ticks())
        assert {"workload", "demand", "current", "ready", "target", "reason", "queue.visible", "late_s"} <= lines[
            0
        ].keys()


async def test_daemon_serves_health_readiness_and_metrics(tmp_path: Path) -> None:
    configuration(tmp_path)
    async with running(tmp_path) as d:
        await until(lambda: len(d.ticks()) > 1, d)
        assert (await d.get("healthz"))[0] == 200
        assert (await d.get("readyz"))[0] == 200
        status, metrics = await d.get("metrics")
        assert status == 200
        assert 'forescale_target_replicas{workload="llm"}' in metrics
        assert 'forescale_reading_state{signal="queue.visible",state="fresh",workload="llm"} 1.0' in metrics
        assert "forescale_config_valid 1.0" in metrics
        assert (await d.get(""))[0] == 200


async def test_changed_configuration_is_applied_between_ticks(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    async with running(tmp_path) as d:
        await until(lambda: len(d.ticks()) > 1, d)
        before = d.ticks()[-1].spec
        configuration(tmp_path, max_replicas=3)
        more = yaml.safe_load((config / "llm.yaml").read_text())
        more["workload"] = more["sources"]["queue"]["world"] = more["pools"]["gpus"]["world"] = "other"
        (config / "more.yaml").write_text(yaml.safe_dump(more))
        await until(lambda: d.ticks()[-1].spec != before and {"llm", "other"} <= {t.workload for t in d.ticks()}, d)
        (config / "more.yaml").unlink()
        await until(lambda: any(e.get("removed") == ["other"] for e in d.events()), d)
        metrics = (await d.get("metrics"))[1]
        assert 'workload="other"' not in metrics
        assert 'forescale_config_reloads_total{result="applied"} 2.0' in metrics
        assert (await d.get("healthz"))[0] == 200


async def test_invalid_configuration_change_keeps_the_old_configuration(tmp_path: Path) -> None:
    config = configuration(tmp_path)
    async with running(tmp_path) as d:
        await until(lambda: len(d.ticks()) > 1, d)
        good, ticks_before = d.ticks()[-1].spec, len(d.ticks())
        (config / "llm.yaml").write_text("workload: llm\nmax_replicas: lots\n")
        await until(lambda: any(e["event"] == "reload" and e["level"] == "error" for e in d.events()), d)
        await until(lambda: len(d.ticks()) > ticks_before + 2, d)
        assert d.ticks()[-1].spec == good
        assert "forescale_config_valid 0.0" in (await d.get("metrics"))[1]
        error = next(e for e in d.events() if e["event"] == "reload")
        assert "max_replicas" in error["error"]
        configuration(tmp_path, max_replicas=11)
        await until(lambda: d.ticks()[-1].spec != good, d)


@pytest.mark.slow
async def test_daemon_restarted_after_kill_keeps_its_history(tmp_path: Path) -> None:
    configuration(tmp_path, speed=1.0, interval_s=0.2, deadline_s=0.1)
    async with running(tmp_path) as d:
        await until(lambda: len(d.ticks()) > 5, d)
        assert await d.stop(signal.SIGKILL) == -9
    known = len(d.ticks())
    async with running(tmp_path) as d:
        await until(lambda: len(d.ticks()) > known + 2, d)
        await d.stop()
    assert d.ticks()[known].history_len == known
    replayed = forescale("replay", str(tmp_path / "journal"))
    assert replayed.returncode == 0, replayed.stdout + replayed.stderr


async def test_ended_loop_fails_the_health_check(tmp_path: Path) -> None:
    """The loop fails by a defect: its time passes the last year of `datetime`."""
    hours = {"kind": "schedule", "windows": [{"start": "08:00", "end": "18:00", "replicas": 2}]}
    config = configuration(tmp_path, policies={"depth": {"kind": "queue_depth"}, "hours": hours})
    settings = yaml.safe_load((config / "daemon.yaml").read_text())
    settings["daemon"]["clock"]["start"] = "9999-12-31T23:59:00+00:00"
    (config / "daemon.yaml").write_text(yaml.safe_dump(settings))
    async with running(tmp_path) as d:
        await until(lambda: any(e["event"] == "task ended" for e in d.events()), d)
        status, body = await d.get("healthz")
        assert status == 503
        assert "llm" in json.loads(body)["stalled"]


@pytest.mark.slow
async def test_dry_run_decides_and_writes_nothing(tmp_path: Path) -> None:
    configuration(tmp_path)
    async with running(tmp_path, "--dry-run", "--for", "3") as d:
        await asyncio.wait_for(d.process.wait(), PATIENCE_S)
        results = {o.result for t in d.ticks() for o in t.outcomes}
        assert Result.DRY_RUN in results
        assert Result.ACCEPTED not in results


def test_once_runs_one_tick_and_explains_it(tmp_path: Path) -> None:
    configuration(tmp_path)
    result = forescale("run", str(tmp_path / "config"), "--once")
    assert result.returncode == 0, result.stderr
    assert "llm at " in result.stdout
    assert "depth: recommends " in result.stdout
    assert len(list(Journal(tmp_path / "journal"))) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"listen": "127.0.0.1:1"}, "daemon.listen: cannot listen on 127.0.0.1:1"),
        ({"journal": {"directory": "/proc/nowhere"}}, "daemon.journal.directory: cannot write to /proc/nowhere"),
    ],
    ids=["a port that is not to be had", "a folder that cannot be written"],
)
def test_invalid_daemon_settings_are_reported_before_the_first_tick(
    tmp_path: Path, change: dict[str, object], message: str
) -> None:
    config = configuration(tmp_path)
    settings = yaml.safe_load((config / "daemon.yaml").read_text())
    if change.get("listen") == "127.0.0.1:1":
        import socket  # noqa: PLC0415

        with socket.socket() as occupied:
            occupied.bind(("127.0.0.1", 0))
            occupied.listen()
            port = occupied.getsockname()[1]
            settings["daemon"]["listen"] = f"127.0.0.1:{port}"
            (config / "daemon.yaml").write_text(yaml.safe_dump(settings))
            result = forescale("run", str(config), "--for", "1")
        message = message.replace(":1", f":{port}")
    else:
        settings["daemon"].update(change)
        (config / "daemon.yaml").write_text(yaml.safe_dump(settings))
        result = forescale("run", str(config), "--for", "1")
    assert result.returncode == 2
    assert message in result.stderr


@pytest.mark.slow
def test_quickstart_runs_as_in_the_readme(tmp_path: Path) -> None:
    for file in (ROOT / "config/quickstart").glob("*.yaml"):
        (tmp_path / file.name).write_text(file.read_text())
    result = forescale("run", str(tmp_path), "--for", "4", "--listen", "127.0.0.1:0", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "dashboard at http://127.0.0.1:" in result.stderr
    assert "chat" in result.stdout
    assert "summaries" in result.stdout
    explained = forescale("explain", "journal", "--workload", "chat", cwd=tmp_path)
    assert "chat at " in explained.stdout
    assert forescale("replay", "journal", cwd=tmp_path).returncode == 0
