"""A plan carried out in the world that policies meet: sizes over time are set on the pools, by nobody's decision."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from policies.model import PoolName
from scaler.ports import Misconfigured, OutOfCapacity
from simulators.engine.models.service import PS_PER_S
from simulators.experiments.invariants import check
from simulators.experiments.oracle.sizes import BUCKET_S, Ints, Sizes
from simulators.experiments.run import Progress, SimulationRun, Timeline, begin, ends_s
from simulators.experiments.scenario import Case
from simulators.world.infrastructure.pool import FleetPool
from simulators.world.traffic.trace import RequestTrace
from simulators.world.world import World

AHEAD: Final = 256
"""Starts to come among which one with a longer start-up may have to be asked for before its turn."""
BUCKET_PS: Final = round(BUCKET_S * PS_PER_S)
NEVER: Final = 2**62


class _Planned:
    """One pool of a plan. Starts are asked for as long ahead as the node that comes next will take."""

    def __init__(self, pool: FleetPool, size: Ints) -> None:
        self._pool = pool
        self._size = size
        self._changes = (np.flatnonzero(np.diff(size)) + 1).tolist()
        grown = np.maximum(np.diff(size, prepend=0), 0)
        self._needed_ps: list[int] = (np.repeat(np.arange(len(size)), grown) * BUCKET_PS).tolist()
        self._asked = 0
        self._passed = 0
        self._start_ups_ps: list[int] = []
        self._longest_ps = 0

    def act(self, now_ps: int) -> int:
        """Bring the pool to its size of now and what must be asked for by now. Gives when to act next."""
        while self._passed < len(self._needed_ps) and self._needed_ps[self._passed] <= now_ps:
            self._passed += 1
        self._asked = max(self._asked, self._passed)
        next_ps = self._ask_ahead(now_ps)
        bucket = now_ps // BUCKET_PS
        wanted = int(self._size[min(bucket, len(self._size) - 1)]) + self._asked - self._passed
        if wanted != self._pool.status(now_ps).desired:
            self._resize(wanted, now_ps)
        while self._changes and self._changes[0] <= bucket:
            self._changes.pop(0)
        return min(next_ps, self._changes[0] * BUCKET_PS if self._changes else NEVER)

    def _ask_ahead(self, now_ps: int) -> int:
        """Count as asked for what must be asked for by now; when the next start must be."""
        first, number, next_ps = self._asked, len(self._pool.ledger.nodes), NEVER
        for later in range(min(AHEAD, len(self._needed_ps) - first)):
            needed_ps = self._needed_ps[first + later]
            ask_ps = needed_ps - self._start_up_ps(number + later)
            if needed_ps - self._longest_ps > next_ps:
                break
            if ask_ps <= now_ps:
                self._asked = first + later + 1
                next_ps = NEVER
            else:
                next_ps = min(next_ps, ask_ps)
        return next_ps

    def _start_up_ps(self, number: int) -> int:
        while number >= len(self._start_ups_ps):
            self._start_ups_ps.append(self._pool.start_up_ps(len(self._start_ups_ps)))
            self._longest_ps = max(self._longest_ps, self._start_ups_ps[-1])
        return self._start_ups_ps[number]

    def _resize(self, wanted: int, now_ps: int) -> None:
        try:
            self._pool.resize(wanted, now_ps)
        except (OutOfCapacity, Misconfigured):
            return  # draining nodes hold capacity for a while: the next act asks again


def drive(
    case: Case, seed: int, trace: RequestTrace, sizes: Sizes, progress: Progress = lambda _: None
) -> SimulationRun:
    """Return the run that a plan gives. The same case, seed, trace and plan give the same run, byte for byte."""
    world = begin(case, seed, trace)
    timeline = Timeline(case.scenario.epoch_s)
    planned = [_Planned(world.pools[name], size) for name, size in sizes.items()]
    turn_ps = round(case.workload.spec.interval_s * PS_PER_S)
    end_ps = round(ends_s(case, trace) * PS_PER_S)
    now_ps = noted_ps = 0
    while now_ps < end_ps:
        world.run_until(now_ps)
        next_ps = min(pool.act(now_ps) for pool in planned)
        if now_ps >= noted_ps:
            _note(timeline, world, case, sizes)
            progress(now_ps / end_ps)
            noted_ps = (now_ps // turn_ps + 1) * turn_ps
        now_ps = min(next_ps, noted_ps)
    world.run_until(end_ps)
    check(world)
    return SimulationRun(case, seed, trace, world, timeline)


def _note(timeline: Timeline, world: World, case: Case, sizes: Sizes) -> None:
    """The sizes at a turn, as a controller's ticks would have told them; what was planned stands for the demand."""
    at_s = world.now_ps / PS_PER_S
    statuses = {name: world.status(name) for name in sizes}
    known: dict[PoolName, PoolName] = {inner: outer for outer, inner in case.pools.items()}
    timeline.at_s.append(at_s)
    timeline.demand.append(float(sum(int(size[math.floor(at_s / BUCKET_S)]) for size in sizes.values())))
    timeline.desired.append(sum(s.desired for s in statuses.values()))
    timeline.ready.append(sum(s.ready for s in statuses.values()))
    for name, status in statuses.items():
        timeline.pools.setdefault(known[name], []).append(status.desired)
