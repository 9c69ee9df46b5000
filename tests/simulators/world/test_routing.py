"""Requests that the simulated gateway sends to providers: the split, their answers, limits, faults and prices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from policies.model.names import BackendName, PoolName
from policies.model.route import RouteDecision
from policies.model.route_spec import Route
from simulators.engine.models.service import PS_PER_S
from simulators.engine.tables import Picoseconds, RequestEnd
from simulators.experiments.invariants import check
from simulators.world.routing.gateway import Backends, Gateway
from simulators.world.routing.provider import Latency, ProviderFault, ResponseTimes, SimulatedProvider
from simulators.world.traffic.trace import RequestTrace
from simulators.world.world import World
from tests.simulators.world.makers import POOL, offer, world

GPUS, OPENAI = BackendName("gpus"), BackendName("openai")
EAST, WEST = BackendName("east"), BackendName("west")
TTFT_S, ITL_S = 0.4, 0.01
ROUTE = Route(backends={})


def provider(**settings: Any) -> SimulatedProvider:
    """Return a provider without randomness: 1 and 2 USD per million prompt and generated tokens."""
    fixed = {
        "usd_per_million_input_tokens": 1.0,
        "usd_per_million_output_tokens": 2.0,
        "ttft": Latency(median_s=TTFT_S),
        "itl": Latency(median_s=ITL_S),
    }
    return SimulatedProvider(**{**fixed, **settings})


def routed(
    requests: int,
    openai: SimulatedProvider | None = None,
    *,
    every_s: float = 0.1,
    prompt: int = 500,
    output: int = 11,
) -> World:
    """Return a world with requests at equal distances, before a gateway with a pool and a provider."""
    arrival_s = np.arange(requests, dtype=np.float64) * every_s
    tokens = np.full(requests, prompt, np.int32), np.full(requests, output, np.int32)
    backends = Backends({GPUS: POOL}, {OPENAI: openai or provider()})
    return world(RequestTrace(arrival_s, *tokens, name="even"), backends=backends)


def two_regions(
    requests: int = 2_000, openai: SimulatedProvider | None = None, *, holds: bool = False, **settings: Any
) -> World:
    """Return a world with a pool in each of two regions, each with room for 40 of 10 requests per second."""
    arrival_s = np.arange(requests, dtype=np.float64) * 0.1
    tokens = np.full(requests, 100, np.int32), np.full(requests, 11, np.int32)
    pools = {name: offer(region=name) for name in (EAST, WEST)}
    backends = Backends({name: PoolName(name) for name in pools}, {OPENAI: openai} if openai else {}, holds)
    return world(RequestTrace(arrival_s, *tokens, name="even"), pools=pools, backends=backends, **settings)


def served_by(created: World) -> list[int]:
    """Return the requests that each pool got."""
    replicas, requests = created.kernel.read(), created.kernel.arrived_requests
    counts: list[int] = np.bincount(replicas.pool[requests.replica[requests.replica >= 0]], minlength=2).tolist()
    return counts


def gateway_of(created: World) -> Gateway:
    assert created.gateway is not None
    return created.gateway


def split(created: World, **weights: int) -> None:
    gateway_of(created).apply(RouteDecision({BackendName(name): w for name, w in weights.items()}, "chosen by a test"))


def run_for(created: World, seconds: float) -> None:
    created.run_until(created.now_ps + round(seconds * PS_PER_S))


def at_provider(created: World) -> int:
    return len(gateway_of(created).requests(created.now_ps))


def test_pools_get_all_requests_before_the_first_split() -> None:
    created = routed(100)
    run_for(created, 60.0)
    assert at_provider(created) == 0
    assert created.kernel.arrived == 100
    check(created)


def test_weights_split_the_requests_that_arrive_from_then_on() -> None:
    created = routed(20_000, every_s=0.01)
    run_for(created, 100.0)
    split(created, gpus=7_000, openai=3_000)
    run_for(created, 200.0)
    assert at_provider(created) == pytest.approx(3_000, rel=0.05)
    assert created.kernel.arrived + at_provider(created) == 20_000
    table = created.arrived_requests
    assert (np.diff(table.arrived_ps) >= 0).all()
    assert (table.arrived_ps[table.replica < 0] >= 100 * PS_PER_S).all()
    check(created)


def test_another_split_moves_only_the_requests_of_the_difference() -> None:
    """The random number of a request does not depend on the weights: a larger share contains the smaller one."""
    sent = []
    for weight in (2_000, 5_000):
        created = routed(1_000)
        split(created, gpus=10_000 - weight, openai=weight)
        run_for(created, 200.0)
        sent.append(set(gateway_of(created).requests(created.now_ps).arrived_ps.tolist()))
    assert sent[0] < sent[1]


def test_provider_answers_after_its_latency_for_its_price() -> None:
    created = routed(10, prompt=500, output=11)
    split(created, openai=10_000)
    run_for(created, 60.0)
    table = gateway_of(created).requests(created.now_ps)
    np.testing.assert_allclose((table.first_token_ps - table.arrived_ps) / PS_PER_S, TTFT_S)
    np.testing.assert_allclose((table.finished_ps - table.first_token_ps) / PS_PER_S, 10 * ITL_S)
    np.testing.assert_allclose(gateway_of(created).usd, (500 * 1.0 + 11 * 2.0) / 1e6)


def test_request_at_a_provider_is_open_until_its_answer_ends() -> None:
    created = routed(1)
    split(created, openai=10_000)
    run_for(created, TTFT_S + 0.05)
    (first_ps,), (finished_ps,) = (
        column.tolist() for column in (created.arrived_requests.first_token_ps, created.arrived_requests.finished_ps)
    )
    assert first_ps == round(TTFT_S * PS_PER_S)
    assert finished_ps == RequestEnd.OPEN


def test_latency_has_its_quantiles() -> None:
    created = routed(20_000, provider(ttft=Latency(median_s=0.4, sigma=0.5)), every_s=0.001)
    split(created, openai=10_000)
    run_for(created, 60.0)
    table = gateway_of(created).requests(created.now_ps)
    ttft_s = (table.first_token_ps - table.arrived_ps) / PS_PER_S
    assert np.quantile(ttft_s, [0.5, 0.95]) == pytest.approx([0.4, 0.91], rel=0.04)


@pytest.mark.parametrize(
    ("limit", "accepted"),
    [
        ({"max_requests_per_min": 100.0}, 100),
        ({"max_tokens_per_min": 20_440.0}, 40),
        ({}, 600),
    ],
)
def test_rate_limit_answers_429_for_the_rest_of_a_minute(limit: dict[str, float], accepted: int) -> None:
    created = routed(1_200, provider(**limit))
    split(created, openai=10_000)
    run_for(created, 130.0)
    table = gateway_of(created).requests(created.now_ps)
    first_minute = table[table.arrived_ps < 60 * PS_PER_S]
    assert int(first_minute.is_finished.sum()) == accepted
    assert int(table.is_finished.sum()) == 2 * accepted
    assert int(table.ended_as(RequestEnd.REJECTED).sum()) == 1_200 - 2 * accepted
    assert gateway_of(created).usd.sum() == pytest.approx(2 * accepted * (500 * 1.0 + 11 * 2.0) / 1e6)
    check(created)


def test_throttled_provider_fails_a_share_of_its_requests() -> None:
    fault = ProviderFault(fault="throttled", share=0.25, since_s=50.0, until_s=150.0)
    created = routed(2_000, provider(faults=(fault,)))
    split(created, openai=10_000)
    run_for(created, 260.0)
    failed_s = created.arrived_requests.arrived_ps[created.arrived_requests.has_failed] / PS_PER_S
    assert len(failed_s) == pytest.approx(250, rel=0.2)
    assert failed_s.min() >= 50.0
    assert failed_s.max() < 150.0


def test_slow_provider_multiplies_its_latency() -> None:
    fault = ProviderFault(fault="slow", factor=5.0, until_s=50.0)
    created = routed(1_000, provider(faults=(fault,)))
    split(created, openai=10_000)
    run_for(created, 160.0)
    table = created.arrived_requests
    ttft_s = (table.first_token_ps - table.arrived_ps) / PS_PER_S
    np.testing.assert_allclose(ttft_s, np.where(table.arrived_ps < 50 * PS_PER_S, 5 * TTFT_S, TTFT_S))


def test_pools_serve_what_an_unavailable_provider_does_not() -> None:
    fault = ProviderFault(fault="unavailable", until_s=50.0)
    created = routed(1_000, provider(faults=(fault,)))
    split(created, openai=10_000)
    gateway_of(created).status(created.now, ROUTE)
    run_for(created, 50.0)
    status = gateway_of(created).status(created.now, ROUTE)
    assert (status.traffic[OPENAI].requests, status.traffic[OPENAI].errors) == (500.0, 500.0)
    assert status.traffic[GPUS].requests == 0.0
    run_for(created, 150.0)
    assert created.kernel.arrived == 500
    assert created.arrived_requests.is_finished.all()
    check(created)


def test_rejected_requests_fail_until_a_split_is_applied() -> None:
    created = routed(1_000)
    gateway_of(created).status(created.now, ROUTE)
    gateway_of(created).apply(RouteDecision({}, "no replica is ready", retry_after_s=30.0))
    run_for(created, 30.0)
    status = gateway_of(created).status(created.now, ROUTE)
    assert status.rejects
    assert status.rejected == 300.0
    split(created, gpus=10_000)
    run_for(created, 200.0)
    assert int(created.arrived_requests.ended_as(RequestEnd.REJECTED).sum()) == 300
    assert gateway_of(created).usd.sum() == 0.0
    check(created)


def test_status_counts_since_the_last_read_only() -> None:
    created = routed(1_000)
    split(created, gpus=6_000, openai=4_000)
    assert gateway_of(created).status(created.now, ROUTE).traffic == {}
    run_for(created, 15.0)
    first = gateway_of(created).status(created.now, ROUTE)
    run_for(created, 15.0)
    second = gateway_of(created).status(created.now, ROUTE)
    assert first.over_s == second.over_s == 15.0
    assert first.requests == second.requests == 150.0
    assert second.requests_per_s == 10.0
    assert second.weights == {GPUS: 6_000, OPENAI: 4_000}


def at(*seconds: float) -> Picoseconds:
    return np.array([round(s * PS_PER_S) for s in seconds], np.int64)


@pytest.mark.parametrize(("is_whole", "at_5_s", "at_20_s"), [(False, 2.0, 6.0), (True, None, 7.0)])
def test_response_counts_once_when_it_begins_or_ends(is_whole: bool, at_5_s: float | None, at_20_s: float) -> None:
    times = ResponseTimes()
    times.add(at(1, 2, 3), at(3, 8, -1), at(8, 12, -1))
    assert times.quantile_s(1.0, 5 * PS_PER_S, is_whole=is_whole) == at_5_s
    assert times.quantile_s(0.0, 20 * PS_PER_S, is_whole=is_whole) == at_20_s
    assert times.quantile_s(0.5, 99 * PS_PER_S, is_whole=is_whole) is None


def test_each_pool_gets_its_weight() -> None:
    created = two_regions()
    split(created, east=8_000, west=2_000)
    gateway_of(created).status(created.now, ROUTE)
    run_for(created, 210.0)
    assert served_by(created)[0] == pytest.approx(1_600, rel=0.05)
    traffic = gateway_of(created).status(created.now, ROUTE).traffic
    assert [traffic[name].requests for name in (EAST, WEST)] == served_by(created)
    assert sum(served_by(created)) == 2_000
    check(created)


def test_pool_without_weight_gets_no_request_and_finishes_those_that_it_has() -> None:
    created = two_regions()
    split(created, east=10_000, west=0)
    run_for(created, 50.02)
    before = served_by(created)
    split(created, east=0, west=10_000)
    assert created.kernel.read().outstanding.tolist() == [1, 0], "one request is under way"
    run_for(created, 160.0)
    assert served_by(created) == [before[0], 2_000 - before[0]]
    assert created.arrived_requests.is_finished.all()
    check(created)


def test_pools_share_by_their_ready_replicas_before_the_first_split() -> None:
    created = two_regions()
    created.resize(PoolName(WEST), 3)
    run_for(created, 100.0)
    before = served_by(created)
    run_for(created, 110.0)
    east, west = (after - b for after, b in zip(served_by(created), before, strict=True))
    assert west / east == pytest.approx(3.0, rel=0.15)


@pytest.mark.parametrize("holds", [False, True])
def test_request_to_a_pool_without_ready_replicas_fails_unless_the_gateway_holds_it(holds: bool) -> None:
    created = two_regions(holds=holds)
    split(created, east=5_000, west=5_000)
    created.resize(PoolName(WEST), 0)
    run_for(created, 100.0)
    split(created, east=10_000, west=0)
    run_for(created, 50.0)
    created.resize(PoolName(WEST), 1)
    run_for(created, 150.0)
    requests = created.arrived_requests
    to_west = requests.ended_as(RequestEnd.REJECTED) if not holds else requests.entered_ps - requests.arrived_ps > 0
    assert int(to_west.sum()) == pytest.approx(500, rel=0.1)
    assert requests.arrived_ps[to_west].max() < 100 * PS_PER_S
    assert requests.is_finished.all() == holds
    check(created)


def test_weighted_pools_serve_what_an_unavailable_provider_does_not() -> None:
    created = two_regions(openai=provider(faults=(ProviderFault(fault="unavailable"),)))
    split(created, openai=5_000, east=1_000, west=4_000)
    run_for(created, 210.0)
    assert served_by(created)[0] == pytest.approx(400, rel=0.15)
    assert sum(served_by(created)) == 2_000


def test_round_trip_comes_before_the_first_token_of_a_region() -> None:
    far = provider(region="virginia")
    round_trip_s = {EAST: 0.25, WEST: 0.0, "virginia": 0.5}
    created, near = two_regions(openai=far, round_trip_s=round_trip_s), two_regions(openai=far)
    for each in (created, near):
        split(each, east=4_000, west=4_000, openai=2_000)
        run_for(each, 100.0)
    pool = near.kernel.read().pool[near.arrived_requests.replica]
    expected_s = np.where(near.arrived_requests.replica < 0, 0.5, np.where(pool == 0, 0.25, 0.0))
    done = created.arrived_requests.is_finished
    assert 950 < done.sum() < 1_000
    for column in ("first_token_ps", "finished_ps"):
        late_ps = getattr(created.arrived_requests, column) - getattr(near.arrived_requests, column)
        np.testing.assert_allclose(late_ps[done] / PS_PER_S, expected_s[done])
    assert (created.arrived_requests.finished_ps <= created.now_ps).all()
    check(created)


def test_round_trip_counts_without_a_route() -> None:
    requests = RequestTrace(np.arange(10.0), np.full(10, 100, np.int32), np.full(10, 11, np.int32), name="even")
    at_first = [
        world(requests, pools={EAST: offer(region="far")}, round_trip_s=round_trip_s)
        for round_trip_s in ({}, {"far": 0.25})
    ]
    for created in at_first:
        run_for(created, 60.0)
    near, far = (created.arrived_requests.first_token_ps for created in at_first)
    np.testing.assert_array_equal(far - near, PS_PER_S // 4)
