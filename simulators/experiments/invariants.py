"""What must hold in every run, asserted at its end: nothing is lost, created, or known before it happened.

After BLIS's list of invariants (inference-sim, INV-1 to 13): conservation of requests, tokens, cache and money,
causality, life cycle, work conservation. Signal freshness holds by construction: sources answer from scrapes.
"""

from __future__ import annotations

import itertools

import numpy as np

from simulators.engine.kernel import layout
from simulators.engine.kernel.layout import ADMIT, ARRIVAL, ENTER, FINISH, FIRST
from simulators.world.infrastructure import invariants as fleet
from simulators.world.world import World


class InvariantBroken(AssertionError):
    """A fault of the simulator's own: the run is not to be trusted."""


def check(world: World) -> None:
    """Raises `InvariantBroken` with the first rule that does not hold."""
    _requests(world)
    _tokens(world)
    _causality(world)
    _work(world)
    for pool in world.pools.values():
        found = fleet.problems(pool, pool.bill(world.now_ps, world.kernel.occupied_ps), world.now_ps)
        for said in found:
            _hold(rule=False, said=f"pool {pool.name}: {said}")


def _hold(rule: bool, said: str) -> None:
    if not rule:
        raise InvariantBroken(f"broken: {said}: please report this, with the scenario and the seed")


def _requests(world: World) -> None:
    kernel, w = world.kernel, world.kernel.world
    rows = kernel.read()
    arrived = int(w[layout.ARRIVED])
    fate = kernel.times[:arrived, FINISH]
    finished = int((fate >= 0).sum())
    inside = int(rows[:, layout.OUTSTANDING].sum()) + int(w[layout.QUEUED])
    again = int(w[layout.RETRIES] - w[layout.RETRIED])
    gone = [int((fate == f).sum()) for f in (layout.REJECTED, layout.TIMED_OUT, layout.LOST, layout.DEAD_LETTER)]
    total = finished + inside + again + sum(gone)
    _hold(arrived == total, f"requests are conserved: {arrived} arrived, {total} found")
    _hold(finished == int(rows[:, layout.FINISHED].sum()), "every finished request was finished by a replica")
    outstanding = rows[:, layout.WAITING] + rows[:, layout.RUNNING]
    _hold(bool((outstanding == rows[:, layout.OUTSTANDING]).all()), "outstanding requests wait or run")


def _tokens(world: World) -> None:
    kernel = world.kernel
    rows = kernel.read()
    done = kernel.times[: kernel.world[layout.ARRIVED], FINISH] >= 0
    asked = int(kernel.counts[: len(done), layout.OUTPUT].sum(dtype=np.int64, where=done))
    given = int(rows[:, layout.TOKENS_OUT].sum())
    running = int(rows[:, layout.OUTSTANDING].sum()) or world.cut
    _hold(given >= asked if running else given == asked, f"tokens are conserved: {asked} asked for, {given} given")
    capacity = kernel.models[rows[:, layout.MODEL], layout.KV_BLOCKS]
    used = rows[:, layout.USED]
    _hold(bool(((used >= 0) & (used <= capacity)).all()), "KV blocks in use are within the cache")
    idle = rows[:, layout.RUNNING] == 0
    _hold(bool((used[idle] == 0).all()), "an engine that runs nothing holds no KV blocks")


def _causality(world: World) -> None:
    times = world.kernel.times[: world.kernel.world[layout.ARRIVED]]
    open_ = times[:, FINISH] < 0  # columns are compared whole: a copy of the rows would double the memory
    order = (ARRIVAL, ENTER, ADMIT, FIRST, FINISH)
    for before, after in itertools.pairwise(order):
        _hold(
            bool((open_ | (times[:, before] <= times[:, after])).all()),
            "a request arrives, enters, is admitted, starts and ends",
        )
    _hold(bool((open_ | (times[:, ARRIVAL] <= world.now_ps)).all()), "no request is done before it arrived")


def _work(world: World) -> None:
    kernel = world.kernel
    rows, w = kernel.read(), kernel.world
    asleep = (rows[:, layout.OUTSTANDING] > 0) & (rows[:, layout.DUE] == layout.NEVER)
    _hold(not asleep.any(), "a replica with requests has something to do")
    room = (rows[:, layout.TAKES] > 0) & (rows[:, layout.OUTSTANDING] < w[layout.LIMIT])
    waiting = room & (rows[:, layout.DUE] > world.now_ps)
    _hold(not (w[layout.QUEUED] > 0 and waiting.any()), "no request waits centrally while a replica has room")
