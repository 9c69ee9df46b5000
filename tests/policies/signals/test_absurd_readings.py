"""Absurd readings and sizes: only the configured and current sizes determine the cost of a decision."""

from __future__ import annotations

import dataclasses
import math
import sys
import tracemalloc
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from policies.history.lead_times import MAX_PENDING
from policies.history.ticks import History
from policies.model import (
    Absent,
    Decision,
    Evidence,
    Fresh,
    Observation,
    PolicyName,
    PoolName,
    PoolStatus,
    Recommendation,
)
from policies.model.pool import Pool
from policies.model.spec import WorkloadSpec
from policies.pipeline import decide
from policies.recommend.need_bounds import bounded_recommendation, max_need
from policies.recommend.peers.aibrix import AibrixApa
from policies.recommend.peers.dynamo import DynamoEasy
from policies.recommend.peers.dynamo_sla import DynamoSla
from policies.recommend.peers.hpa import Hpa, HpaMetric
from policies.recommend.peers.keda import Keda, Trigger
from policies.recommend.peers.kpa import Kpa
from policies.recommend.peers.llmd import LlmD
from policies.recommend.peers.ray_serve import RayServe
from policies.recommend.peers.skyserve import SkyServeRequestRate
from policies.recommend.peers.static import Static
from policies.recommend.predictive.policy import Predictive
from policies.recommend.registry import POLICIES
from policies.recommend.schedule import Schedule, Window
from policies.recommend.threshold import Concurrency, GpuUtilization, Headroom, KvCacheUsage, Metric, QueueDepth
from policies.signals.plausibility import ANY_LIMIT, LIMITS, MAX_PLAUSIBLE_REPLICAS, plausible
from tests.factories import CHAT_SLO, NOW, fresh, seen, spec, tick_of
from tests.policies.allocate.worlds import FixedRecommendation

DEPTH = QueueDepth(source="s", target_per_replica=1e-3)
KINDS: Mapping[str, Mapping[str, Any]] = {
    "concurrency": {"p": Concurrency(source="s", target_per_replica=1e-3)},
    "aibrix_apa": {"p": AibrixApa(source="s", target=0.001, horizon_s=120.0)},
    "dynamo_easy": {"p": DynamoEasy(source="s", kv_tokens=1)},
    "dynamo_sla": {"p": DynamoSla(source="s", kv_tokens=1, step_s=10.0, prompt_token_s=0.0, kv_token_s=0.0)},
    "gpu_utilization": {"p": GpuUtilization(source="s")},
    "headroom": {"p": DEPTH, "room": Headroom(share=0.999999)},
    "hpa": {"p": Hpa(source="s", metrics=(HpaMetric(quantities=("visible",), target=0.001),))},
    "keda": {"p": Keda(source="s", triggers=(Trigger(quantities=("visible",), target=0.001),))},
    "kpa": {"p": Kpa(source="s", target=1e-3)},
    "kv_cache_usage": {"p": KvCacheUsage(source="s")},
    "llmd": {"p": LlmD(source="s", recipe="queue")},
    "metric": {
        "p": Metric(source="s", quantity="anything", target=1e-9),
        "q": Metric(source="s", quantity="mean", target=1e-9, across="mean"),
    },
    "predictive": {"p": Predictive(source="s", queue="s", gpu_activity="s", queue_deadline_s=43_200.0)},
    "queue_depth": {"p": DEPTH},
    "ray_serve": {"p": RayServe(source="s", target_ongoing_requests=1e-3, upscale_delay_s=0.0)},
    "schedule": {"p": DEPTH, "w": Schedule(windows=(Window(start="00:00", end="00:00", replicas=100_000),))},
    "skyserve_request_rate": {"p": SkyServeRequestRate(source="s", target_qps_per_replica=1e-3)},
    "static": {"p": Static(replicas=10**12)},
}
"""Every kind of policy with its most sensitive settings."""
VALUES = (0.0, 5e-324, 1e-300, 1e-9, 1.0, 1e6, 1e9, 1e10, 1e12, 1e17, 1e300, sys.float_info.max)
PRICED = {
    "owned": Pool(market="reserved", price_usd_per_hour=1.0, max_replicas=7, quantum=4),
    "spot": Pool(market="spot", price_usd_per_hour=1.0, zone="a", accelerator="h100"),
    "sure": Pool(price_usd_per_hour=3.0),
    "rests": Pool(tier="awake_spare", serves="sure", price_usd_per_hour=0.1, lead_time_s=5.0),  # type: ignore[arg-type]
}
MAX_BYTES = 64 * 2**20
MAX_CALLS = 400_000
"""Maximum calls of one decision; a usual tick makes a few thousand."""


