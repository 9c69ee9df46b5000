"""Growth for latency ends where it would not help; growth for load continues."""

from __future__ import annotations

import dataclasses
import itertools
import tracemalloc
from typing import Any

import numpy as np
import pytest

from policies.model import PolicyName, RuleId
from policies.model.limits import LateGrowth
from policies.model.spec import ScaleDown, Slo, WorkloadSpec
from policies.recommend.threshold import Headroom
from tests.factories import spec
from tests.policies.guard.engines import Chaser, Engines

HOUR = 240
"""Ticks."""


def workload_with_chaser(limit_s: float = 0.03, *, reports_latency: bool = True, **settings: Any) -> WorkloadSpec:
    slo = Slo(ttft_s=None, itl_s=limit_s)
    slow = ScaleDown(window_s=300, max_replicas=1000)
    return spec(
        {"chaser": Chaser(limit_s, reports_latency=reports_latency)}, slo=slo, **{"scale_down": slow, **settings}
    )


def unattainable(load: float) -> float:
    """Return the latency of an engine that exceeds 30 ms at any load."""
    return 0.05 + 0.0001 * load


def linear(load: float) -> float:
    return 0.01 + 0.005 * load


def test_unattainable_slo_does_not_scale_out_from_two_to_eight() -> None:
    engines = Engines(workload_with_chaser(), unattainable)
    assert max(engines.run(HOUR - 30, running=16.0)) == 3
    last = engines.decisions[-1]
    (step,) = [s for s in last.steps if s.rule == RuleId.SLO_FEASIBILITY]
    assert "no size meets the SLO: engines.itl_p95_s is 0.0505 s with 5.33 requests" in step.reason
    assert "slo.itl_s is 0.03 s" in step.reason
    assert "keep the size; raise slo.itl_s, or use faster replicas" in step.reason


def test_unattainable_slo_scales_out_if_latency_need_is_not_reported() -> None:
    engines = Engines(workload_with_chaser(reports_latency=False), unattainable)
    assert max(engines.run(60, running=16.0)) > 8


def test_attainable_slo_is_reached() -> None:
    engines = Engines(workload_with_chaser(limit_s=0.03), linear)  # 30 ms at 4 requests per replica
    assert max(engines.run(120, running=16.0)) == 4


def test_added_replicas_must_serve_and_settle_before_more_are_added() -> None:
    engines = Engines(workload_with_chaser(), linear, start_ticks=4)
    assert engines.run(14, running=24.0) == [3] * 13 + [4]
    reasons = [d.reason for d in engines.decisions]
    assert "2 of 3 replicas serve: wait for the others" in reasons[1]
    assert "slo_feasibility.settle_s (120 s)" in reasons[8]


def test_load_scales_out_despite_an_unattainable_slo() -> None:
    engines = Engines(workload_with_chaser(), unattainable)
    engines.run(100, running=16.0)
    assert engines.run(1, running=80.0) == [10]
    assert engines.run(1, running=160.0) == [20]


def test_growth_resumes_when_load_shows_that_replicas_help() -> None:
    def with_a_knee(load: float) -> float:
        return 0.035 if load <= 6 else 0.035 + 0.02 * (load - 6)

    engines = Engines(
        workload_with_chaser(limit_s=0.04, scale_down=ScaleDown(window_s=0, max_replicas=1000)), with_a_knee
    )
    engines.run(60, running=12.0)
    assert engines.size == 2, "within the SLO, no replica is added"
    engines.run(60, running=15.9)  # 7.95 requests per replica: 74 ms; three replicas meet the SLO
    assert max(d.target or 0 for d in engines.decisions) == 3


def test_latency_adds_no_replica_at_one_request_per_replica() -> None:
    engines = Engines(workload_with_chaser(), unattainable, size=4)
    assert engines.run(1, running=4.0) == [4]
    assert "with 1 requests per replica" in engines.decisions[-1].reason


