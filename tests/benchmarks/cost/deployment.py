"""A Deployment over spot and on-demand nodes, managed as by Karpenter: the pool of rivals that set one size.

An autoscaler sets the Deployment's size. Pods get spot nodes first, on-demand nodes while no zone has spot, and move
back when spot returns: Karpenter's fallback and consolidation. A zone that refuses a node or announces an interruption
is avoided for 3 minutes, and its nodes are replaced elsewhere. This is kinder than Karpenter: a move has no gap,
on-demand nodes are removed first, and each pod's node is requested within a tick.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import Final

from policies.history.ticks import History
from policies.model import Fresh, PoolName, PoolStatus
from scaler.config.load import Workload
from scaler.controller import Controller
from scaler.ports import OutOfCapacity
from simulators.engine.models.service import PS_PER_S
from simulators.experiments import concurrent_runs
from simulators.experiments.invariants import check
from simulators.experiments.run import HISTORY_S, SimulationRun, Timeline, build_world, run_end_s
from simulators.experiments.scenario import Case
from simulators.world import ports
from simulators.world.traffic.trace import RequestTrace
from simulators.world.world import World
from tests.benchmarks.cost.market import ON_DEMAND

ON_DEMAND_POOL: Final = PoolName(ON_DEMAND)
CLOSED_S: Final = 180.0
"""The time that Karpenter avoids an offering after a capacity error or an interruption notice. Seconds."""


class Deployment:
    """The Deployment as a pool of the controller: one size over on-demand and one spot pool for each zone."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._zones = [name for name in world.pools if name != ON_DEMAND_POOL]
        self._size = sum(world.status(pool).desired for pool in world.pools)
        self._closed_until = dict.fromkeys(self._zones, 0.0)
        self._interrupted = dict.fromkeys(self._zones, 0)

    async def status(self) -> Fresh[PoolStatus]:
        self._rebalance()
        ready = sum(self._world.status(pool).ready for pool in self._world.pools)
        return Fresh(PoolStatus(self._size, min(self._size, ready)), self._world.now)  # both ends of a move are one pod

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        self._size = replicas
        self._rebalance()

    def _rebalance(self) -> None:
        """Give each pod a spot node, or an on-demand node until its spot node serves."""
        self._close_interrupted_zones()
        self._fill()
        while (surplus := sum(self._usable(zone) for zone in self._zones) - self._size) > 0:
            fullest = max(self._zones, key=self._usable)
            removed = max(1, surplus // len(self._zones))
            self._world.resize(fullest, max(0, self._world.status(fullest).desired - removed))
        spot, on_demand = [self._world.status(zone) for zone in self._zones], self._world.status(ON_DEMAND_POOL)
        minimum = max(0, self._size - sum(status.desired - status.interruption_pending for status in spot))
        maximum = max(0, self._size - sum(status.ready - status.interruption_pending for status in spot))
        target = min(max(on_demand.desired, minimum), maximum)
        if target != on_demand.desired:
            self._world.resize(ON_DEMAND_POOL, target)

    def _close_interrupted_zones(self) -> None:
        """Avoid the zones that interrupt nodes or announce interruptions."""
        for zone in self._zones:
            status = self._world.status(zone)
            if status.interrupted > self._interrupted[zone] or status.interruption_pending:
                self._closed_until[zone] = self._world.now + CLOSED_S
            self._interrupted[zone] = status.interrupted

    def _fill(self) -> None:
        """Request a spot node for each pod without one, in the open zone with the fewest nodes."""
        missing = self._size - sum(self._usable(zone) for zone in self._zones)
        while missing > 0 and (open_zones := [z for z in self._zones if self._closed_until[z] <= self._world.now]):
            zone = min(open_zones, key=self._usable)
            try:
                self._world.resize(zone, self._world.status(zone).desired + 1)
                missing -= 1
            except OutOfCapacity:
                self._closed_until[zone] = self._world.now + CLOSED_S

    def _usable(self, zone: PoolName) -> int:
        """Return a zone's nodes without those with a pending interruption."""
        status = self._world.status(zone)
        return status.desired - status.interruption_pending


def simulate(case: Case, workload: Workload, seed: int, trace: RequestTrace) -> SimulationRun:
    """Simulate a workload of one pool as a Deployment over a case's spot and on-demand pools."""
    world, epoch_s = build_world(case, seed, trace), case.scenario.epoch_s
    run = SimulationRun(case, seed, trace, world, Timeline(epoch_s))
    clock = ports.SimulatedClock(world)
    (pool,) = workload.spec.pools
    setup = ports.setup(world, workload, {pool: ON_DEMAND_POOL}, {})
    setup = dataclasses.replace(setup, actuators={pool: Deployment(world)})
    history = History(max(HISTORY_S, workload.spec.lookback_s), step_s=workload.spec.interval_s)
    controller = Controller(setup, clock, history, run.timeline.record_tick)
    scheduled = concurrent_runs.ScheduledRun(controller, clock, epoch_s, run_end_s(case, trace))
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(concurrent_runs.drive([scheduled], lambda: None, lambda _: None))
    world.run_until(round(scheduled.end_s * PS_PER_S))
    check(world)
    return run
