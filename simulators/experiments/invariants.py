"""Invariants of every run, asserted at its end: conservation and causality.

After BLIS's list of invariants (inference-sim, INV-1 to 13): conservation of requests, tokens, cache and money,
causality, life cycle, work conservation. Signal freshness holds by construction: sources answer from scrapes.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from simulators.engine.tables import RequestEnd, RequestMoment
from simulators.world.infrastructure import invariants as fleet
from simulators.world.world import World


class InvariantBroken(AssertionError):
    """A fault in the simulator: the run's figures cannot be trusted."""


def check(world: World) -> None:
    """Raise `InvariantBroken` with the first rule that does not hold."""
    _routed(world)
    _requests(world)
    _tokens(world)
    _causality(world)
    _work(world)
    for pool in world.pools.values():
        for problem in fleet.problems(pool, pool.bill(world.now_ps, world.kernel.occupied_ps), world.now_ps):
            _require(holds=False, rule=f"pool {pool.name}: {problem}")


def _require(holds: bool, rule: str) -> None:
    if not holds:
        raise InvariantBroken(
            f"simulator bug, violated invariant: {rule}. Please report it with the scenario and the seed"
        )


def check_group(worlds: Sequence[World]) -> None:
    """Raise `InvariantBroken` if requests between the worlds of a group are not conserved."""
    sent = sum(world.feed.sent for world in worlds if world.feed is not None)
    received = sum(world.inbox.received for world in worlds)
    _require(sent == received, f"workloads get what others send them: {sent} sent, {received} received")
    arrived, ended = sum(w.arrived_at_gateway for w in worlds), sum(len(w.arrived_requests) for w in worlds)
    _require(arrived == ended, f"a group conserves requests: {arrived} arrived, {ended} accounted for")


def _routed(world: World) -> None:
    if world.feed is not None:
        handled = world.feed.handled + world.inbox.received - world.feed.sent
        routed = len(world.arrived_requests)
        _require(handled == routed, f"the gateway conserves requests: {handled} arrived, {routed} accounted for")
    if world.gateway is not None:
        usd, served = world.gateway.usd, world.gateway.requests(world.now_ps)
        _require(not usd[served.has_failed].any(), "a request that a provider rejects costs nothing")


def _requests(world: World) -> None:
    kernel, requests, replicas = world.kernel, world.kernel.arrived_requests, world.kernel.read()
    finished = int(requests.is_finished.sum())
    in_progress = int(replicas.outstanding.sum()) + kernel.queued
    failed = sum(int(requests.ended_as(end).sum()) for end in RequestEnd if end is not RequestEnd.OPEN)
    total = finished + in_progress + kernel.awaiting_redelivery + failed
    _require(len(requests) == total, f"requests are conserved: {len(requests)} arrived, {total} accounted for")
    _require(finished == int(replicas.finished.sum()), "every finished request was finished by a replica")
    outstanding = replicas.waiting + replicas.running
    _require(bool((outstanding == replicas.outstanding).all()), "each outstanding request waits or runs")


def _tokens(world: World) -> None:
    requests, replicas = world.kernel.arrived_requests, world.kernel.read()
    requested = int(requests.output_tokens.sum(dtype=np.int64, where=requests.is_finished))
    produced = int(replicas.output_tokens.sum())
    partial = (
        int(replicas.outstanding.sum()) or world.lost_requests
    )  # unfinished and interrupted requests produced some too
    holds = produced >= requested if partial else produced == requested
    _require(holds, f"tokens are conserved: {requested} requested, {produced} produced")
    used = replicas.kv_blocks_used
    _require(bool(((used >= 0) & (used <= replicas.kv_blocks)).all()), "used KV blocks fit into the cache")
    _require(bool((used[replicas.running == 0] == 0).all()), "an engine without running requests holds no KV blocks")


def _causality(world: World) -> None:
    requests = world.kernel.arrived_requests
    unfinished = ~requests.is_finished  # compare whole columns: a copy of the finished rows would double the memory
    for before, after in itertools.pairwise(RequestMoment):
        _require(
            bool((unfinished | (requests.at_ps(before) <= requests.at_ps(after))).all()),
            "each request arrives, enters, is admitted, starts and ends in this order",
        )
    _require(bool((unfinished | (requests.arrived_ps <= world.now_ps)).all()), "no request finishes before it arrives")


def _work(world: World) -> None:
    kernel, replicas = world.kernel, world.kernel.read()
    stalled = (replicas.outstanding > 0) & replicas.has_no_event
    _require(not stalled.any(), "a replica with requests has a next event")
    has_room = replicas.takes_requests & (replicas.outstanding < kernel.outstanding_limit)
    accepting = has_room & (replicas.next_event_ps > world.now_ps)
    waits = kernel.has_queue[replicas.pool]
    _require(not (waits & accepting).any(), "no request waits in the central queue while a replica has room")
