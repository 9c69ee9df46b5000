"""The split of a route: overflow, return, limits, failover, and what happens without evidence."""

from __future__ import annotations

import dataclasses

import pytest

from policies.model import Evidence, PolicyName, PoolName, Recommendation, Stale
from policies.model.pool import Pool
from policies.model.route import BackendTraffic, RouteStatus
from policies.model.route_spec import Backend, LatencyTerm, Overflow, Provider, Route
from policies.model.spec import Slo
from policies.route.demand import demand_of
from policies.route.ejection import BackendHealth
from tests.policies.route.builders import (
    CHAT,
    DEEPINFRA,
    EXPENSIVE,
    GPUS,
    INTERVAL_S,
    OPENAI,
    UNREAD,
    Gateway,
    route,
    unable_to_reject,
    workload,
)


def test_excess_of_ready_capacity_overflows_within_one_tick() -> None:
    gateway = Gateway(workload(route()))
    gateway.tick(None, 3)
    assert gateway.shares() == {GPUS: 1.0}
    gateway.tick(5.0, 3)
    assert gateway.shares() == {GPUS: 1.0}
    decision = gateway.tick(12.0, 3, desired=6)
    split = decision.routes[CHAT]
    assert gateway.shares() == {GPUS: 0.5, OPENAI: 0.5}
    assert split.demand == 6.0
    assert split.usd_per_hour == pytest.approx(6.0 * 3600 * 300e-6)
    assert split.reason == "50% of requests go to openai: 3 of 6 replicas are ready, for a demand of 6.0"


def test_requests_return_as_replicas_become_ready() -> None:
    gateway = Gateway(workload(route(return_s=30.0)))
    gateway.tick(None, 3)
    gateway.tick(12.0, 3)
    shares = []
    for ready in (3, 4, 4, 4, 6, 6, 6, 6):
        gateway.tick(12.0, ready)
        shares.append(round(gateway.shares().get(OPENAI, 0.0), 2))
    assert shares == [0.5, 0.5, 0.5, 0.33, 0.33, 0.33, 0.0, 0.0]


def test_return_is_limited_by_the_largest_need_while_waiting() -> None:
    gateway = Gateway(workload(route(return_s=30.0)))
    for rate, ready in ((None, 3), (12.0, 3), (6.0, 3), (9.0, 3), (6.0, 3)):
        gateway.tick(rate, ready)
    assert gateway.shares()[OPENAI] == pytest.approx(1 / 3, abs=1e-4)


def test_noise_of_few_requests_moves_nothing() -> None:
    gateway = Gateway(workload(route()))
    gateway.tick(None, 1)
    gateway.tick(2.0, 1)
    gateway.tick(2.3, 1)
    assert gateway.shares() == {GPUS: 1.0}
    gateway.tick(6.0, 1)
    assert gateway.shares()[OPENAI] == pytest.approx(2 / 3, abs=1e-4)


def test_changes_are_hold_s_apart() -> None:
    gateway = Gateway(workload(route(hold_s=10.0)))
    gateway.tick(None, 3)
    gateway.tick(12.0, 3)
    decision = gateway.tick(100.0, 3, seconds=4.0)
    assert decision.routes[CHAT].reason == "the last change was 4 s ago (hold_s)"
    gateway.tick(100.0, 3, seconds=7.0)
    assert gateway.shares()[OPENAI] == pytest.approx(0.94, abs=1e-4)


def test_cheapest_provider_is_filled_first() -> None:
    cheap = Provider(usd_per_million_input_tokens=0.1, usd_per_million_output_tokens=0.4, max_requests_per_min=120)
    gateway = Gateway(workload(route({OPENAI: EXPENSIVE, DEEPINFRA: cheap})))
    gateway.tick(None, 3)
    gateway.tick(12.0, 3)
    # 120 requests per minute are 2 of 12 per second, filled to 90 %
    assert gateway.shares() == pytest.approx({GPUS: 0.5, OPENAI: 0.35, DEEPINFRA: 0.15}, abs=1e-3)


