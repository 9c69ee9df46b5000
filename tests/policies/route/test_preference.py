"""The preference of a route: pools by distance, and providers by distance or latency."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from policies.model import PoolName
from policies.model.names import BackendName
from policies.model.pool import Pool
from policies.model.route_spec import Backend, Overflow, Preference, Provider
from policies.model.spec import Slo, WorkloadSpec
from policies.route.preference import Distance, distance_of, latency_ranks
from tests.policies.route.builders import (
    CHAT,
    CHEAP,
    DEEPINFRA,
    EXPENSIVE,
    GPUS,
    INTERVAL_S,
    OPENAI,
    Gateway,
    route,
    workload,
)

NEAR, AREA, FAR = BackendName("near"), BackendName("area"), BackendName("far")
REGIONS = {NEAR: "eu-west-1", AREA: "eu-central-1", FAR: "us-east-1"}
READY: Mapping[str, int] = {NEAR: 2, AREA: 2, FAR: 2}
"""Each pool carries 4 requests per second."""


def by_distance(
    providers: dict[BackendName, Provider] | None = None, replicas: int = 6, **settings: Any
) -> WorkloadSpec:
    """Return a workload with a pool at each distance, and no providers by default."""
    backends = {name: Backend(pool=PoolName(name)) for name in REGIONS}
    backends |= {name: Backend(provider=provider) for name, provider in (providers or {}).items()}
    preference = {"prefer": "locality", "region": "eu-west-1"}
    chat = route({}, backends=backends, **{**preference, "allow_external": bool(providers), **settings})
    return workload(chat, replicas, {name: Pool(region=region) for name, region in REGIONS.items()})


def reason_of(gateway: Gateway, requests_per_s: float | None, ready: Mapping[str, int] = READY) -> str:
    return gateway.tick(requests_per_s, ready).routes[CHAT].reason


@pytest.mark.parametrize(
    ("region", "distance"),
    [
        ("eu-west-1", Distance.NEAR),
        ("eu-central-1", Distance.AREA),
        ("europe-west4", Distance.FAR),
        ("us-west-1", Distance.FAR),
        (None, Distance.FAR),
    ],
)
def test_distance_is_that_of_the_region_or_its_area(region: str | None, distance: Distance) -> None:
    assert distance_of("eu-west-1", region) is distance


def test_requests_stay_near_spill_in_a_burst_and_come_back() -> None:
    gateway = Gateway(by_distance(return_s=30.0))
    gateway.tick(None, READY)
    for _ in range(4):
        gateway.tick(3.0, READY)
    assert gateway.shares() == {NEAR: 1.0}
    reason = reason_of(gateway, 10.0)
    assert gateway.shares() == {NEAR: 0.4, AREA: 0.4, FAR: 0.2}, "in the tick that sees the burst"
    assert reason == (
        "all requests go to pools (40% near: eu-west-1, 40% same area: eu-central-1, 20% far: us-east-1):"
        " 6 of 6 replicas are ready, for a demand of 5.0"
    )
    shares = []
    for _ in range(4):
        reason = reason_of(gateway, 3.0)
        shares.append(gateway.shares())
    assert shares == [{NEAR: 0.4, AREA: 0.4, FAR: 0.2}] * 2 + [{NEAR: 1.0}] * 2
    assert reason.startswith("the weights stay, all on pools (100% near: eu-west-1): 6 of 6")


def test_pools_share_by_capacity_while_the_demand_is_not_known() -> None:
    gateway = Gateway(by_distance(replicas=8))
    reason = reason_of(gateway, None, {**READY, NEAR: 4})
    assert gateway.shares() == {NEAR: 0.5, AREA: 0.25, FAR: 0.25}
    assert "; pools share by ready capacity, since the gateway's requests were not measured yet" in reason
    for _ in range(4):
        gateway.tick(3.0, READY)
    assert gateway.shares() == {NEAR: 1.0}
    gateway.tick(None, READY)
    assert gateway.shares() == pytest.approx(dict.fromkeys(REGIONS, 1 / 3), abs=1e-3), "near may be too small now"
    unlearned = Gateway(by_distance(requests_per_replica_per_s=None))
    unlearned.tick(None, READY)
    assert "since the requests that a replica carries are not learned yet" in reason_of(unlearned, 3.0)


def test_pools_share_by_capacity_where_all_are_full() -> None:
    gateway = Gateway(by_distance())
    gateway.tick(None, READY)
    gateway.tick(100.0, {NEAR: 3, AREA: 2, FAR: 1})
    assert gateway.shares() == pytest.approx({NEAR: 1 / 2, AREA: 1 / 3, FAR: 1 / 6}, abs=1e-3)


def test_without_requests_all_go_near() -> None:
    gateway = Gateway(by_distance())
    for rate in (None, 0.0, 0.0, 0.0, 0.0):
        gateway.tick(rate, READY)
    assert gateway.shares() == {NEAR: 1.0}


@pytest.mark.parametrize("failed", [True, False])
def test_other_pools_replace_a_near_one_that_fails_or_has_no_replica(*, failed: bool) -> None:
    gateway = Gateway(by_distance(eject_s=30.0, slow_start_s=60.0))
    for rate in (None, *[3.0] * 4):
        gateway.tick(rate, READY)
    assert gateway.shares() == {NEAR: 1.0}
    if failed:
        gateway.tick(3.0, READY, errors={NEAR: 0.9})
    else:
        gateway.tick(3.0, {**READY, NEAR: 0})
    assert gateway.shares() == {AREA: 1.0}
    shares = []
    for _ in range(10):
        gateway.tick(3.0, READY)
        shares.append(gateway.shares().get(NEAR, 0.0))
    assert sorted(shares) == shares, "it gets requests back step by step"
    assert (shares[0], shares[-1]) == (0.0, 1.0)


def test_replicas_near_take_requests_back() -> None:
    gateway = Gateway(by_distance(return_s=30.0))
    for rate in (None, *[6.0] * 4):
        gateway.tick(rate, READY)
    assert gateway.shares() == pytest.approx({NEAR: 2 / 3, AREA: 1 / 3}, abs=1e-3)
    for _ in range(4):
        gateway.tick(6.0, {**READY, NEAR: 3})
    assert gateway.shares() == {NEAR: 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("requests_per_s", [6.0, 40.0, 300.0])
@pytest.mark.parametrize("near", [0.97, 0.75, 0.4])
def test_steady_load_with_noise_changes_no_weight(requests_per_s: float, near: float) -> None:
    """The near pool carries a part of a Poisson load for two hours: the first half hour measures it."""
    gateway = Gateway(by_distance(requests_per_replica_per_s=near * requests_per_s / READY[NEAR]))
    counts = np.random.default_rng(7).poisson(requests_per_s * INTERVAL_S, 480)
    kept = [gateway.tick(rate, READY).routes[CHAT].is_kept for rate in (None, *(counts / INTERVAL_S).tolist())]
    assert kept[:120].count(False) <= 3
    assert all(kept[120:])
    assert gateway.shares()[NEAR] == pytest.approx(near, abs=0.1 if requests_per_s < 10.0 else 0.04)


def test_providers_are_ordered_by_distance_and_then_by_price() -> None:
    here, there = (dataclasses.replace(p, region=r) for p, r in ((EXPENSIVE, "eu-west-1"), (CHEAP, "us-east-1")))
    limited = dataclasses.replace(here, max_requests_per_min=200.0)
    gateway = Gateway(by_distance({OPENAI: there, DEEPINFRA: limited}))
    gateway.tick(None, READY)
    reason = reason_of(gateway, 24.0)
    pools = dict.fromkeys(REGIONS, 1 / 6)
    assert gateway.shares() == pytest.approx({**pools, DEEPINFRA: 0.125, OPENAI: 0.375}, abs=1e-3)
    assert (
        "12% of requests go to deepinfra (near: eu-west-1) and 38% of requests go to openai (far: us-east-1)" in reason
    )
    assert ", the rest to pools (17% near: eu-west-1, 17% same area: eu-central-1, 17% far: us-east-1)" in reason


def test_pools_carry_what_providers_may_not() -> None:
    """The budget is for 12.5 % of 24 requests per second, and pools have more than they carry."""
    overflow = Overflow(max_usd_per_hour=24 * 3600 * 300e-6 / 8 / 0.9)
    gateway = Gateway(by_distance({OPENAI: CHEAP}, overflow=overflow))
    gateway.tick(None, READY)
    gateway.tick(24.0, READY)
    shares = gateway.shares()
    assert shares.pop(OPENAI) == pytest.approx(0.125, abs=1e-3)
    assert shares == pytest.approx(dict.fromkeys(REGIONS, 0.875 / 3), abs=1e-3)


@pytest.mark.parametrize("prefer", ["cost", "latency"])
def test_distance_of_pools_counts_with_locality_only(prefer: Preference) -> None:
    gateway = Gateway(by_distance({OPENAI: CHEAP, DEEPINFRA: EXPENSIVE}, prefer=prefer, region=None))
    for rate in (None, *[3.0] * 5):
        gateway.tick(rate, READY)
    assert gateway.shares() == pytest.approx(dict.fromkeys(REGIONS, 1 / 3), abs=1e-3)
    memory = gateway.history.routes[CHAT].memory
    assert not any("distance" in key or "lasting" in key for key in memory)


# --- latency

LIMITED = dataclasses.replace(CHEAP, max_requests_per_min=240.0)
"""The cheaper provider, which takes 3.6 requests per second."""


def by_latency(prefer: Preference = "latency", **settings: Any) -> Gateway:
    """Return a gateway with 8 requests/s that its 2 replicas cannot carry, of which each provider gets a part."""
    chat = route({OPENAI: LIMITED, DEEPINFRA: EXPENSIVE}, prefer=prefer, hold_s=0.0, **settings)
    gateway = Gateway(dataclasses.replace(workload(chat), slo=Slo(ttft_s=2.0)))
    gateway.tick(None, 2)
    gateway.tick(12.0, 2)
    assert gateway.shares() == pytest.approx({GPUS: 1 / 3, OPENAI: 0.3, DEEPINFRA: 11 / 30}, abs=1e-3)
    return gateway


@pytest.mark.parametrize("prefer", ["cost", "latency"])
def test_faster_provider_is_preferred_over_the_cheaper_one(prefer: Preference) -> None:
    gateway = by_latency(prefer)
    decision = gateway.tick(12.0, 2, latencies_s={OPENAI: 1.9, DEEPINFRA: 1.2})
    expected = (
        {GPUS: 1 / 3, DEEPINFRA: 2 / 3} if prefer == "latency" else {GPUS: 1 / 3, OPENAI: 0.3, DEEPINFRA: 11 / 30}
    )
    assert gateway.shares() == pytest.approx(expected, abs=1e-3)
    assert ("67% of requests go to deepinfra (1.2 s against 1.9 s of openai)" in decision.routes[CHAT].reason) == (
        prefer == "latency"
    )


def test_like_latencies_do_not_alternate() -> None:
    """Both get a part of 5 requests/s: the first one 3.6, and the other one the rest."""
    gateway = Gateway(workload(route({OPENAI: LIMITED, DEEPINFRA: LIMITED}, prefer="latency", hold_s=0.0)))
    gateway.tick(None, 2)
    rng, first = np.random.default_rng(3), []
    for ratio in (*[1.0] * 10, *[1.2] * 60, *[1.6] * 10, *[1.2] * 60):
        latencies_s = {OPENAI: ratio * rng.uniform(0.9, 1.1), DEEPINFRA: 1.0}
        gateway.tick(9.0, 2, latencies_s=latencies_s)
        shares = gateway.shares()
        first.append(max((OPENAI, DEEPINFRA), key=lambda name: shares.get(name, 0.0)))
    changes = sum(a != b for a, b in pairwise(first))
    assert (first[0], first[-1], changes) == (OPENAI, DEEPINFRA, 1)


def test_provider_that_becomes_slow_gets_what_the_others_may_not() -> None:
    gateway = by_latency()
    gateway.tick(12.0, 2, latencies_s={OPENAI: 1.9, DEEPINFRA: 1.2})
    for _ in range(4):
        gateway.tick(12.0, 2, latencies_s={DEEPINFRA: 1.95})
    assert OPENAI not in gateway.shares(), "1.95 s is no more than 20 % slower than 1.9 s"


def test_order_of_latencies() -> None:
    a, b, c = OPENAI, DEEPINFRA, BackendName("c")
    usd = {a: 3.0, b: 1.0, c: 2.0}
    unmeasured = dict.fromkeys(usd, 0.0)
    assert list(latency_ranks(usd, unmeasured, 2.0, {})) == [b, c, a], "by price"
    assert list(latency_ranks(usd, {**unmeasured, a: 1.0}, 2.0, {})) == [a, b, c], "faster than the limit"
    assert list(latency_ranks(usd, {**unmeasured, a: 9.0}, math.inf, {})) == [a, b, c], "no limit is known"
    assert list(latency_ranks(usd, {a: 1.0, b: 1.1, c: 0.5}, 2.0, {a: 0, b: 1, c: 2})) == [c, a, b]
    assert list(latency_ranks(usd, {a: 1.0, b: 1.1, c: 1.15}, 2.0, {c: 0, b: 1, a: 2})) == [c, b, a], "too close"
