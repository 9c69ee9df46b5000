"""A simulated day of a daemon, and the memory that it holds for each workload.

10,000 workloads have 57.6 million ticks a day, which take 16 hours at 1 ms. But the memory of a workload depends on the
others only in the dashboard, which stores fewer ticks of each the more there are. So a few workloads run for a day,
tick after tick on a clock that the run advances, with their journal, log, metrics and dashboard. The dashboard stores
no more ticks than with 10,000, so the growth of a workload is that among 10,000. Example: 0.5 KB are 5 MB of 10,000.
"""

from __future__ import annotations

import gc
import math
import tracemalloc
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from policies.model import WorkloadName
from scaler.config.daemon import DaemonSpec, JournalSpec
from scaler.config.load import Config, Workload
from scaler.setup import Setup
from scaler.shared_resources import Resources
from scaler.telemetry import dashboard
from tests.fakes import FakeActuator, FakeSource, ManualClock
from tests.policies.recommend.engines import Engines
from tests.scaler.scripted_daemon import Scripted, workload
from tests.scaler.test_controller import MAIN
from tests.soak.samples import WARM_UP, growth

INTERVAL_S: Final = 15.0
HOUR_S: Final = 3600.0
HOURS: Final = 24
WORKLOADS: Final = 4
REPLICAS: Final = 12
MAX_GROWTH_KB: Final = 8.0
"""Maximum growth of a workload's memory after the first third of the day. KB.

Arrays have their full size from the start, and histories are full after 8 hours. After that, the memory of one workload
varied between 1,544 and 1,552 KB with the numbers and texts stored last. The smallest leak in each tick, a reference,
adds 3,840 ticks * 8 bytes = 31 KB in 16 hours.
"""
OUTSIDE: Final = (tracemalloc.Filter(False, "*/tests/*"), tracemalloc.Filter(False, tracemalloc.__file__))
"""Filters that leave out the scripted engines and pools, which record their calls."""
TOP: Final = 3
"""Number of lines of code in the report whose memory grows most."""


class ScriptedFleet(Scripted):
    """A daemon of several workloads, each with a pool of its own."""

    def __init__(self, config: Config, resources: Resources, clock: ManualClock, source: FakeSource) -> None:
        super().__init__(config, resources, clock, source)
        self._manual_clock = clock

    async def open(self, workload: Workload) -> Setup:
        return Setup(
            workload, {"engines": self._source}, {MAIN: FakeActuator(self._manual_clock, REPLICAS)}, ledger=self.ledger
        )


@dataclass
class DayReport:
    """Memory of a workload at each hour, and the lines of code whose memory grows most."""

    workloads: int
    hours: int
    ticks: int = 0
    memory_kb: list[float] = field(default_factory=list)
    lines: list[str] = field(default_factory=list)

    @property
    def growth_kb(self) -> float:
        """Growth of a workload's memory after the warm-up."""
        retained = self.memory_kb[int(len(self.memory_kb) * WARM_UP) :]
        return growth(range(len(retained)), retained)

    @property
    def problems(self) -> list[str]:
        grown_kb = self.growth_kb
        text = f"the memory of a workload grows by {grown_kb:.2f} KB after the first third; {MAX_GROWTH_KB:g} KB may be"
        return [text, *self.lines] if grown_kb > MAX_GROWTH_KB else []

    def __str__(self) -> str:
        text = (
            f"day: {self.workloads} workloads, {self.ticks:,} ticks in {self.hours} h; {self.memory_kb[-1]:.1f} KB of a"
            f" workload at the end, {self.growth_kb:+.2f} KB after the first third"
        )
        return "\n  ".join([text, *self.problems])


async def soak_day(folder: Path, workloads: int = WORKLOADS, hours: int = HOURS) -> DayReport:
    """Run all ticks of these hours, and measure the memory of Python's allocations at the end of each hour."""
    report, clock, engines = DayReport(workloads, hours), ManualClock(), Engines()
    source = FakeSource(clock)
    journal = JournalSpec(directory=str(folder), max_bytes=2**20, keep_files=1)
    names = [WorkloadName(f"llm-{n}") for n in range(workloads)]
    configured = {name: workload(workload=name, interval_s=INTERVAL_S) for name in names}
    tracemalloc.start()
    try:
        with patch.multiple(dashboard, MAX_TOTAL_ROWS=0, MAX_TOTAL_RUNS=0):  # each workload has its minimum
            async with Resources() as resources:
                app = ScriptedFleet(Config(DaemonSpec(journal=journal), configured), resources, clock, source)
                await app.prepare()
                first = snapshot = _snapshot()
                for hour in range(hours):
                    report.ticks += await _run_hour(app, clock, source, engines)
                    snapshot = _snapshot()
                    report.memory_kb.append(sum(trace.size for trace in snapshot.traces) / 1e3 / workloads)
                    if hour < hours * WARM_UP:
                        first = snapshot
                await app.close()
    finally:
        tracemalloc.stop()
    report.lines = [str(statistic) for statistic in snapshot.compare_to(first, "lineno")[:TOP]]
    return report


async def _run_hour(app: ScriptedFleet, clock: ManualClock, source: FakeSource, engines: Engines) -> int:
    """Run an hour's ticks of all workloads, and return their number."""
    due = round(HOUR_S / INTERVAL_S)
    for _ in range(due):
        clock.advance(INTERVAL_S)
        source.values = _values(engines, clock.now())
        for controller in app.controllers.values():
            await controller.tick(clock.now())
    return due * len(app.controllers)


def _values(engines: Engines, now: float) -> dict[str, Any]:
    """Return the readings of a day's wave with shorter ones."""
    day, minutes = (math.sin(2 * math.pi * now / period_s) for period_s in (24 * HOUR_S, 420.0))
    return dict(engines.readings(60.0 + 40.0 * day + 7.0 * minutes, REPLICAS))


def _snapshot() -> tracemalloc.Snapshot:
    gc.collect()
    return tracemalloc.take_snapshot().filter_traces(OUTSIDE)
