"""Concurrent runs: several workloads, each in its own world, under the limits of one fleet."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from scaler.controller import Controller
from scaler.quota_ledger import QuotaLedger
from simulators.world.ports import SimulatedClock


@dataclass(frozen=True, slots=True)
class ScheduledRun:
    """One workload's controller and its world's clock.

    The run lasts `end_s` from `epoch_s` (Unix time). Seconds.
    """

    controller: Controller
    clock: SimulatedClock
    epoch_s: float
    end_s: float

    @property
    def interval_s(self) -> float:
        return self.controller.workload.spec.interval_s

    @property
    def ticks(self) -> int:
        return math.ceil(self.end_s / self.interval_s)

    def due_s(self, tick: int) -> float:
        return self.epoch_s + tick * self.interval_s


@dataclass(slots=True)
class PeakUsage:
    """The fleet's peak GPUs and peak USD per hour, read from the quota ledger after each tick."""

    ledger: QuotaLedger | None
    by_unit: dict[str, float] = field(default_factory=dict)

    def update(self) -> None:
        if self.ledger is not None:
            for unit, usage in self.ledger.held().items():
                self.by_unit[unit] = max(usage, self.by_unit.get(unit, 0.0))


async def drive(
    runs: Sequence[ScheduledRun], after_tick: Callable[[], None], progress: Callable[[float], None]
) -> None:
    """Run the ticks of all runs in order of time, each run at its own interval.

    Ticks due at the same time run in the order of `runs`. Intervals of 15 s and 20 s give the order
    0 (first), 0 (second), 15, 20, 30, 40, 45, 60 (first), 60 (second).
    """
    due = [(run.due_s(0), k, 0) for k, run in enumerate(runs) if run.ticks]
    total, done = sum(run.ticks for run in runs), 0
    while due:
        now_s, k, tick = due[0]
        await runs[k].clock.sleep_until(now_s)
        await runs[k].controller.tick(now_s)
        after_tick()
        if tick + 1 < runs[k].ticks:
            heapq.heapreplace(due, (runs[k].due_s(tick + 1), k, tick + 1))
        else:
            heapq.heappop(due)
        if done % 64 == 0:
            progress(done / total)
        done += 1
    progress(1.0)
