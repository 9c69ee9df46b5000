"""Worlds of a group, whose gateways send requests to one another's engines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.model import PoolName, WorkloadName
from policies.model.names import BackendName
from policies.model.route import RouteDecision
from policies.model.route_spec import Route
from simulators.engine.models.service import PS_PER_S
from simulators.engine.tables import RequestEnd
from simulators.experiments.invariants import check, check_group
from simulators.world.routing.gateway import Backends
from simulators.world.traffic.trace import RequestTrace
from simulators.world.world import World, connect
from tests.simulators.world.makers import POOL, offer, world

EU, US = WorkloadName("eu"), WorkloadName("us")
GPUS, OTHER = BackendName("gpus"), BackendName("other")
ROUTE = Route(backends={})
SLOTS = 4_000


def even(requests: int, first_id: int = 1, every_s: float = 0.1) -> RequestTrace:
    """Return requests at equal distances, each with another number of prompt tokens as its identity."""
    ids = np.arange(first_id, first_id + requests, dtype=np.int32)
    return RequestTrace(
        np.arange(requests, dtype=np.float64) * every_s, ids, np.full(requests, 5, np.int32), name="even"
    )


def member(requests: RequestTrace, other: WorkloadName | None, *, holds: bool = False, **options: Any) -> World:
    """Return a member of a group, with a route if `other` is one of its backends."""
    backends = None if other is None else Backends({GPUS: POOL}, {}, holds, {OTHER: other})
    return world(requests, backends=backends, slots=SLOTS, **options)


def pair(eu: World, us: World) -> tuple[World, World]:
    connect({EU: eu, US: us})
    return eu, us


def split(created: World, gpus: int, other: int) -> None:
    assert created.gateway is not None
    created.gateway.apply(RouteDecision({GPUS: gpus, OTHER: other}, "chosen by a test"))


def run_for(created: World, seconds: float) -> None:
    created.run_until(created.now_ps + round(seconds * PS_PER_S))


def checked(*worlds: World) -> None:
    for each in worlds:
        check(each)
    check_group(worlds)


def ids(*worlds: World) -> list[int]:
    """Return the identities of the requests in the results of all worlds."""
    return sorted(number for each in worlds for number in each.arrived_requests.prompt_tokens.tolist())


def test_sent_requests_end_in_the_results_of_the_member_that_serves_them() -> None:
    eu, us = pair(member(even(1_000), US), member(even(1_000, 1_001), None))
    assert eu.gateway is not None
    eu.gateway.status(eu.now, ROUTE)
    split(eu, 7_000, 3_000)
    run_for(eu, 120.0)
    sent = eu.gateway.status(eu.now, ROUTE).traffic[OTHER]
    assert sent.requests == eu.gateway.sent == us.inbox.received == pytest.approx(300, abs=50)
    assert sent.errors == 0
    assert len(us.arrived_requests) == 1_000 + sent.requests
    assert (np.diff(us.arrived_requests.arrived_ps) >= 0).all()
    assert us.arrived_requests.is_finished.all()
    assert ids(eu, us) == list(range(1, 2_001))
    checked(eu, us)


def test_worlds_of_a_group_have_one_time() -> None:
    eu, us = pair(member(even(10), US), member(even(10, 11), EU))
    run_for(us, 20.0)
    assert eu.now_ps == us.now_ps == 20 * PS_PER_S


def test_own_pools_get_all_requests_before_the_first_split() -> None:
    eu, us = pair(member(even(100), US), member(even(100, 101), EU))
    run_for(eu, 60.0)
    assert us.inbox.received == 0
    assert ids(eu) == list(range(1, 101))


def test_pools_of_the_receiver_share_by_their_ready_replicas() -> None:
    east, west = BackendName("east"), BackendName("west")
    pools = {name: offer() for name in (east, west)}
    backends = Backends({name: PoolName(name) for name in pools}, {})
    us = world(even(1, 2_001), pools=pools, backends=backends, slots=SLOTS)
    eu, us = pair(member(even(2_000), US), us)
    us.resize(PoolName(west), 3)
    run_for(us, 40.0)
    split(eu, 0, 10_000)
    run_for(us, 200.0)
    pool = us.kernel.read().pool[us.arrived_requests.replica]
    counts = np.bincount(pool[us.arrived_requests.prompt_tokens <= 2_000], minlength=2)
    assert counts[1] / counts[0] == pytest.approx(3.0, rel=0.15)
    checked(eu, us)


@pytest.mark.parametrize("holds", [False, True])
def test_request_to_a_member_without_replicas_fails_at_the_sender_unless_its_gateway_holds_it(holds: bool) -> None:
    eu, us = pair(member(even(500), US, holds=holds), member(even(1, 501, 100.0), None, replicas=0))
    split(eu, 0, 10_000)
    run_for(eu, 60.0)
    us.resize(POOL, 1)
    run_for(eu, 60.0)
    rejected = int(eu.arrived_requests.ended_as(RequestEnd.REJECTED).sum())
    assert rejected == (0 if holds else 500)
    assert len(us.arrived_requests) == (501 if holds else 1)
    assert us.arrived_requests.is_finished.all()
    checked(eu, us)


def test_round_trip_of_a_request_is_that_from_its_own_gateway() -> None:
    near = {"eu": 0.0, "us": 0.5}, {"eu": 0.5, "us": 0.125}
    eu = member(even(200), US, pool=offer(region="eu"), round_trip_s=near[0])
    us = member(even(200, 201), None, pool=offer(region="us"), round_trip_s=near[1])
    eu, us = pair(eu, us)
    split(eu, 0, 10_000)
    run_for(eu, 100.0)
    served = us.arrived_requests
    engine_s = (us.kernel.arrived_requests.first_token_ps - served.arrived_ps) / PS_PER_S
    added_s = (served.first_token_ps - served.arrived_ps) / PS_PER_S - engine_s
    np.testing.assert_allclose(added_s, np.where(served.prompt_tokens <= 200, 0.5, 0.125))


MEMBERS = st.fixed_dictionaries(
    {
        "gaps_s": st.lists(st.floats(0.0, 3.0), min_size=1, max_size=40),
        "replicas": st.integers(0, 2),
        "has_route": st.booleans(),
        "holds": st.booleans(),
        "weights": st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=3, max_size=3),
    }
)


@pytest.mark.slow
@settings(max_examples=30)
@given(members=st.tuples(MEMBERS, MEMBERS))
def test_every_request_of_every_member_ends_once(members: tuple[Mapping[str, Any], Mapping[str, Any]]) -> None:
    worlds, first_id = [], 1
    for settings_, other in zip(members, (US, EU), strict=True):
        arrival_s = np.cumsum(settings_["gaps_s"])
        tokens = np.arange(first_id, first_id + len(arrival_s), dtype=np.int32)
        trace = RequestTrace(arrival_s, tokens, np.full(len(tokens), 20, np.int32), name="random")
        target = other if settings_["has_route"] else None
        worlds.append(member(trace, target, holds=settings_["holds"], replicas=settings_["replicas"]))
        first_id += len(arrival_s)
    eu, us = pair(worlds[0], worlds[1])
    for step in range(3):
        for settings_, each in zip(members, worlds, strict=True):
            gpus, other_weight = settings_["weights"][step]
            if each.gateway is not None and gpus + other_weight:
                split(each, gpus, other_weight)
        run_for((eu, us)[step % 2], 45.0)
        if step == 1:
            for each in worlds:
                each.resize(POOL, 1)
        checked(eu, us)
    assert ids(eu, us) == list(range(1, first_id))
