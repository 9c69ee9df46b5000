"""Replicas that lose readiness: a smaller measurement is then no evidence for a smaller size."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from policies.history.ticks import History
from policies.model import (
    Absent,
    Evidence,
    Fresh,
    Observation,
    PoolName,
    PoolStatus,
    Reading,
    RuleId,
    WorkloadName,
)
from policies.model.pool import Pool
from policies.pipeline import decide
from policies.recommend.readiness import LOST_S, NotReady, not_ready
from policies.recommend.threshold import KvCacheUsage, QueueDepth
from tests.factories import NOW, spec, tick_of
from tests.policies.recommend.losses import POLICIES, STEP_S, Replicas, engine_readings

LONG = round(2400.0 / STEP_S)
COUNTED = round(LOST_S / STEP_S)
BUSY = 0.75
"""The load of each of 12 replicas before anything is lost, in full replicas."""
EVERY = pytest.mark.parametrize("policies", POLICIES.values(), ids=POLICIES)


def busy(policies: Mapping[str, Any], size: int = 12, **settings: Any) -> Replicas:
    """Return a workload that needs about all of its replicas."""
    replicas = Replicas(policies, size, settings)
    replicas.ticks(20, BUSY * size)
    assert replicas.size >= size - 1
    return replicas


@EVERY
def test_none_ready_at_full_load_keeps_the_size(policies: Mapping[str, Any]) -> None:
    replicas = busy(policies)
    before = replicas.size
    replicas.lost = before
    assert set(replicas.ticks(LONG, 100.0)) == {before}


@EVERY
def test_none_ready_from_the_first_tick_keeps_the_size(policies: Mapping[str, Any]) -> None:
    replicas = Replicas(policies, lost=12)
    assert set(replicas.ticks(LONG, 100.0)) == {12}
    assert replicas.last is not None
    assert not replicas.last.may_scale_in


@pytest.mark.slow
@EVERY
@pytest.mark.parametrize("survivors", [1, 2, 9])
def test_full_survivors_keep_the_size_while_the_surplus_is_shed(policies: Mapping[str, Any], survivors: int) -> None:
    replicas = busy(policies)
    before = replicas.size
    replicas.lost = before - survivors
    assert set(replicas.ticks(LONG, 100.0)) == {before}


@pytest.mark.slow
@EVERY
def test_flapping_readiness_keeps_the_size(policies: Mapping[str, Any]) -> None:
    replicas = busy(policies)
    before = replicas.size
    for tick in range(LONG):
        replicas.lost = before - (12, 2, 0, 5)[tick // 3 % 4]
        assert replicas.tick(BUSY * before).target == before, tick


@EVERY
def test_survivors_with_spare_capacity_do_not_prove_lost_replicas_idle(policies: Mapping[str, Any]) -> None:
    replicas = busy(policies)
    before = replicas.size
    replicas.lost = 10
    sizes = replicas.ticks(COUNTED - 1, 0.3 * replicas.ready)
    assert min(sizes) >= before - 2, "the two ready replicas prove only their own drop in load"


@pytest.mark.slow
@EVERY
def test_lost_replicas_do_not_block_scale_in_forever(policies: Mapping[str, Any]) -> None:
    replicas = busy(policies)
    replicas.lost = 10
    window = round(60.0 / STEP_S)
    sizes = replicas.ticks(COUNTED + 2 * window + 60, 0.1)
    assert sizes[-1] <= 2


@pytest.mark.slow
@EVERY
def test_low_load_after_readiness_returns_scales_in(policies: Mapping[str, Any]) -> None:
    replicas = busy(policies)
    replicas.lost = 10
    replicas.ticks(20, 100.0)
    replicas.lost = 0
    assert replicas.ticks(100, 0.5)[-1] <= 2


@pytest.mark.slow
@EVERY
def test_own_scale_in_does_not_count_as_a_loss(policies: Mapping[str, Any]) -> None:
    replicas = busy(policies)
    sizes = replicas.ticks(100, 4.0)
    assert sizes[-1] <= 7
    assert replicas.ticks(100, 0.5)[-1] <= 2


def test_interrupted_replica_counts_as_full_and_is_removed_first() -> None:
    replicas = busy({"p": KvCacheUsage(source="e")})
    replicas.lost = 1
    sizes = replicas.ticks(12, 0.3 * replicas.ready)
    assert sizes[4] == 6, "11 ready at 30 of 80 % are 4.1, and one is counted as full"
    assert sizes[-1] == 5, "the replica that was not ready is removed first"


def test_loss_of_a_replica_smaller_than_one_equivalent_is_no_start() -> None:
    """Three replicas of half an equivalent count as 2, as four do, and the fourth was requested a moment ago."""
    workload = spec({"p": KvCacheUsage(source="e")}, {"main": Pool(work_per_replica=0.5)}, max_replicas=12)
    history, missing = History(workload.lookback_s), list[NotReady | None]()
    for tick, (desired, ready) in enumerate([(3, 3), (4, 3), (4, 4), (4, 3)]):
        at = NOW + tick * STEP_S
        pools = {PoolName("main"): Fresh(PoolStatus(desired, ready), at)}
        observation = Observation(WorkloadName("llm"), at, {}, pools)
        missing.append(not_ready(workload, history, observation, 2))
        history.append(tick_of(observation, decide(workload, history, observation)))
    assert [m and (m.lost_replicas, m.starting) for m in missing] == [None, (0, True), None, (1, False)]


def test_load_of_lost_replicas_is_named_in_the_reason() -> None:
    replicas = busy({"p": KvCacheUsage(source="e")})
    replicas.lost = 4
    decision = replicas.tick(0.5 * replicas.ready)
    assert "4 of 12 replicas are not ready: their last load counts" in decision.steps[0].reason
    replicas.lost = 10
    replicas.ticks(COUNTED + 2, 100.0)
    assert replicas.last is not None
    (step,) = (step for step in replicas.last.steps if step.rule == RuleId.READINESS)
    assert step.reason == (
        "10 of 12 replicas are not ready and the ready ones are full (policy p): the demand is unknown"
    )


@pytest.mark.slow
@pytest.mark.parametrize("policy", [POLICIES["concurrency"], POLICIES["kv_cache_usage"], POLICIES["predictive"]])
def test_waiting_requests_mean_full_replicas(policy: Mapping[str, Any]) -> None:
    replicas = busy(policy)
    before = replicas.size
    replicas.lost = 10
    waiting = {"e.waiting": Fresh(4.0, 0.0)}
    assert {replicas.tick(0.4, waiting).target for _ in range(LONG)} == {before}


def test_requests_lost_with_their_replicas_do_not_count_as_answered() -> None:
    replicas = Replicas(POLICIES["predictive"])
    for lost in (0, 10):
        replicas.lost = lost
        for _ in range(6):
            values = engine_readings(1.0, replicas.ready)
            values.pop("kv_cache_usage")
            decision = replicas.observe({f"e.{name}": Fresh(value, replicas.at) for name, value in values.items()})
            (recommendation,) = decision.recommendations
            assert recommendation.work is not None
            assert recommendation.work >= replicas.ready, f"{lost} are lost, and the others are full"
            assert decision.target == 12


def queue(visible: float) -> dict[str, Any]:
    return {"q.visible": Fresh(visible, 0.0), "q.in_flight": Fresh(0.0, 0.0)}


WITH_QUEUE = {"p": KvCacheUsage(source="e"), "q": QueueDepth(source="q")}


@pytest.mark.parametrize("survivors", [0, 2])
def test_empty_queue_allows_scale_in_despite_lost_replicas(survivors: int) -> None:
    replicas = Replicas(WITH_QUEUE)
    for _ in range(20):
        replicas.tick(9.0, queue(40.0))
    replicas.lost = 12 - survivors
    sizes = [replicas.tick(0.0, queue(0.0)).target for _ in range(COUNTED // 2)]
    assert sizes[-1] == 1


@pytest.mark.parametrize("reading", [Absent("no series"), Fresh(0.02, 0.0, "1 of 3 engines did not answer")])
def test_empty_queue_does_not_replace_a_partial_or_absent_reading(reading: Reading[float]) -> None:
    replicas = Replicas(WITH_QUEUE, lost=12)
    targets = {replicas.observe({**queue(0.0), "e.kv_cache_usage": reading}).target for _ in range(LONG)}
    assert targets == {12}


def test_empty_queue_does_not_scale_in_full_replicas() -> None:
    replicas = Replicas(WITH_QUEUE)
    replicas.lost = 10
    assert {replicas.tick(100.0, queue(0.0)).target for _ in range(LONG)} == {12}


def test_workload_scales_to_zero_if_its_replica_never_became_ready() -> None:
    replicas = Replicas(POLICIES["concurrency"], 1, {"min_replicas": 0, "max_replicas": 4}, lost=1)
    idle = {"e.running": Fresh(0.0, 0.0), "e.waiting": Fresh(0.0, 0.0)}
    assert [replicas.observe(idle).target for _ in range(60)][-1] == 0


def test_workload_with_lost_busy_replicas_does_not_scale_to_zero() -> None:
    replicas = busy(POLICIES["concurrency"], min_replicas=0)
    replicas.lost = 12
    idle = {"e.running": Fresh(0.0, 0.0), "e.waiting": Fresh(0.0, 0.0)}
    decisions = [replicas.observe(idle) for _ in range(COUNTED)]
    assert {d.target for d in decisions} == {decisions[0].target}
    assert {r.evidence for d in decisions for r in d.recommendations} == {Evidence.PARTIAL}


def test_lookback_covers_the_time_that_lost_replicas_count() -> None:
    assert Replicas(POLICIES["kv_cache_usage"]).spec.lookback_s >= LOST_S
