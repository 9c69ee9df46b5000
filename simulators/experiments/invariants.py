"""What must hold in every run, asserted at its end: nothing is lost, created, or known before it happened.

After BLIS's list of invariants (inference-sim, INV-1 to 13): conservation of requests, tokens, cache and money,
causality, life cycle, work conservation. Signal freshness holds by construction: sources answer from scrapes.
"""

from __future__ import annotations

import itertools

import numpy as np

from simulators.engine.tables import RequestEnd, RequestMoment
from simulators.world.infrastructure import invariants as fleet
from simulators.world.world import World


class InvariantBroken(AssertionError):
    """A fault of the simulator's own: the run is not to be trusted."""


def check(world: World) -> None:
    """Raise `InvariantBroken` with the first rule that does not hold."""
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
    kernel, requests, replicas = world.kernel, world.kernel.arrived_requests, world.kernel.read()
    finished = int(requests.is_finished.sum())
    inside = int(replicas.outstanding.sum()) + kernel.queued
    failed = sum(int(requests.ended_as(end).sum()) for end in RequestEnd if end is not RequestEnd.OPEN)
    total = finished + inside + kernel.awaiting_redelivery + failed
    _hold(len(requests) == total, f"requests are conserved: {len(requests)} arrived, {total} found")
    _hold(finished == int(replicas.finished.sum()), "every finished request was finished by a replica")
    outstanding = replicas.waiting + replicas.running
    _hold(bool((outstanding == replicas.outstanding).all()), "outstanding requests wait or run")


def _tokens(world: World) -> None:
    requests, replicas = world.kernel.arrived_requests, world.kernel.read()
    asked = int(requests.output_tokens.sum(dtype=np.int64, where=requests.is_finished))
    given = int(replicas.output_tokens.sum())
    running = int(replicas.outstanding.sum()) or world.lost_requests
    _hold(given >= asked if running else given == asked, f"tokens are conserved: {asked} asked for, {given} given")
    used = replicas.kv_blocks_used
    _hold(bool(((used >= 0) & (used <= replicas.kv_blocks)).all()), "KV blocks in use are within the cache")
    _hold(bool((used[replicas.running == 0] == 0).all()), "an engine that runs nothing holds no KV blocks")


def _causality(world: World) -> None:
    requests = world.kernel.arrived_requests
    open_ = ~requests.is_finished  # columns are compared whole: a copy of the rows would double the memory
    for before, after in itertools.pairwise(RequestMoment):
        _hold(
            bool((open_ | (requests.at_ps(before) <= requests.at_ps(after))).all()),
            "a request arrives, enters, is admitted, starts and ends",
        )
    _hold(bool((open_ | (requests.arrived_ps <= world.now_ps)).all()), "no request is done before it arrived")


def _work(world: World) -> None:
    kernel, replicas = world.kernel, world.kernel.read()
    asleep = (replicas.outstanding > 0) & replicas.has_no_event
    _hold(not asleep.any(), "a replica with requests has something to do")
    room = replicas.takes_requests & (replicas.outstanding < kernel.outstanding_limit)
    waiting = room & (replicas.next_event_ps > world.now_ps)
    _hold(not (kernel.queued > 0 and waiting.any()), "no request waits centrally while a replica has room")
