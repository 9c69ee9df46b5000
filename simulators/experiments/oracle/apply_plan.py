"""Execution of a plan: a run in the policies' world with planned pool sizes.

The pool sizes follow the plan over time.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Final

import numpy as np

from policies.model import PoolName
from scaler.ports import Misconfigured, OutOfCapacity
from simulators.engine.models.service import PS_PER_S
from simulators.experiments.invariants import check
from simulators.experiments.oracle.sizes import BUCKET_S, Ints, Sizes
from simulators.experiments.run import Progress, SimulationRun, Timeline, build_world, run_end_s
from simulators.experiments.scenario import Case
from simulators.world.infrastructure.pool import FleetPool
from simulators.world.traffic.trace import RequestTrace
from simulators.world.world import World

LOOKAHEAD: Final = 256
"""The number of future starts to look at: one with a longer start-up is requested before an earlier one."""
BUCKET_PS: Final = round(BUCKET_S * PS_PER_S)
NEVER: Final = 2**62


class _PlannedPool:
    """One pool of a plan. It requests each start ahead of time by that node's own start-up time.

    A replica needed at 600 s whose node starts up in 120 s is requested at 480 s.
    """

    def __init__(self, pool: FleetPool, size: Ints) -> None:
        self._pool = pool
        self._size = size
        self._changes = (np.flatnonzero(np.diff(size)) + 1).tolist()
        growth = np.maximum(np.diff(size, prepend=0), 0)
        self._needed_ps: list[int] = (np.repeat(np.arange(len(size)), growth) * BUCKET_PS).tolist()
        self._requested = 0
        self._due = 0
        self._start_ups_ps: list[int] = []
        self._max_start_up_ps = 0

    def act(self, now_ps: int) -> int:
        """Resize the pool to its size now and the starts requested ahead.

        Return the time of the next action. ps.
        """
        while self._due < len(self._needed_ps) and self._needed_ps[self._due] <= now_ps:
            self._due += 1
        self._requested = max(self._requested, self._due)
        next_ps = self._request_ahead(now_ps)
        bucket = now_ps // BUCKET_PS
        target = int(self._size[min(bucket, len(self._size) - 1)]) + self._requested - self._due
        if target != self._pool.status(now_ps).desired:
            self._resize(target, now_ps)
        while self._changes and self._changes[0] <= bucket:
            self._changes.pop(0)
        return min(next_ps, self._changes[0] * BUCKET_PS if self._changes else NEVER)

    def _request_ahead(self, now_ps: int) -> int:
        """Count the starts whose request is due. Return the time of the next request. Picoseconds."""
        first, number, next_ps = self._requested, len(self._pool.ledger.nodes), NEVER
        for k in range(min(LOOKAHEAD, len(self._needed_ps) - first)):
            needed_ps = self._needed_ps[first + k]
            request_ps = needed_ps - self._start_up_ps(number + k)
            if needed_ps - self._max_start_up_ps > next_ps:
                break
            if request_ps <= now_ps:
                self._requested = first + k + 1
                next_ps = NEVER
            else:
                next_ps = min(next_ps, request_ps)
        return next_ps

    def _start_up_ps(self, number: int) -> int:
        while number >= len(self._start_ups_ps):
            self._start_ups_ps.append(self._pool.start_up_ps(len(self._start_ups_ps)))
            self._max_start_up_ps = max(self._max_start_up_ps, self._start_ups_ps[-1])
        return self._start_ups_ps[number]

    def _resize(self, target: int, now_ps: int) -> None:
        try:
            self._pool.resize(target, now_ps)
        except (OutOfCapacity, Misconfigured):
            return  # draining nodes hold capacity for a while: the next action tries again


def apply_plan(
    case: Case, seed: int, trace: RequestTrace, sizes: Sizes, progress: Progress = lambda _: None
) -> SimulationRun:
    """Return the run under a plan.

    A plan has sizes and no splits: without a route, the least loaded replica of all pools gets a request. The same
    case, seed, trace and plan give the same run, byte for byte.
    """
    spec = dataclasses.replace(case.workload.spec, routes={})
    unrouted = dataclasses.replace(case, workload=dataclasses.replace(case.workload, spec=spec))
    world = build_world(unrouted, seed, trace)
    timeline = Timeline(case.scenario.epoch_s)
    planned = [_PlannedPool(world.pools[name], size) for name, size in sizes.items()]
    interval_ps = round(case.workload.spec.interval_s * PS_PER_S)
    end_ps = round(run_end_s(case, trace) * PS_PER_S)
    now_ps = record_ps = 0
    while now_ps < end_ps:
        world.run_until(now_ps)
        next_ps = min(pool.act(now_ps) for pool in planned)
        if now_ps >= record_ps:
            _record_sizes(timeline, world, case, sizes)
            progress(now_ps / end_ps)
            record_ps = (now_ps // interval_ps + 1) * interval_ps
        now_ps = min(next_ps, record_ps)
    world.run_until(end_ps)
    check(world)
    return SimulationRun(case, seed, trace, world, timeline)


def _record_sizes(timeline: Timeline, world: World, case: Case, sizes: Sizes) -> None:
    """Record the sizes at a tick, with the planned size as the demand."""
    now_s = world.now_ps / PS_PER_S
    statuses = {name: world.status(name) for name in sizes}
    workload_pools: dict[PoolName, PoolName] = {inner: outer for outer, inner in case.pools.items()}
    timeline.at_s.append(now_s)
    timeline.demand.append(float(sum(int(size[math.floor(now_s / BUCKET_S)]) for size in sizes.values())))
    timeline.desired.append(sum(s.desired for s in statuses.values()))
    timeline.ready.append(sum(s.ready for s in statuses.values()))
    for name, status in statuses.items():
        timeline.pools.setdefault(workload_pools[name], []).append(status.desired)