@pytest.mark.parametrize(
    ("overflow", "share"),
    [
        (Overflow(max_usd_per_hour=1000.0, max_share=0.2), 0.2),
        (Overflow(max_usd_per_hour=3.24), 0.9 * 3.24 / (12 * 3600 * 300e-6)),
        (Overflow(max_usd_per_hour=1000.0, max_tokens_per_min=270_000), 0.9 * 270_000 / (12 * 60 * 1500)),
        (Overflow(max_usd_per_hour=0.0), 0.0),
    ],
)
def test_overflow_stays_within_its_limits(overflow: Overflow, share: float) -> None:
    gateway = Gateway(workload(route(overflow=overflow)))
    gateway.tick(None, 3)
    gateway.tick(12.0, 3)
    assert gateway.shares().get(OPENAI, 0.0) == pytest.approx(share, abs=1e-3)


def test_exceeded_budget_ends_overflow_at_once() -> None:
    gateway = Gateway(workload(route(overflow=Overflow(max_usd_per_hour=7.0))))
    gateway.tick(None, 3)
    gateway.tick(12.0, 3)
    assert gateway.shares()[OPENAI] == pytest.approx(0.4861, abs=1e-3)
    decision = gateway.tick(30.0, 3, seconds=4.0)
    assert "the budget of max_usd_per_hour is used up" in decision.routes[CHAT].reason
    assert gateway.shares()[OPENAI] == pytest.approx(0.9 * 7.0 / (30 * 3600 * 300e-6), abs=1e-3)


def test_provider_needs_permission() -> None:
    gateway = Gateway(workload(route(allow_external=False)))
    gateway.tick(None, 3)
    gateway.tick(100.0, 3)
    assert gateway.shares() == {GPUS: 1.0}
    gateway.status = RouteStatus({GPUS: 5000, OPENAI: 5000})
    decision = gateway.tick(100.0, 3)
    assert gateway.shares() == {GPUS: 1.0}
    assert "openai must get no requests: providers are not allowed" in decision.routes[CHAT].reason


def test_provider_with_unknown_cost_gets_nothing() -> None:
    gateway = Gateway(workload(route(input_tokens_per_request=None)))
    gateway.tick(None, 3)
    gateway.tick(100.0, 3)
    assert gateway.shares() == {GPUS: 1.0}


def test_without_demand_the_weights_stay() -> None:
    gateway = Gateway(workload(route()))
    gateway.tick(None, 3)
    gateway.tick(12.0, 3)
    for ready in (0, 1, 6):
        decision = gateway.tick(None, ready)
        assert decision.routes[CHAT].is_kept
        assert "requests were not measured yet" in decision.routes[CHAT].reason
    assert gateway.shares() == {GPUS: 0.5, OPENAI: 0.5}
    unlearned = Gateway(workload(route(requests_per_replica_per_s=None)), status=RouteStatus({GPUS: 10_000}))
    assert "are not learned yet" in unlearned.tick(12.0, 3).routes[CHAT].reason


def test_without_readiness_the_weights_stay() -> None:
    gateway = Gateway(workload(route()), status=RouteStatus({GPUS: 10_000}))
    decision = gateway.tick(12.0, UNREAD)
    assert decision.routes[CHAT].reason == "the weights stay: the readiness of main is unknown"
    assert gateway.shares() == {GPUS: 1.0}


def test_unread_gateway_keeps_its_weights_and_its_size() -> None:
    gateway = Gateway(workload(route()))
    gateway.tick(None, 3)
    gateway.tick(12.0, 3)
    decision = gateway.tick(12.0, 6, reading=UNREAD)
    assert decision.routes[CHAT].is_kept
    assert not decision.may_scale_in
    decision = gateway.tick(12.0, 6, reading=Stale(gateway.status, gateway.at - 90.0, 90.0))
    assert decision.routes[CHAT].weights == {GPUS: 5000, OPENAI: 5000}


def test_other_writer_is_yielded_to() -> None:
    status = RouteStatus({GPUS: 9000, OPENAI: 1000}, other_writer="another writer changed routes.json")
    gateway = Gateway(workload(route()), status=status)
    assert gateway.tick(100.0, 3).routes[CHAT].reason == "the weights stay: another writer changed routes.json"
    taken = Gateway(workload(route(on_other_writer="take_over")), status=status)
    taken.tick(100.0, 3)
    assert taken.shares()[OPENAI] == pytest.approx(0.94, abs=1e-3)


