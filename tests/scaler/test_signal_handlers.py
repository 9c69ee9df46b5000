"""Signals before the daemon's first tick: none ends it without its message."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.patience import PATIENCE_S
from tests.scaler.live_daemon import Live, live
from tests.servers.daemon import until

ROOT = Path(__file__).parents[2]
HEAVY = ("numpy", "pydantic", "aiohttp", "yaml", "structlog", "asyncio")


@asynccontextmanager
async def starting(servers: Live) -> AsyncIterator[Process]:
    """Start a daemon, and yield it once its first line has run or its first library is loaded."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scaler.cli", "run", "--json", str(servers.config)),
        stdout=DEVNULL,
        stderr=PIPE,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
    )
    try:
        await until(lambda: handles(process.pid, signal.SIGHUP) or has_loaded(process.pid, "pydantic_core"))
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def handles(pid: int, sig: signal.Signals) -> bool:
    """Return whether a process has a handler for a signal."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (sig - 1) & 1)


def has_loaded(pid: int, library: str) -> bool:
    return library in Path(f"/proc/{pid}/maps").read_text()


def test_cli_import_loads_no_heavy_library() -> None:
    script = f"import scaler.cli, sys; print([m for m in {HEAVY} if m in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.slow
async def test_repeated_sighup_during_start_does_not_end_the_daemon(tmp_path: Path) -> None:
    async with live(tmp_path) as servers, starting(servers) as process:
        ready, lines = asyncio.Event(), list[str]()

        async def read() -> None:
            assert process.stderr is not None
            async for line in process.stderr:
                lines.append(line.decode())
                if '"event": "tick"' in lines[-1]:
                    ready.set()

        reading = asyncio.create_task(read())
        async with asyncio.timeout(PATIENCE_S):
            while not ready.is_set():
                process.send_signal(signal.SIGHUP)
                await asyncio.sleep(0.05)
                assert process.returncode is None, "".join(lines)
        process.terminate()
        assert await process.wait() == 0
        await reading
        assert sum("requested_by" in line and "SIGHUP" in line for line in lines) <= 20, "its lines are limited"


@pytest.mark.slow
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT], ids=str)
async def test_daemon_stopped_before_its_first_tick_exits_with_zero(tmp_path: Path, sig: signal.Signals) -> None:
    async with live(tmp_path) as servers, starting(servers) as process:
        process.send_signal(sig)
        _, err = await process.communicate()
        assert process.returncode == 0
        assert "Traceback" not in err.decode()
