"""Scale of four daemons that share 10,000 workloads by leases, a tick each in 15 s, next to their servers.

The leases are in a real PostgreSQL. Daemons and servers share this machine's processor, and the servers' part is
counted apart. Servers have the higher priority, so that they respond in time, as on machines of their own.

Where the machine cannot carry all workloads, the benchmark also measures the number that it can carry by the processor
time of the first run. Example: 2 cores, and 4 ms of daemons and servers for each tick: 0.8 x 2 x 15 s / 4 ms = 6,000.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import tempfile
from asyncio.subprocess import DEVNULL, Process
from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
from yarl import URL

from policies.model import Tick
from scaler.clock import SystemClock, stopwatch_s
from scaler.journal.reader import Journal
from tests.benchmarks.cloud import Cloud, cloud, cpu_s, resident_mb, write_daemon
from tests.benchmarks.figure import Figure, quantile
from tests.benchmarks.scale import memory_of_one
from tests.servers.postgresql import USER, postgres
from tests.servers.tcp_fault import free_port

DAEMONS: Final = 4
SHARDS: Final = 16
WORKLOADS: Final = 10_000
NICE: Final = 10
"""Niceness of the daemons. With 0, servers and daemons get equal parts of a busy processor, and reads time out."""
VARIABLE: Final = "SCALE_WORKLOADS"
"""Environment variable with another number of workloads."""
INTERVAL_S: Final = 15.0
START_S: Final = 270.0
"""Time limit of the start. After it the benchmark measures, whichever workloads tick. Seconds."""
SETTLE_S: Final = 30.0
"""Time between the first ticks of all workloads and the measurement. Seconds."""
WINDOW_S: Final = 90.0
"""Length of the measurement. Seconds."""
GOAL_S: Final = 1.0
"""Goal of the lateness. Seconds."""
RUNS: Final = 2
BUSY_SHARE: Final = 0.8
"""Share of the processor up to which ticks are on time."""
STEP: Final = 250
"""Numbers of workloads are multiples of this one."""


@dataclass(frozen=True, slots=True)
class Processes:
    """Processor time and memory of the daemons, and the processor time of their servers and of the machine."""

    at: float
    daemons_s: float
    servers_s: float
    machine_s: float
    memory_mb: float


@dataclass(frozen=True, slots=True)
class Run:
    """One measurement: the ticks between two states of the processes."""

    workloads: int
    ticks: Sequence[Tick]
    before: Processes
    after: Processes
    idle_mb: float

    @property
    def window_s(self) -> float:
        return self.after.at - self.before.at

    @property
    def daemons_s(self) -> float:
        return self.after.daemons_s - self.before.daemons_s

    @property
    def servers_s(self) -> float:
        return self.after.servers_s - self.before.servers_s

    @property
    def lateness_s(self) -> list[float]:
        return sorted(tick.lateness_s for tick in self.ticks) or [float("inf")]

    @property
    def blind(self) -> int:
        return sum(not tick.decision.may_scale_in for tick in self.ticks)

    @property
    def is_carried(self) -> bool:
        """Return whether all workloads tick, on time and with full evidence."""
        ticked = len({tick.workload for tick in self.ticks})
        return ticked == self.workloads and not self.blind and quantile(self.lateness_s, 0.99) <= GOAL_S

    def carried_workloads(self) -> int:
        """Return the number of workloads that this machine can carry, by the processor time of a tick."""
        per_tick_s = (self.daemons_s + self.servers_s) / max(1, len(self.ticks))
        carried = BUSY_SHARE * _cores() * INTERVAL_S / per_tick_s
        return max(STEP, int(min(carried, self.workloads - STEP)) // STEP * STEP)

    def figures(self) -> Iterator[Figure]:
        cores, window_s, lateness_s = _cores(), self.window_s, self.lateness_s
        others_s = self.after.machine_s - self.before.machine_s - self.daemons_s - self.servers_s
        about = f"{self.workloads:,} workloads at 15 s"
        memory_kb = 1e3 * (self.after.memory_mb - DAEMONS * self.idle_mb) / self.workloads
        growth_kb = 1e3 * (self.after.memory_mb - self.before.memory_mb) / self.workloads
        values: list[tuple[str, float, str, float | None]] = [
            ("p99 lateness", quantile(lateness_s, 0.99), "s", GOAL_S),
            ("largest lateness", lateness_s[-1], "s", None),
            ("share of due ticks", len(self.ticks) * INTERVAL_S / window_s / self.workloads, "", None),
            ("ticks without full evidence", self.blind, "", 0),
            ("processor time of a tick, daemons", 1e3 * self.daemons_s / max(1, len(self.ticks)), "ms", 1.0),
            ("processor time of a tick, servers", 1e3 * self.servers_s / max(1, len(self.ticks)), "ms", None),
            (f"cores used by the daemons, of {cores}", self.daemons_s / window_s, "", None),
            (f"cores used by the servers, of {cores}", self.servers_s / window_s, "", None),
            (f"cores used by other processes, of {cores}", others_s / window_s, "", None),
            ("resident memory of a workload", memory_kb, "KB", 60.0),
            (f"growth of a workload's memory in {window_s:.0f} s", growth_kb, "KB", None),
        ]
        for name, value, unit, goal in values:
            yield Figure("scale_daemons", f"{about}: {name}", value, unit, goal)


def run(_data: Path) -> Iterator[Figure]:
    workloads = int(os.environ.get(VARIABLE, WORKLOADS))
    for _ in range(RUNS):
        measured = asyncio.run(measure(workloads))
        yield from measured.figures()
        if measured.is_carried or workloads <= STEP:
            break
        workloads = measured.carried_workloads()


async def measure(workloads: int) -> Run:
    """Start the servers and the daemons, and measure them for a while."""
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        database = stack.enter_context(postgres())
        cloud_ = await stack.enter_async_context(cloud(workloads))
        idle_mb = await memory_of_one(cloud_)
        document = cloud_.write_workloads(folder, workloads, INTERVAL_S)
        http = await stack.enter_async_context(aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5.0)))
        daemons = [
            await stack.enter_async_context(_daemon(folder / str(n), document, cloud_, database))
            for n in range(DAEMONS)
        ]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(START_S):
                for _ in range(round(START_S)):
                    if all([await _ticks(http, port) for _, port in daemons]):
                        break
                    await asyncio.sleep(1.0)
        await asyncio.sleep(SETTLE_S)
        pids = [process.pid for process, _ in daemons]
        before, since = _processes(pids), SystemClock().now()
        await asyncio.sleep(WINDOW_S)
        after, until = _processes(pids), SystemClock().now()
        for n, (process, _) in enumerate(daemons):
            if process.returncode is not None or not (folder / str(n) / "journal").is_dir():
                raise RuntimeError(f"a daemon does not run: {(folder / str(n) / 'log').read_text()[-2000:]}")
            process.kill()
            await process.wait()
        journals = [Journal(folder / str(n) / "journal") for n in range(DAEMONS)]
        ticks = [tick for journal in journals for tick in journal if since <= tick.at + tick.took_s < until]
    return Run(workloads, ticks, before, after, idle_mb)


@asynccontextmanager
async def _daemon(folder: Path, document: Path, cloud_: Cloud, database: str) -> AsyncIterator[tuple[Process, int]]:
    """Run a daemon that shares the workloads of a document, and yield its process and port."""
    folder.mkdir()
    port, server = free_port(), {"host": "127.0.0.1", "port": URL(database).port, "database": "postgres"}
    lease: dict[str, Any] = {"kind": "postgresql", "server": server | {"username": USER}}
    listen, ha = f"127.0.0.1:{port}", {"shards": SHARDS, "lease": lease}
    settings = write_daemon(folder, folder / "journal", listen=listen, ha=ha)
    command = [sys.executable, "-m", "scaler.cli", "run", "--json", str(settings), str(document)]
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *("nice", "-n", str(NICE), *command),
            env=cloud_.environment(),
            stdout=DEVNULL,
            stderr=log,
        )
    try:
        yield process, port
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def _ticks(http: aiohttp.ClientSession, port: int) -> bool:
    """Return whether a daemon holds its share of the shards, and all their workloads have ticked."""
    try:
        async with http.get(f"http://127.0.0.1:{port}/healthz") as response:
            health = await response.json()
        async with http.get(f"http://127.0.0.1:{port}/readyz") as response:
            return len(health["shards"]) == SHARDS // DAEMONS and response.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


def _processes(daemons: Sequence[int]) -> Processes:
    """Return the state of the daemons and of all other processes that this one started, and theirs."""
    servers = set(_descendants(os.getpid())) - set(daemons)
    memory_mb = sum(map(resident_mb, daemons))
    used = [sum(_cpu_of_running_s(pid) for pid in pids) for pids in (daemons, sorted(servers))]
    return Processes(stopwatch_s(), used[0], used[1], _machine_s(), memory_mb)


def _cpu_of_running_s(pid: int) -> float:
    """Return the processor time of a process; 0 if it has ended."""
    try:
        return cpu_s(pid)
    except FileNotFoundError:
        return 0.0


def _descendants(pid: int) -> Iterator[int]:
    children = _children()
    waiting = [pid]
    while waiting:
        found = children.get(waiting.pop(), ())
        waiting += found
        yield from found


def _children() -> Mapping[int, Sequence[int]]:
    """Return the children of each process of this machine."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended
            children[int(stat.read_text().rpartition(")")[2].split()[1])].append(int(stat.parent.name))
    return children


def _machine_s() -> float:
    """Return the processor time that all processes of this machine have used. Seconds."""
    user, nice, system, _idle, _wait, irq, soft, *_ = map(
        int, Path("/proc/stat").read_text().split("\n")[0].split()[1:]
    )
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def _cores() -> int:
    return len(os.sched_getaffinity(0))