def test_paused_workload_keeps_its_weights() -> None:
    paused = dataclasses.replace(workload(route()), paused=True)
    gateway = Gateway(paused, status=RouteStatus({GPUS: 10_000}))
    gateway.tick(100.0, 3)
    assert gateway.shares() == {GPUS: 1.0}


def test_failing_provider_is_ejected_and_returns_slowly() -> None:
    gateway = Gateway(workload(route(eject_s=30.0, slow_start_s=60.0)))
    gateway.tick(None, 2)
    gateway.tick(40.0, 2)
    assert gateway.shares()[OPENAI] == 0.9
    decision = gateway.tick(40.0, 2, errors={OPENAI: 1.0})
    assert gateway.shares() == {GPUS: 1.0}
    assert "it fails (540 of 540 requests failed), and is ejected for 30 s" in decision.routes[CHAT].reason
    shares = []
    for _ in range(7):
        gateway.tick(40.0, 2)
        shares.append(gateway.shares().get(OPENAI, 0.0))
    assert shares == [0.0, 0.1, 0.25, 0.5, 0.75, 0.9, 0.9]


def test_backend_with_a_failed_health_check_gets_nothing_until_it_passes() -> None:
    backends = {GPUS: Backend(pool=PoolName("main")), OPENAI: Backend(pool=PoolName("other"))}
    settings = route(backends=backends, allow_external=False, eject_s=30.0)
    gateway = Gateway(workload(settings, pools={"main": Pool(), "other": Pool()}))
    ready = {"main": 1, "other": 1}
    gateway.tick(None, ready)
    for unhealthy in ({OPENAI}, {OPENAI}, {OPENAI}, set()):
        gateway.status = dataclasses.replace(gateway.status, unhealthy=frozenset(unhealthy))
        decision = gateway.tick(None, ready)
        assert gateway.shares() == {GPUS: 1.0}
        if "must get no requests" in decision.routes[CHAT].reason:
            assert decision.routes[CHAT].reason.endswith("openai must get no requests: its health check fails")
    gateway.tick(None, ready)
    assert 0.0 < gateway.shares()[OPENAI] < 0.2, "it passes, and eject_s is over"
    gateway.status = dataclasses.replace(gateway.status, unhealthy=frozenset({GPUS, OPENAI}))
    gateway.tick(None, ready)
    assert set(gateway.shares()) == {GPUS, OPENAI}, "where all fail, every ready pool counts"


def test_changes_are_at_least_one_ttl_apart() -> None:
    backends = {GPUS: Backend(pool=PoolName("main")), OPENAI: Backend(pool=PoolName("other"))}
    gateway = Gateway(workload(route(backends=backends), pools={"main": Pool(), "other": Pool()}))
    shares = []
    for ready in (1, 3, 3, 3, 3, 3):
        gateway.status = dataclasses.replace(gateway.status, settle_s=60.0)
        reason = gateway.tick(None, {"main": ready, "other": 1}).routes[CHAT].reason
        shares.append(gateway.shares()[GPUS])
        assert shares[-1] == 0.75 or ready == 1 or reason.endswith("s ago (the TTL of the records)")
    assert shares == [0.5, 0.5, 0.5, 0.5, 0.75, 0.75]


def test_pool_drains_for_the_ttl_too() -> None:
    backends = {GPUS: Backend(pool=PoolName("main")), OPENAI: Backend(pool=PoolName("other"))}
    pools = {"main": Pool(), "other": Pool(max_replicas=0)}
    gateway = Gateway(workload(route(backends=backends, drain_s=30.0), 2, pools))
    ticks = 0
    while True:
        gateway.status = dataclasses.replace(gateway.status, settle_s=60.0)
        if gateway.tick(None, {"main": 2, "other": 1}).targets[PoolName("other")] == 0:
            break
        ticks += 1
    assert ticks * INTERVAL_S >= 90.0


