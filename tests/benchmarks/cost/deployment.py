"""A Deployment over spot and on-demand nodes, as Karpenter keeps it: what rivals that know one size run on.

An autoscaler sets the Deployment's size. Pods get spot nodes first, on-demand nodes while no zone has spot, and move
back when it comes: Karpenter's fallback and its consolidation. A zone that refused a node, or announced that it takes
some, is left alone for 3 minutes, and what is taken is made up for elsewhere. Kinder than the real one: a move costs no
gap, on-demand nodes are the first to go, and every pod's node is looked for within a turn.
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
SHUT_S: Final = 180.0
"""How long Karpenter takes an offering for unavailable, after a refusal as after an interruption's notice."""


class Deployment:
    """The Deployment as a pool of the controller: one size over all pools of a world, those of spot one a zone."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._zones = [name for name in world.pools if name != ON_DEMAND_POOL]
        self._size = sum(world.status(pool).desired for pool in world.pools)
        self._shut_until = dict.fromkeys(self._zones, 0.0)
        self._taken = dict.fromkeys(self._zones, 0)

    async def status(self) -> Fresh[PoolStatus]:
        self._settle()
        ready = sum(self._world.status(pool).ready for pool in self._world.pools)
        return Fresh(PoolStatus(self._size, min(self._size, ready)), self._world.now)  # both ends of a move are one pod

    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        self._size = replicas
        self._settle()

    def _settle(self) -> None:
        """Spot for every pod; on demand for those that have no spot node, until theirs serves."""
        self._heed()
        self._fill()
        while (spare := sum(self._held(zone) for zone in self._zones) - self._size) > 0:
            fullest = max(self._zones, key=self._held)
            less = max(1, spare // len(self._zones))
            self._world.resize(fullest, max(0, self._world.status(fullest).desired - less))
        spot, on_demand = [self._world.status(zone) for zone in self._zones], self._world.status(ON_DEMAND_POOL)
        least = max(0, self._size - sum(status.desired - status.interruption_pending for status in spot))
        most = max(0, self._size - sum(status.ready - status.interruption_pending for status in spot))
        wanted = min(max(on_demand.desired, least), most)
        if wanted != on_demand.desired:
            self._world.resize(ON_DEMAND_POOL, wanted)

    def _heed(self) -> None:
        """Leave alone the zones that take nodes, or said that they will."""
        for zone in self._zones:
            status = self._world.status(zone)
            if status.interrupted > self._taken[zone] or status.interruption_pending:
                self._shut_until[zone] = self._world.now + SHUT_S
            self._taken[zone] = status.interrupted

    def _fill(self) -> None:
        """A spot node for every pod that has none, in the zone with the fewest of those that are not shut."""
        missing = self._size - sum(self._held(zone) for zone in self._zones)
        while missing > 0 and (open_ := [z for z in self._zones if self._shut_until[z] <= self._world.now]):
            zone = min(open_, key=self._held)
            try:
                self._world.resize(zone, self._world.status(zone).desired + 1)
                missing -= 1
            except OutOfCapacity:
                self._shut_until[zone] = self._world.now + SHUT_S

    def _held(self, zone: PoolName) -> int:
        """A zone's nodes without those that are about to be taken."""
        status = self._world.status(zone)
        return status.desired - status.interruption_pending


def simulate(case: Case, workload: Workload, seed: int, trace: RequestTrace) -> SimulationRun:
    """A workload of one pool, run over a case's spot and on-demand pools by way of a Deployment."""
    world, epoch_s = build_world(case, seed, trace), case.scenario.epoch_s
    run = SimulationRun(case, seed, trace, world, Timeline(epoch_s))
    clock = ports.SimulatedClock(world)
    (pool,) = workload.spec.pools
    setup = ports.setup(world, workload, {pool: ON_DEMAND_POOL}, {})
    setup = dataclasses.replace(setup, actuators={pool: Deployment(world)})
    history = History(max(HISTORY_S, workload.spec.lookback_s), step_s=workload.spec.interval_s)
    controller = Controller(setup, clock, history, run.timeline.record_tick)
    lane = concurrent_runs.ScheduledRun(controller, clock, epoch_s, run_end_s(case, trace))
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(concurrent_runs.drive([lane], lambda: None, lambda _: None))
    world.run_until(round(lane.end_s * PS_PER_S))
    check(world)
    return run
