"""Footprint of a daemon on SQS, Prometheus and Kubernetes: time to the first decision, and memory over a day of ticks.

A day at 15 s has 5,760 ticks. They run back to back against servers on loopback.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from scaler.clock import SystemClock
from scaler.journal.reader import Journal, JournalError
from scaler.journal.writer import files
from tests.benchmarks.cloud import Cloud, cloud, resident_mb
from tests.benchmarks.figure import Figure

DAY: Final = 5760
WARM_UP: Final = 1440
"""Ticks until the dashboard and the history have reached their size limits, and some more."""
INTERVAL_S: Final = 0.02
LIMIT_S: Final = 420.0
STARTS: Final = 5


def run(_data: Path) -> Iterator[Figure]:
    yield from asyncio.run(measure())


async def measure() -> list[Figure]:
    async with cloud(1) as cloud_:
        starts = sorted([await _start(cloud_) for _ in range(STARTS)])
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            async with _daemon(cloud_, folder) as process, asyncio.timeout(LIMIT_S):
                await _wait_for_ticks(process, folder / "journal", WARM_UP)
                warm_mb = resident_mb(process.pid)
                await _wait_for_ticks(process, folder / "journal", DAY)
                full_mb = resident_mb(process.pid)
    spread = f"median of {STARTS}, {starts[0]:.2f} to {starts[-1]:.2f}"
    return [
        Figure("footprint", "start to first decision on full evidence", starts[STARTS // 2], "s", 2.0, note=spread),
        Figure("footprint", f"resident memory after {DAY} ticks", full_mb, "MB", 150.0),
        Figure("footprint", f"growth from tick {WARM_UP} to {DAY}", full_mb - warm_mb, "MB", 2.0),
    ]


async def _start(cloud_: Cloud) -> float:
    """Return the time from the start of the process to its first decision on full evidence. Seconds."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        start = SystemClock().now()
        async with _daemon(cloud_, folder) as process, asyncio.timeout(LIMIT_S):
            await _wait_for_ticks(process, folder / "journal", 3)
        return next(t.at for t in Journal(folder / "journal") if t.decision.may_scale_in) - start


@asynccontextmanager
async def _daemon(cloud_: Cloud, folder: Path) -> AsyncIterator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "scaler.cli", "run", "--json", str(cloud_.write(folder, 1, INTERVAL_S))),
        env=cloud_.environment(),
        stdout=DEVNULL,
        stderr=DEVNULL,
    )
    try:
        yield process
    finally:
        process.kill()
        await process.wait()


async def _wait_for_ticks(process: Process, journal: Path, ticks: int) -> None:
    """Wait until the journal holds this number of ticks."""
    while _lines(journal) - 2 < ticks:
        if process.returncode is not None:
            raise RuntimeError(f"the daemon ended with {process.returncode}")
        await asyncio.sleep(0.02 if ticks < WARM_UP else 1.0)


def _lines(journal: Path) -> int:
    try:
        return sum(chunk.count(b"\n") for file in files(journal) for chunk in [file.read_bytes()])
    except (JournalError, OSError):
        return 0
