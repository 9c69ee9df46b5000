"""Failover of two daemons on a real API server: from the end of one to the next ticks of its workloads."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.benchmarks.figure import Figure
from tests.servers.daemon import Daemon, until
from tests.servers.daemons import DURATION_S, SHARDS, holds, now_s, rig

CASES: Final = {"clean shutdown": (signal.SIGTERM, 1.0), "kill -9": (signal.SIGKILL, DURATION_S + 2.0)}
"""Signals, and the goals for the time until the last workload ticks. Seconds."""


def run(_data: Path) -> Iterator[Figure]:
    for case, (sent, goal_s) in CASES.items():
        with tempfile.TemporaryDirectory() as name:
            last_s = asyncio.run(_measure(Path(name), sent))
        note = f"{SHARDS} workloads, a tick each 2 s, leases of {DURATION_S:g} s"
        yield Figure("failover", f"{case}: until all workloads tick again", last_s, "s", goal_s, note=note)


async def _measure(folder: Path, sent: signal.Signals) -> float:
    async with rig(folder) as opened, opened.run("a") as a, opened.run("b") as b:
        await holds(a, SHARDS // 2)
        await holds(b, SHARDS // 2)
        await until(lambda: opened.written("a", 0.0) | opened.written("b", 0.0) == set(opened.names), b)
        moved = {t.workload for t in a.ticks()} - {t.workload for t in b.ticks()}
        a.process.send_signal(sent)
        ended = now_s()
        await until(lambda: moved <= _ticked(b, ended), b)
        return max(min(t.at for t in b.ticks() if t.workload == name and t.at > ended) for name in moved) - ended


def _ticked(d: Daemon, since: float) -> set[str]:
    return {t.workload for t in d.ticks() if t.at > since}
