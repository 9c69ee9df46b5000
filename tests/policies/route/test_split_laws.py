"""Laws of a split that hold for every demand, readiness, price, limit and present weight."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.model import PoolName
from policies.model.names import BackendName
from policies.model.pool import Pool
from policies.model.route import WEIGHT_TOTAL, RouteStatus
from policies.model.route_spec import Backend, Overflow, Preference, Provider, Route
from tests.policies.route.builders import CHAT, CHEAP, DEEPINFRA, GPUS, OPENAI, Gateway, route, workload

RATES = st.floats(0.0, 500.0)
REPLICAS = st.integers(0, 40)
PRICES = st.floats(0.01, 50.0)
BUDGETS = st.floats(0.0, 200.0)
PROVIDERS = st.builds(
    Provider,
    usd_per_million_input_tokens=PRICES,
    usd_per_million_output_tokens=PRICES,
    max_requests_per_min=st.none() | st.floats(1.0, 10_000.0),
    max_tokens_per_min=st.none() | st.floats(100.0, 1e7),
)
OVERFLOWS = st.builds(
    Overflow,
    max_usd_per_hour=BUDGETS,
    max_share=st.floats(0.0, 1.0),
    max_tokens_per_min=st.none() | st.floats(100.0, 1e7),
)
ROUTES = st.builds(
    lambda first, second, **others: route({OPENAI: first, DEEPINFRA: second}, **others),
    PROVIDERS,
    PROVIDERS,
    overflow=OVERFLOWS,
    allow_external=st.booleans(),
    zero_replicas=st.sampled_from(["overflow", "reject"]),
)
WEIGHTS = st.tuples(st.integers(0, 10_000), st.integers(0, 10_000)).map(
    lambda cuts: {GPUS: min(cuts), OPENAI: max(cuts) - min(cuts), DEEPINFRA: WEIGHT_TOTAL - max(cuts)}
)


def usd_per_hour(settings: Route, weights: dict[BackendName, int], rate: float) -> float:
    """Return the cost of 1,000 prompt and 500 output tokens per request, computed from the prices alone."""
    per_request = {
        name: (1000 * b.provider.usd_per_million_input_tokens + 500 * b.provider.usd_per_million_output_tokens) / 1e6
        for name, b in settings.backends.items()
        if b.provider is not None
    }
    return sum(rate * 3600 * weights.get(name, 0) / WEIGHT_TOTAL * usd for name, usd in per_request.items())


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(ROUTES, WEIGHTS, RATES, REPLICAS)
def test_weights_sum_to_the_total_and_stay_within_every_limit(
    chat: Route, weights: dict[BackendName, int], rate: float, ready: int
) -> None:
    gateway = Gateway(workload(chat), status=RouteStatus(weights))
    split = gateway.tick(rate, ready).routes[CHAT]
    assert sum(split.weights.values()) == (WEIGHT_TOTAL if split.weights else 0)
    assert all(weight >= 0 for weight in split.weights.values())
    external = {n: w for n, w in split.weights.items() if n != GPUS and w}
    assert chat.allow_external or not external
    assert not (ready == 0 and split.weights.get(GPUS)), "weight on a pool without a ready replica"
    if external and not split.is_kept:
        assert usd_per_hour(chat, external, rate) <= (chat.overflow.max_usd_per_hour or 0.0) + 1e-6
        tokens = rate * 60 * 1500 * sum(external.values()) / WEIGHT_TOTAL
        assert tokens <= (chat.overflow.max_tokens_per_min or 1e300) + 1e-6
        assert not ready or sum(external.values()) <= chat.overflow.max_share * WEIGHT_TOTAL + 1e-6
        for name, weight in external.items():
            provider, share = chat.backends[name].provider, weight / WEIGHT_TOTAL
            assert provider is not None
            assert rate * 60 * share <= (provider.max_requests_per_min or 1e300) + 1e-6
            assert rate * 60 * 1500 * share <= (provider.max_tokens_per_min or 1e300) + 1e-6


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(ROUTES, RATES, REPLICAS, REPLICAS)
def test_pools_get_no_less_with_more_ready_replicas(chat: Route, rate: float, ready: int, more: int) -> None:
    chat = dataclasses.replace(chat, zero_replicas="reject")
    shares = []
    for replicas in (ready, ready + more):
        gateway = Gateway(workload(chat))
        gateway.tick(rate, replicas)
        gateway.status = RouteStatus({})
        split = gateway.tick(rate, replicas).routes[CHAT]
        shares.append(split.weights.get(GPUS, 0))
    assert shares[0] <= shares[1]


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(ROUTES, WEIGHTS, RATES, st.integers(1, 40))
def test_constant_input_gives_constant_weights(
    chat: Route, weights: dict[BackendName, int], rate: float, ready: int
) -> None:
    """The split changes at most once at once, and once more after `return_s`."""
    gateway = Gateway(workload(chat), status=RouteStatus(weights))
    kept = [gateway.tick(rate, ready).routes[CHAT].is_kept for _ in range(20)]
    assert kept.count(False) <= 2
    assert all(kept[4:])


LATENCIES = st.floats(0.0, 10.0)


@pytest.mark.slow
@settings(max_examples=40, deadline=None)
@given(ROUTES, st.floats(10.0, 500.0), st.integers(1, 40), LATENCIES, LATENCIES)
def test_constant_latency_moves_weights_only_at_ejections_and_probes(
    chat: Route, rate: float, ready: int, first_s: float, second_s: float
) -> None:
    """Providers within the limit keep the weights, and each ejection is longer than the one before."""
    gateway = Gateway(workload(dataclasses.replace(chat, max_latency_s=2.0)))
    late = {name for name, latency_s in ((OPENAI, first_s), (DEEPINFRA, second_s)) if latency_s > 2.0}
    for _ in range(4):
        gateway.tick(rate, ready)
    kept = []
    for _ in range(80):
        split = gateway.tick(rate, ready, latencies_s={OPENAI: first_s, DEEPINFRA: second_s}).routes[CHAT]
        kept.append(split.is_kept)
        assert sum(split.weights.values()) == (WEIGHT_TOTAL if split.weights else 0)
    assert late or all(kept[2:])
    assert kept[60:].count(False) <= 6, "20 ticks are 300 s: one probe of each provider and its end"


@pytest.mark.slow
@settings(max_examples=20, deadline=None)
@given(ROUTES, WEIGHTS, st.lists(REPLICAS, min_size=1, max_size=5))
def test_without_demand_no_weight_moves(chat: Route, weights: dict[BackendName, int], replicas: list[int]) -> None:
    chat = dataclasses.replace(
        chat, allow_external=True, overflow=dataclasses.replace(chat.overflow, max_usd_per_hour=9.0)
    )
    gateway = Gateway(workload(chat), status=RouteStatus(weights))
    for ready in replicas:
        assert gateway.tick(None, ready).routes[CHAT].weights == weights


BACKENDS = [BackendName(name) for name in ("near", "area", "far", OPENAI, DEEPINFRA)]
PLACES = st.lists(st.sampled_from(["eu-west-1", "eu-central-1", "us-east-1", None]), min_size=5, max_size=5)
SHARES = st.lists(st.integers(0, 100), min_size=5, max_size=5).filter(any)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["cost", "latency", "locality"]),
    PLACES,
    SHARES,
    st.lists(st.none() | RATES, min_size=1, max_size=4),
    st.lists(REPLICAS, min_size=3, max_size=3).filter(any),
    st.lists(LATENCIES, min_size=2, max_size=2),
)
def test_every_preference_gives_all_requests_to_backends_that_can_serve(
    prefer: Preference,
    regions: list[str | None],
    shares: list[int],
    rates: list[float | None],
    replicas: list[int],
    latencies_s: list[float],
) -> None:
    pools: dict[str, Pool] = {name: Pool(region=region) for name, region in zip(BACKENDS[:3], regions[:3], strict=True)}
    providers = {
        name: dataclasses.replace(CHEAP, region=region) for name, region in zip(BACKENDS[3:], regions[3:], strict=True)
    }
    backends = {name: Backend(pool=PoolName(name)) for name in pools}
    backends |= {name: Backend(provider=provider) for name, provider in providers.items()}
    region = "eu-west-1" if prefer == "locality" else None
    gateway = Gateway(workload(route({}, backends=backends, prefer=prefer, region=region), pools=pools))
    total = sum(shares)
    weights = [share * WEIGHT_TOTAL // total for share in shares]
    weights[shares.index(max(shares))] += WEIGHT_TOTAL - sum(weights)
    gateway.status = RouteStatus({name: weight for name, weight in zip(BACKENDS, weights, strict=True) if weight})
    ready: dict[str, int] = dict(zip(pools, replicas, strict=True))
    for rate in rates:
        split = gateway.tick(rate, ready, latencies_s=dict(zip(BACKENDS[3:], latencies_s, strict=True))).routes[CHAT]
        assert sum(split.weights.values()) == WEIGHT_TOTAL
        assert min(split.weights.values()) >= 0
        unready = {name for name, weight in split.weights.items() if weight and ready.get(name) == 0}
        assert split.is_kept or not unready
        assert rate is None or not unready
