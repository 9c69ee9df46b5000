"""Several workloads at the same time: each in a world of its own, all of them under one fleet's limits."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from scaler.controller import Controller
from scaler.quota_ledger import QuotaLedger
from simulators.world.ports import SimulatedClock


@dataclass(frozen=True, slots=True)
class Lane:
    """One workload's controller and its world's clock, from the beginning (`epoch_s`) to the end after it."""

    controller: Controller
    clock: SimulatedClock
    epoch_s: float
    end_s: float

    @property
    def interval_s(self) -> float:
        return self.controller.workload.spec.interval_s

    @property
    def turns(self) -> int:
        return math.ceil(self.end_s / self.interval_s)

    def due(self, turn: int) -> float:
        return self.epoch_s + turn * self.interval_s


@dataclass(slots=True)
class PeakUsage:
    """The most GPUs and USD per hour that the fleet held at a time, as the ledger counts them after each turn."""

    ledger: QuotaLedger | None
    most: dict[str, float] = field(default_factory=dict)

    def note(self) -> None:
        if self.ledger is not None:
            for unit, held in self.ledger.held().items():
                self.most[unit] = max(held, self.most.get(unit, 0.0))


async def drive(lanes: Sequence[Lane], after: Callable[[], None], progress: Callable[[float], None]) -> None:
    """Run every lane's ticks at its own interval, in order of time; of those at one time the first lane's first.

    `after` is called after each turn.
    """
    due = [(lane.due(0), k, 0) for k, lane in enumerate(lanes) if lane.turns]
    turns, done = sum(lane.turns for lane in lanes), 0
    while due:
        at, k, turn = due[0]
        await lanes[k].clock.sleep_until(at)
        await lanes[k].controller.tick(at)
        after()
        if turn + 1 < lanes[k].turns:
            heapq.heapreplace(due, (lanes[k].due(turn + 1), k, turn + 1))
        else:
            heapq.heappop(due)
        if done % 64 == 0:
            progress(done / turns)
        done += 1
    progress(1.0)