TWO = {OPENAI: Provider(usd_per_million_input_tokens=0.1, usd_per_million_output_tokens=0.4), DEEPINFRA: EXPENSIVE}


def test_late_provider_is_replaced_by_another_one_and_probed() -> None:
    gateway = Gateway(workload(route(TWO, max_latency_s=1.0, eject_s=30.0, slow_start_s=60.0)))
    gateway.tick(None, 2)
    gateway.tick(8.0, 2)
    gateway.tick(8.0, 2, latencies_s={OPENAI: 0.5})
    assert gateway.shares() == {GPUS: 0.5, OPENAI: 0.5}
    reason = gateway.tick(8.0, 2, latencies_s={OPENAI: 2.5}).routes[CHAT].reason
    assert gateway.shares() == {GPUS: 0.5, DEEPINFRA: 0.5}
    assert reason.endswith("the responses of openai begin late (1.5 s; the limit is 1 s), and it is ejected for 30 s")
    shares = []
    for _ in range(6):
        gateway.tick(8.0, 2, latencies_s={OPENAI: 0.5, DEEPINFRA: 0.5})
        shares.append(gateway.shares().get(OPENAI, 0.0))
    assert shares == [0.0, 0.1, 0.25, 0.5, 0.5, 0.5]


def test_late_provider_stays_where_no_other_one_can_serve() -> None:
    gateway = Gateway(workload(route(max_latency_s=1.0)))
    gateway.tick(None, 2)
    gateway.tick(8.0, 2)
    for latency_s in (*[3.0] * 20, *[0.3] * 30):
        assert gateway.tick(8.0, 2, latencies_s={OPENAI: latency_s}).routes[CHAT].is_kept
        assert gateway.shares() == {GPUS: 0.5, OPENAI: 0.5}


def test_late_provider_takes_what_another_one_may_not() -> None:
    limited = {**TWO, DEEPINFRA: dataclasses.replace(EXPENSIVE, max_requests_per_min=160.0)}
    gateway = Gateway(workload(route(limited, max_latency_s=1.0)))
    gateway.tick(None, 2)
    gateway.tick(8.0, 2)
    gateway.tick(8.0, 2, latencies_s={OPENAI: 3.0})
    assert gateway.shares() == pytest.approx({GPUS: 0.5, OPENAI: 1 / 6, DEEPINFRA: 1 / 3}, abs=2e-4)


def test_latency_of_a_pool_and_of_few_requests_ejects_nothing() -> None:
    gateway = Gateway(workload(route(TWO, max_latency_s=1.0)))
    gateway.tick(None, 2)
    gateway.tick(8.0, 2, latencies_s={GPUS: 9.0})
    gateway.tick(8.0, 2, latencies_s={GPUS: 9.0})
    assert gateway.shares() == {GPUS: 0.5, OPENAI: 0.5}
    few = BackendTraffic(4.0, 0.0, 9.0)
    assert BackendHealth().after(few, 15.0, route(), max_latency_s=1.0) == BackendHealth()


def test_limit_of_latency_is_that_of_the_slo_by_default() -> None:
    settings = dataclasses.replace(workload(route(TWO)), slo=Slo(ttft_s=1.0))
    for chat, share in ((settings, 0.0), (dataclasses.replace(settings, slo=None), 0.5)):
        gateway = Gateway(chat)
        gateway.tick(None, 2)
        gateway.tick(8.0, 2)
        gateway.tick(8.0, 2, latencies_s={OPENAI: 3.0})
        assert gateway.shares().get(OPENAI, 0.0) == share


class WholeResponses(Route):
    """A route whose gateway measures whole responses."""

    @property
    def latency_term(self) -> LatencyTerm:
        return "e2e_s"


@pytest.mark.parametrize(("slo", "share"), [(Slo(ttft_s=1.0), 0.5), (Slo(ttft_s=1.0, e2e_s=2.0), 0.0)])
def test_whole_responses_are_not_compared_with_the_time_to_first_token(slo: Slo, share: float) -> None:
    gateway = Gateway(dataclasses.replace(workload(route(TWO, WholeResponses)), slo=slo))
    gateway.tick(None, 2)
    gateway.tick(8.0, 2)
    reason = gateway.tick(8.0, 2, latencies_s={OPENAI: 3.0}).routes[CHAT].reason
    assert gateway.shares().get(OPENAI, 0.0) == share
    assert ("the responses of openai end late (3.0 s; the limit is 2 s)" in reason) == (share == 0.0)


