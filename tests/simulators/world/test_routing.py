"""Requests that the simulated gateway sends to providers: the split, their answers, limits, faults and prices."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from policies.model.names import BackendName
from policies.model.route import RouteDecision
from policies.model.route_spec import Route
from simulators.engine.models.service import PS_PER_S
from simulators.engine.tables import Picoseconds, RequestEnd
from simulators.experiments.invariants import check
from simulators.world.routing.gateway import Gateway
from simulators.world.routing.provider import Latency, ProviderFault, ResponseTimes, SimulatedProvider
from simulators.world.traffic.trace import RequestTrace
from simulators.world.world import World
from tests.simulators.world.makers import world

GPUS, OPENAI = BackendName("gpus"), BackendName("openai")
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
    return world(RequestTrace(arrival_s, *tokens, name="even"), providers={OPENAI: openai or provider()})


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
    gateway_of(created).status(created.now, [GPUS], ROUTE)
    run_for(created, 50.0)
    status = gateway_of(created).status(created.now, [GPUS], ROUTE)
    assert (status.traffic[OPENAI].requests, status.traffic[OPENAI].errors) == (500.0, 500.0)
    assert status.traffic[GPUS].requests == 0.0
    run_for(created, 150.0)
    assert created.kernel.arrived == 500
    assert created.arrived_requests.is_finished.all()
    check(created)


def test_rejected_requests_fail_until_a_split_is_applied() -> None:
    created = routed(1_000)
    gateway_of(created).status(created.now, [GPUS], ROUTE)
    gateway_of(created).apply(RouteDecision({}, "no replica is ready", retry_after_s=30.0))
    run_for(created, 30.0)
    status = gateway_of(created).status(created.now, [GPUS], ROUTE)
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
    assert gateway_of(created).status(created.now, [GPUS], ROUTE).traffic == {}
    run_for(created, 15.0)
    first = gateway_of(created).status(created.now, [GPUS], ROUTE)
    run_for(created, 15.0)
    second = gateway_of(created).status(created.now, [GPUS], ROUTE)
    assert first.over_s == second.over_s == 15.0
    assert first.requests == second.requests == 150.0
    assert second.requests_per_s == 10.0
    assert second.weights == {GPUS: 6_000, OPENAI: 4_000}


def test_pools_count_their_requests_by_weight() -> None:
    created, west = routed(1_000), BackendName("west")
    split(created, gpus=3_000, west=1_000)
    gateway_of(created).status(created.now, [GPUS, west], ROUTE)
    run_for(created, 100.0)
    traffic = gateway_of(created).status(created.now, [GPUS, west], ROUTE).traffic
    assert (traffic[GPUS].requests, traffic[west].requests) == (750.0, 250.0)


def at(*seconds: float) -> Picoseconds:
    return np.array([round(s * PS_PER_S) for s in seconds], np.int64)


@pytest.mark.parametrize(("is_whole", "at_5_s", "at_20_s"), [(False, 2.0, 6.0), (True, None, 7.0)])
def test_response_counts_once_when_it_begins_or_ends(is_whole: bool, at_5_s: float | None, at_20_s: float) -> None:
    times = ResponseTimes()
    times.add(at(1, 2, 3), at(3, 8, -1), at(8, 12, -1))
    assert times.quantile_s(1.0, 5 * PS_PER_S, is_whole=is_whole) == at_5_s
    assert times.quantile_s(0.0, 20 * PS_PER_S, is_whole=is_whole) == at_20_s
    assert times.quantile_s(0.5, 99 * PS_PER_S, is_whole=is_whole) is None