def readings(value: float, *, within: bool) -> dict[str, Any]:
    """Return one value for all quantities; `within` cuts it to the limit of each quantity."""
    limits = {**LIMITS, "anything": ANY_LIMIT, "mean": ANY_LIMIT}
    return {f"s.{q}": fresh(min(value, limit) if within else value) for q, limit in limits.items()}


class Calls:
    """Counts calls of Python and C functions inside a `with` block."""

    def __enter__(self) -> Calls:
        self.count = 0
        sys.setprofile(self._note)
        return self

    def __exit__(self, *_: object) -> None:
        sys.setprofile(None)

    def _note(self, frame: object, event: str, arg: object) -> None:
        self.count += event in {"call", "c_call"}


def measured(workload: WorkloadSpec, history: History, observation: Observation) -> tuple[Decision, int, int]:
    """Return the decision, its peak memory in bytes, and its number of calls."""
    tracemalloc.start()
    try:
        decide(workload, history, observation)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    with Calls() as calls:
        decision = decide(workload, history, observation)
    return decision, peak, calls.count


def run_ticks(workload: WorkloadSpec, values: Mapping[str, Any], size: int) -> Iterator[tuple[Decision, int, int]]:
    """Yield six ticks with these readings; each size takes effect at once, and half of it serves."""
    history, sizes = History(7200.0), dict.fromkeys(workload.pools, size)
    for i in range(6):
        at = NOW + 15.0 * i
        now = {n: dataclasses.replace(r, measured_at=at) for n, r in values.items()}
        statuses = {str(n): Fresh(PoolStatus(k, k - k // 2), at) for n, k in sizes.items()}
        observation = seen(now, pools=statuses, at=at)
        last = i in {0, 5}
        decision, peak, calls = (
            measured(workload, history, observation) if last else (decide(workload, history, observation), 0, 0)
        )
        history.append(tick_of(plausible(observation), decision))
        sizes = {n: decision.targets.get(n, k) for n, k in sizes.items()}
        yield decision, peak, calls


def test_every_policy_kind_is_covered() -> None:
    assert KINDS.keys() == POLICIES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("within", [False, True], ids=["as read", "within the ceilings"])
@pytest.mark.parametrize("kind", KINDS)
def test_cost_of_a_decision_is_bounded_for_any_reading(kind: str, within: bool) -> None:
    for pools in (None, PRICED):
        workload = spec(KINDS[kind], pools, max_replicas=50, min_replicas=0, slo=CHAT_SLO)
        for value in VALUES:
            for decision, peak, calls in run_ticks(workload, readings(value, within=within), 3):
                where = f"{value:g}, {decision.reason}"
                assert peak <= MAX_BYTES, where
                assert calls <= MAX_CALLS, where
                assert sum(decision.targets.values()) <= 50 + 12, where
                assert decision.demand is None or 0.0 <= decision.demand <= 500.0, where


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["queue_depth", "predictive", "hpa", "headroom"])
def test_cost_of_a_decision_is_bounded_at_the_largest_max_replicas(kind: str) -> None:
    for pools in (None, PRICED):
        workload = spec(KINDS[kind], pools, max_replicas=100_000, slo=CHAT_SLO, slo_violation_cost_ratio=1e6)
        for value, size in ((1.0, 3), (1e12, 3), (0.0, 30_000), (1e4, 90_000)):
            for decision, peak, calls in run_ticks(workload, readings(value, within=True), size):
                assert peak <= MAX_BYTES, f"{value:g}, {decision.reason}"
                assert calls <= MAX_CALLS, f"{value:g}, {decision.reason}"
                assert sum(decision.targets.values()) <= 4 * 90_000


@pytest.mark.parametrize("value", [1e12, sys.float_info.max, math.nan, math.inf, -1.0])
def test_implausible_reading_counts_as_absent(value: float) -> None:
    workload = spec({"p": Metric(source="s", quantity="generation_tokens_per_s", target=9000.0)})
    decision = decide(workload, History(), seen({"s.generation_tokens_per_s": fresh(value)}, desired=3))
    assert decision.target == 3
    assert decision.recommendations[0].evidence is Evidence.BLIND
    assert "s.generation_tokens_per_s" in decision.recommendations[0].reason


@pytest.mark.parametrize("size", [MAX_PLAUSIBLE_REPLICAS + 1, 10**12, -1])
def test_implausible_pool_size_counts_as_unread(size: int) -> None:
    workload = spec({"p": QueueDepth(source="s")}, {"a": Pool(), "b": Pool()})
    statuses = {"a": Fresh(PoolStatus(size, 2), NOW), "b": Fresh(PoolStatus(2, 2), NOW)}
    observation = seen({"s.visible": fresh(5.0), "s.in_flight": fresh(0.0)}, pools=statuses)
    decision = decide(workload, History(), observation)
    assert dict(decision.targets) == {}
    assert "plausible are 0 to 1000000 replicas" in decision.reason


@pytest.mark.slow
def test_largest_plausible_pool_size_has_a_bounded_cost() -> None:
    workload = spec(KINDS["predictive"], max_replicas=100_000)
    history = History()
    for i in range(3):
        at = NOW + 15.0 * i
        now = {n: dataclasses.replace(r, measured_at=at) for n, r in readings(1e6, within=True).items()}
        observation = seen(now, MAX_PLAUSIBLE_REPLICAS, ready=0, at=at)
        decision, peak, calls = measured(workload, history, observation)
        assert peak <= MAX_BYTES
        assert calls <= MAX_CALLS
        with Calls() as counter:
            history.append(tick_of(observation, decision))
        assert counter.count <= 5 * MAX_PENDING, "the history records no more than the largest maximum"


PEAKS = ((0.5, 1e15), (0.99, 1e17))


def test_headroom_for_huge_peaks_has_a_bounded_cost() -> None:
    workload = spec(
        {"p": FixedRecommendation(replicas=4.0, peaks=PEAKS)},
        PRICED,
        max_replicas=100_000,
        slo_violation_cost_ratio=1e6,
    )
    statuses = {n: Fresh(PoolStatus(4 * (n == "sure"), 4 * (n == "sure")), NOW) for n in PRICED}
    decision, peak, calls = measured(workload, History(), seen({}, pools=statuses))
    assert decision.targets[PoolName("rests")] == 100_000 - 4
    assert peak <= MAX_BYTES
    assert calls <= MAX_CALLS


# --- what a policy recommends

RECOMMENDATION = Recommendation(
    PolicyName("p"), 36.0, Evidence.FULL, True, "36 wait", unstabilized=40.0, latency_driven=4.0, work=30.0
)


def test_need_above_max_replicas_is_reported_unchanged() -> None:
    assert bounded_recommendation(RECOMMENDATION, max_need(spec(max_replicas=20), 5), {}) is RECOMMENDATION


def test_huge_need_is_capped_at_ten_times_the_maximum() -> None:
    huge = dataclasses.replace(
        RECOMMENDATION, replicas=1e15, unstabilized=2e15, latency_driven=1e15, work=1e14, peaks=((0.5, 1e14),)
    )
    bounded = bounded_recommendation(huge, max_need(spec(max_replicas=20), 30), {})
    assert (bounded.replicas, bounded.unstabilized, bounded.work, bounded.peaks) == (
        300.0,
        300.0,
        300.0,
        ((0.5, 300.0),),
    )
    assert bounded.latency_driven == 0.0, "load alone exceeds the cap"
    assert "limited to 300 replicas" in bounded.reason


@pytest.mark.parametrize("need", [math.nan, math.inf, -math.inf])
def test_non_finite_need_counts_as_no_recommendation(need: float) -> None:
    bounded = bounded_recommendation(
        dataclasses.replace(RECOMMENDATION, replicas=need, memory={"x": need}), 200.0, {"x": 1.0}
    )
    assert (bounded.need, bounded.evidence, bounded.memory) == (None, Evidence.BLIND, {"x": 1.0})
    assert bounded.reason == "no recommendation: the need is not a finite number (36 wait)"


@pytest.mark.parametrize("work", [math.nan, math.inf])
def test_non_finite_work_and_peaks_are_dropped(work: float) -> None:
    bounded = bounded_recommendation(
        dataclasses.replace(RECOMMENDATION, work=work, peaks=((0.5, 1.0), (0.9, work))), 200.0, {}
    )
    assert (bounded.replicas, bounded.work, bounded.peaks) == (36.0, None, ())


def test_implausible_reading_names_its_limit() -> None:
    checked = plausible(seen({"s.visible": fresh(2e12), "s.running": fresh(3.0)}))
    assert checked.readings == {
        "s.visible": Absent("2e+12 exceeds the largest plausible value of 1e+12"),
        "s.running": fresh(3.0),
    }