def test_second_ejection_lasts_longer() -> None:
    gateway = Gateway(workload(route(eject_s=30.0)))
    gateway.tick(None, 2)
    gateway.tick(40.0, 2)
    ticks = []
    for _ in range(2):
        gateway.tick(40.0, 2, errors={OPENAI: 1.0})
        ticks.append(0)
        while OPENAI not in gateway.shares():
            gateway.tick(40.0, 2)
            ticks[-1] += 1
    assert ticks == [2, 4]


def test_failing_pool_is_replaced_by_a_provider() -> None:
    gateway = Gateway(workload(route()))
    gateway.tick(None, 5)
    gateway.tick(4.0, 5, errors={GPUS: 0.9})
    assert gateway.shares() == {OPENAI: 1.0}


def test_failing_pool_stays_where_nothing_else_can_serve() -> None:
    gateway = Gateway(workload(route({})))
    gateway.tick(None, 5)
    gateway.tick(4.0, 5, errors={GPUS: 0.9})
    assert gateway.shares() == {GPUS: 1.0}


def test_pools_share_in_proportion_to_ready_capacity() -> None:
    backends = {GPUS: Backend(pool=PoolName("main")), OPENAI: Backend(pool=PoolName("slow"))}
    pools = {"main": Pool(), "slow": Pool(work_per_replica=0.5)}
    gateway = Gateway(workload(route(backends=backends, allow_external=False), pools=pools))
    gateway.tick(None, {"main": 3, "slow": 2})
    assert gateway.shares() == {GPUS: 0.75, OPENAI: 0.25}
    gateway.tick(4.0, {"main": 0, "slow": 2})
    assert gateway.shares() == {OPENAI: 1.0}


def test_no_replica_overflow() -> None:
    gateway = Gateway(workload(route(zero_replicas="overflow")))
    gateway.tick(None, 1)
    gateway.tick(4.0, 0)
    assert gateway.shares() == {OPENAI: 1.0}


def test_no_replica_reject_until_one_is_ready() -> None:
    gateway = Gateway(workload(route(zero_replicas="reject")))
    gateway.tick(None, 1)
    split = gateway.tick(4.0, 0).routes[CHAT]
    assert (split.weights, split.retry_after_s) == ({}, 120)
    assert gateway.tick(4.0, 0).routes[CHAT].is_kept
    gateway.tick(1.0, 1)
    assert gateway.shares() == {GPUS: 1.0}


def test_no_replica_and_no_budget_rejects() -> None:
    gateway = Gateway(workload(route(overflow=Overflow(max_usd_per_hour=0.1))))
    gateway.tick(None, 1)
    split = gateway.tick(40.0, 0).routes[CHAT]
    assert split.weights == {}
    assert split.reason.startswith("no replica is ready, and no provider fits: requests are rejected")


def test_no_replica_hold_keeps_the_weights() -> None:
    gateway = Gateway(workload(route(zero_replicas="hold")))
    gateway.tick(None, 1)
    assert gateway.tick(4.0, 0).routes[CHAT].is_kept
    assert gateway.shares() == {GPUS: 1.0}


def test_backend_that_is_not_configured_loses_its_weight() -> None:
    gateway = Gateway(workload(route({})), status=RouteStatus({GPUS: 5000, OPENAI: 5000}))
    decision = gateway.tick(4.0, 5)
    assert gateway.shares() == {GPUS: 1.0}
    assert "openai must get no requests: it is not configured" in decision.routes[CHAT].reason


