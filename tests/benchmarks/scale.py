"""Scale of one process on one core: 2,000 workloads on SQS, Prometheus and Kubernetes, with a tick each in 15 s."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
from asyncio.subprocess import DEVNULL
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from policies.model import Result
from scaler.clock import SystemClock, stopwatch_s
from scaler.journal.reader import Journal
from tests.benchmarks.cloud import Cloud, cloud, cpu_s, resident_mb
from tests.benchmarks.figure import Figure, quantile

WORKLOADS: Final = 2000
INTERVAL_S: Final = 15.0
RUN_S: Final = 90.0
ONE_S: Final = 20.0
"""Time of a daemon with one workload, whose memory is that of no workload. Seconds."""
KEDA: Final = "KEDA: client throttling reported from 1,088 objects on (kedacore/keda#3810)"


def run(_data: Path) -> Iterator[Figure]:
    yield from asyncio.run(measure())


async def measure() -> list[Figure]:
    with tempfile.TemporaryDirectory() as name:
        async with cloud(WORKLOADS) as cloud_:
            idle_mb = await memory_of_one(cloud_)
            folder = Path(name)
            config = cloud_.write(folder, WORKLOADS, INTERVAL_S)
            core = str(max(os.sched_getaffinity(0)))
            process = await asyncio.create_subprocess_exec(
                *("taskset", "-c", core, sys.executable, "-m", "scaler.cli", "run", "--json", "--for", str(RUN_S)),
                str(config),
                env=cloud_.environment(),
                stdout=DEVNULL,
                stderr=DEVNULL,
            )
            await asyncio.sleep(RUN_S * 0.5)
            start_s, cpu_start_s, since = stopwatch_s(), cpu_s(process.pid), SystemClock().now()
            await asyncio.sleep(RUN_S * 0.3)
            used_s, until = cpu_s(process.pid) - cpu_start_s, SystemClock().now()
            core_share = used_s / (stopwatch_s() - start_s)
            memory = resident_mb(process.pid)
            await process.wait()
        ticks = list(Journal(folder / "journal"))
    lateness = sorted(t.lateness_s for t in ticks)
    measured = sum(since <= t.at + t.took_s < until for t in ticks)
    blind = sum(not t.decision.may_scale_in for t in ticks)
    resized = sum(o.result is Result.ACCEPTED for t in ticks for o in t.outcomes)
    note = f"{len(ticks)} ticks, {resized} resized, {blind} without full evidence"
    return [
        Figure(
            "scale", f"p99 lateness of {WORKLOADS} workloads at 15 s", quantile(lateness, 0.99), "s", 1.0, note=note
        ),
        Figure("scale", "largest lateness", lateness[-1], "s"),
        Figure("scale", "workloads of one process", len({t.workload for t in ticks}), "", WORKLOADS, ">=", KEDA, 1088),
        Figure("scale", "share of one core used", core_share, ""),
        Figure("scale", "processor time of a tick with all I/O", 1e3 * used_s / max(1, measured), "ms", 1.0),
        Figure("scale", "resident memory", memory, "MB"),
        Figure("scale", "resident memory of a workload", 1e3 * (memory - idle_mb) / WORKLOADS, "KB", 60.0),
        Figure("scale", "ticks without full evidence", blind, "", 0),
    ]


async def memory_of_one(cloud_: Cloud) -> float:
    """Return the resident memory of a daemon with one workload. Megabytes."""
    with tempfile.TemporaryDirectory() as name:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "scaler.cli", "run", "--json"),
            str(cloud_.write(Path(name), 1, INTERVAL_S)),
            env=cloud_.environment(),
            stdout=DEVNULL,
            stderr=DEVNULL,
        )
        await asyncio.sleep(ONE_S)
        memory = resident_mb(process.pid)
        process.kill()
        await process.wait()
    return memory