@pytest.mark.slow
def test_expired_evidence_allows_one_more_replica() -> None:
    engines = Engines(workload_with_chaser(slo_feasibility=LateGrowth(window_s=1800)), unattainable)
    sizes = engines.run(3 * HOUR, running=16.0)
    assert sizes[100] == 3
    assert 3 < sizes[-1] <= 16, "one or two every half hour, and never more than requests"
    changes = [i for i in range(1, len(sizes)) if sizes[i] > sizes[i - 1]]
    assert min(b - a for a, b in itertools.pairwise(changes)) >= 10


def test_replica_with_too_little_gain_is_not_added() -> None:
    def flat(load: float) -> float:
        return 0.0301 + 0.00002 * load  # just above the SLO, and load hardly matters

    spec_ = workload_with_chaser(limit_s=0.03013, slo_feasibility=LateGrowth(min_gain=0.05))
    engines = Engines(spec_, flat, size=3)
    assert max(engines.run(100, running=24.0)) == 4
    assert "less than slo_feasibility.min_gain (5.0%)" in engines.decisions[-1].reason


def test_latency_driven_growth_is_evaluated_within_max_replicas() -> None:
    engines = Engines(
        workload_with_chaser(limit_s=0.02, min_replicas=8, slo_feasibility=LateGrowth(min_gain=0.0)), linear, size=8
    )
    engines.run(20, running=10.0)
    engines.run(20, running=15.0)
    boundless = {PolicyName("chaser"): Chaser(0.02, more=1e12)}
    engines.spec = dataclasses.replace(engines.spec, policies=boundless, max_replicas=100_000)
    tracemalloc.start()
    try:
        decision = engines.tick(running=32.0)
        assert tracemalloc.get_traced_memory()[1] < 16 * 2**20
    finally:
        tracemalloc.stop()
    assert decision.target is not None
    assert decision.target <= 100_000


@pytest.mark.parametrize(
    "rule", [LateGrowth(), LateGrowth(min_gain=0.0), LateGrowth(settle_s=0.0)], ids=["default", "any gain", "at once"]
)
def test_sufficient_gain_adds_replicas(rule: LateGrowth) -> None:
    slow = ScaleDown(window_s=3600)
    engines = Engines(workload_with_chaser(limit_s=0.02, scale_down=slow, slo_feasibility=rule), linear)
    assert max(engines.run(200, running=16.0)) == 8


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_lagging_noisy_latency_does_not_block_an_attainable_slo(seed: int) -> None:
    rng = np.random.default_rng(seed)
    slow = ScaleDown(window_s=3600)
    engines = Engines(workload_with_chaser(limit_s=0.03, scale_down=slow), linear, size=1, lag_ticks=5)
    engines.noise = lambda: float(rng.lognormal(0, 0.15))
    for i in range(160):  # load rises over ten minutes, and latencies lag behind it
        engines.tick(running=float(rng.poisson(min(40.0, 4.0 + i))))
    assert engines.size >= 9, "40 requests at 4 per replica need 10"


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_lagging_noisy_latency_does_not_chase_an_unattainable_slo(seed: int) -> None:
    rng = np.random.default_rng(seed)
    engines = Engines(workload_with_chaser(), unattainable, lag_ticks=5)
    engines.noise = lambda: float(rng.lognormal(0, 0.15))
    for _ in range(220):
        engines.tick(running=float(rng.poisson(16.0)))
    assert max(d.target or 0 for d in engines.decisions) <= 5, "a few more because of noise"


def test_headroom_is_computed_again_without_the_latency_driven_need() -> None:
    policies = {"chaser": Chaser(0.03, per_replica=1.0), "room": Headroom(share=0.5)}
    engines = Engines(spec(policies, slo=Slo(ttft_s=None, itl_s=0.03)), unattainable, size=5)
    assert engines.run(1, running=4.0) == [8], "4 for load and 4 free; 6 for latency would give 12"


def test_feasibility_check_is_inactive_without_an_slo() -> None:
    workload = spec({"chaser": Chaser(0.03)}, scale_down=ScaleDown(window_s=300))
    assert Engines(workload, unattainable).run(100, running=16.0)[-1] > 3
