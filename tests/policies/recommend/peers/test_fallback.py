"""SkyServe's fallback to on-demand replicas: an allocation that the policy makes itself."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from policies.history.ticks import History
from policies.model import Absent, Decision, Fresh, PoolName, PoolStatus, Reading
from policies.pipeline import decide
from policies.recommend.peers.skyserve import SkyServeRequestRate
from scaler.config.checks import named_pools
from scaler.config.load import workload_from
from tests.factories import NOW, seen

DOCUMENT = {
    "workload": "llm",
    "max_replicas": 20,
    "sources": {"gateway": {"kind": "prometheus", "url": "http://p:9090", "queries": {"requests_per_s": "x"}}},
    "pools": {n: {"kind": "kubernetes", "name": n} for n in ("spot", "on-demand")},
}


def decision_for(
    pools: Mapping[str, Reading[PoolStatus]],
    rate: Reading[float] | None = None,
    document: Mapping[str, object] = DOCUMENT,
    **settings: object,
) -> Decision:
    """Return the first tick's decision at 8 requests per second and 2 per replica."""
    policy = {
        "kind": "skyserve_request_rate",
        "target_qps_per_replica": 2,
        "upscale_delay_s": 0,
        "spot_pool": "spot",
        "on_demand_pool": "on-demand",
        **settings,
    }
    spec = workload_from({**document, "policies": {"rate": policy}}).spec
    return decide(spec, History(), seen({"gateway.requests_per_s": rate or Fresh(8.0, NOW)}, pools=pools))


def size(desired: int, ready: int) -> Fresh[PoolStatus]:
    return Fresh(PoolStatus(desired, ready), NOW)


def test_on_demand_replaces_spot_replicas_that_are_not_ready() -> None:
    """SkyServe's example: 2 ready and 1 starting on spot, 1 on demand, 4 needed: one more on demand."""
    decision = decision_for({"spot": size(3, 2), "on-demand": size(1, 1)}, dynamic_ondemand_fallback=True)
    assert decision.targets == {"spot": 4, "on-demand": 2}


def test_on_demand_replicas_are_removed_once_spot_is_ready() -> None:
    decision = decision_for({"spot": size(4, 4), "on-demand": size(2, 2)}, dynamic_ondemand_fallback=True)
    assert decision.targets == {"spot": 4, "on-demand": 0}


def test_base_replicas_stay_on_demand_and_the_rest_is_spot() -> None:
    pools = {"spot": size(4, 4), "on-demand": size(0, 0)}
    assert decision_for(pools, base_ondemand_fallback_replicas=1).targets == {"spot": 3, "on-demand": 1}


@pytest.mark.parametrize(
    ("ready", "on_demand"),
    [pytest.param(0, 4, id="none is ready: not one for the spare"), pytest.param(2, 3, id="two")],
)
def test_spare_replica_has_no_on_demand_fallback(ready: int, on_demand: int) -> None:
    pools = {"spot": size(5, ready), "on-demand": size(0, 0)}
    decision = decision_for(pools, dynamic_ondemand_fallback=True, num_overprovision=1)
    assert decision.targets == {"spot": 5, "on-demand": on_demand}


def test_split_beyond_the_maximum_gives_up_on_demand_replicas() -> None:
    """The maximum counts both pools here: 4 on spot and 4 on demand are bounded to 6."""
    document = {**DOCUMENT, "max_replicas": 6}
    pools = {"spot": size(4, 0), "on-demand": size(0, 0)}
    decision = decision_for(pools, document=document, dynamic_ondemand_fallback=True)
    assert decision.targets == {"spot": 4, "on-demand": 2}


def test_no_pool_scales_in_without_fresh_evidence() -> None:
    pools = {"spot": size(2, 2), "on-demand": size(5, 5)}
    decision = decision_for(pools, Absent("down"), dynamic_ondemand_fallback=True)
    assert decision.targets == {"spot": 2, "on-demand": 5}


def test_unknown_pool_is_a_problem_with_a_hint() -> None:
    policy = {"kind": "skyserve_request_rate", "target_qps_per_replica": 2, "spot_pool": "spt", "on_demand_pool": "on"}
    spec = workload_from({**DOCUMENT, "policies": {"rate": policy}}).spec
    (first, *_), hints = zip(*((rule, hint) for _, rule, hint in named_pools(spec)), strict=True)
    assert first == "names pool 'spt', which is not in pools"
    assert hints == ("did you mean 'spot'?", "did you mean 'on-demand'?")


def test_fallback_without_pools_is_a_problem() -> None:
    problems = list(SkyServeRequestRate(target_qps_per_replica=1.0, dynamic_ondemand_fallback=True).problems())
    assert problems
    assert problems[0][0] == "spot_pool"


def test_recommendation_contains_the_size_of_each_pool() -> None:
    decision = decision_for({"spot": size(0, 0), "on-demand": size(0, 0)}, dynamic_ondemand_fallback=True)
    (recommendation,) = decision.recommendations
    assert recommendation.pools == {PoolName("spot"): 4, PoolName("on-demand"): 4}
    assert decision.target == 8