def test_gateway_that_cannot_reject_gives_the_rest_to_the_pool() -> None:
    """30 requests/s cost 32.4 USD an hour at OpenAI: 90 % of a budget of 18 carry half of them."""
    gateway = Gateway(workload(unable_to_reject(overflow=Overflow(max_usd_per_hour=18.0))))
    gateway.tick(10.0, 5)
    split = gateway.tick(30.0, 0, desired=5).routes[CHAT]
    assert split.weights == {GPUS: 5000, OPENAI: 5000}
    assert split.retry_after_s is None
    assert "no replica is ready, and no provider may take the rest, which fails" in split.reason
    assert gateway.tick(31.0, 0, desired=5).routes[CHAT].is_kept, "noise does not change the weights"
    assert gateway.tick(60.0, 0, desired=5).routes[CHAT].weights[OPENAI] == 2500, "the budget still holds"
    returned = [gateway.tick(12.0, 5).routes[CHAT].weights[GPUS] for _ in range(4)]
    assert returned[-1] > 8000


def test_gateway_that_cannot_reject_leaves_weight_on_the_pool_without_providers() -> None:
    gateway = Gateway(workload(unable_to_reject(providers={})))
    assert gateway.tick(None, 0, desired=5).routes[CHAT].weights == {GPUS: 10_000}
    assert gateway.tick(None, 0, desired=5).routes[CHAT].is_kept


def test_scale_to_zero_is_weight_then_drain_then_size() -> None:
    gateway = Gateway(workload(route(drain_s=30.0), replicas=0), status=RouteStatus({GPUS: 10_000}))
    outcomes = []
    for _ in range(4):
        decision = gateway.tick(0.0, 2)
        outcomes.append((gateway.shares(), decision.targets[PoolName("main")], decision.target))
    assert outcomes == [
        ({OPENAI: 1.0}, 2, 2),
        ({OPENAI: 1.0}, 2, 2),
        ({OPENAI: 1.0}, 0, 0),
        ({OPENAI: 1.0}, 0, 0),
    ]


def test_pool_that_the_gateway_still_uses_is_not_emptied() -> None:
    gateway = Gateway(workload(route(), replicas=0), status=RouteStatus({GPUS: 10_000}))
    for _ in range(10):
        decision = gateway.tick(None, 2, reading=UNREAD)
        assert decision.targets[PoolName("main")] == 2
    assert decision.steps[-1].reason == "pool main keeps 2 until route chat has sent it nothing for 60 s"


def test_size_counts_the_demand_that_providers_take() -> None:
    gateway = Gateway(workload(route(), replicas=3))
    gateway.tick(None, 3)
    assert gateway.tick(12.0, 3).target == 3
    decision = gateway.tick(12.0, 3)
    assert decision.target == 6
    assert decision.recommendations[-1].reason == "12.0 requests/s need 6.0 replicas; 50% go to providers"


def test_learned_capacity_is_used() -> None:
    """The policy predictive records the time that a request takes of a full replica: here 0.5 s."""
    learned = Recommendation(PolicyName("p"), 3.0, Evidence.FULL, True, "", memory={"each_s": 0.5})
    status = RouteStatus({GPUS: 10_000}, {GPUS: BackendTraffic(180.0)}, 15.0)
    assert demand_of(route(requests_per_replica_per_s=None), status, [learned]).replicas == 6.0
    assert demand_of(route(requests_per_replica_per_s=4.0), status, [learned]).replicas == 3.0


def test_rise_over_two_ticks_goes_on() -> None:
    gateway = Gateway(workload(route()))
    for rate in (None, 4.0, 9.0):
        gateway.tick(rate, 3)
    assert gateway.shares() == {GPUS: pytest.approx(2 / 3, abs=1e-4), OPENAI: pytest.approx(1 / 3, abs=1e-4)}
    assert gateway.tick(14.0, 3).routes[CHAT].demand == 7.0
    assert gateway.shares()[OPENAI] == pytest.approx(1 - 3.0 / (7.0 + 2.5), abs=1e-4)


def test_step_is_no_rise_over_two_ticks() -> None:
    gateway = Gateway(workload(route()))
    for rate in (None, 4.0, 4.0, 14.0):
        gateway.tick(rate, 3)
    assert gateway.shares()[OPENAI] == pytest.approx(1 - 3.0 / 7.0, abs=1e-4)
    gateway.tick(14.0, 3)
    assert gateway.shares()[OPENAI] == pytest.approx(1 - 3.0 / 7.0, abs=1e-4)
