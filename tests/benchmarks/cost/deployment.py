"""A Deployment over spot and on-demand nodes, as Karpenter keeps it: what rivals that know one size run on.

An autoscaler sets the Deployment's size. Pods get spot nodes first, on-demand nodes while no zone has spot, and move
back when it comes: Karpenter's fallback and its consolidation. Kinder than the real one: a move costs no gap, on-demand
nodes are the first to go, zones that have room are known without a try, and one that had none is asked again in 60 s.
Where nodes serve on after a notice, those to be taken are made up for on demand at once: more than anybody does for it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
from typing import Final

from policies.history import History
from policies.model import Fresh, PoolName, PoolStatus
from scaler.config.load import Workload
from scaler.controller import Controller
from simulators import lanes
from simulators.invariants import check
from simulators.models.service import PS_PER_S
from simulators.run import HISTORY_S, Run, Timeline, begin, ends_s
from simulators.scenario import Case
from simulators.traffic.trace import Trace
from simulators.world import ports
from simulators.world.world import World
from tests.benchmarks.cost.market import ON_DEMAND, SPOT

SPOT_POOL: Final = PoolName(SPOT)
ON_DEMAND_POOL: Final = PoolName(ON_DEMAND)


class Deployment:
    """The Deployment as a pool of the controller: one size over both pools of a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._size = sum(world.status(pool).desired for pool in (SPOT_POOL, ON_DEMAND_POOL))

    async def status(self) -> Fresh[PoolStatus]:
        self._settle()
        spot, on_demand = self._world.status(SPOT_POOL), self._world.status(ON_DEMAND_POOL)
        ready = min(self._size, spot.ready + on_demand.ready)  # both ends of a move are one pod
        return Fresh(PoolStatus(self._size, ready), self._world.now)

    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        self._size = replicas
        self._settle()

    def _settle(self) -> None:
        """Spot for every pod; on demand for those that have no spot node, until theirs serves."""
        if self._world.status(SPOT_POOL).desired != self._size:
            self._world.resize(SPOT_POOL, self._size)
        spot, on_demand = self._world.status(SPOT_POOL), self._world.status(ON_DEMAND_POOL)
        there = sum(part.ready + part.pending - part.doomed for part in spot.parts)
        least, most = max(0, self._size - there), max(0, self._size - spot.ready + spot.doomed)
        wanted = min(max(on_demand.desired, least), most)
        if wanted != on_demand.desired:
            self._world.resize(ON_DEMAND_POOL, wanted)


def simulate(case: Case, workload: Workload, seed: int, trace: Trace) -> Run:
    """A workload of one pool, run over a case's spot and on-demand pools by way of a Deployment."""
    world, epoch_s = begin(case, seed, trace), case.scenario.epoch_s
    run = Run(case, seed, trace, world, Timeline(epoch_s))
    clock = ports.SimulatedClock(world)
    (pool,) = workload.spec.pools
    setup = ports.setup(world, workload, {pool: SPOT_POOL}, {})
    setup = dataclasses.replace(setup, actuators={pool: Deployment(world)})
    history = History(max(HISTORY_S, workload.spec.lookback_s), step_s=workload.spec.interval_s)
    controller = Controller(setup, clock, history, run.timeline.note)
    lane = lanes.Lane(controller, clock, epoch_s, ends_s(case, trace))
    with contextlib.closing(asyncio.new_event_loop()) as loop:
        loop.run_until_complete(lanes.drive([lane], lambda: None, lambda _: None))
    world.run_until(round(lane.end_s * PS_PER_S))
    check(world)
    return run
