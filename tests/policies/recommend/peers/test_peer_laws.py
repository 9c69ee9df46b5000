"""Laws of the peers: they hold for all parameters, histories and faults, and after the guard."""

from __future__ import annotations

import dataclasses
import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.history.ticks import COLUMNS, History
from policies.model import Evidence, Fresh, PolicyName, SignalName
from policies.model.spec import WorkloadSpec
from policies.pipeline import decide
from policies.recommend.context import PolicyContext
from policies.recommend.peers.aibrix import AibrixApa
from policies.recommend.peers.dynamo import DynamoEasy
from policies.recommend.peers.dynamo_sla import DynamoSla
from policies.recommend.peers.hpa import Hpa, HpaMetric
from policies.recommend.peers.hpa_behavior import Behavior, ScaleDownRules, ScaleUpRules
from policies.recommend.peers.keda import Fallback, Keda, Trigger
from policies.recommend.peers.kpa import Kpa
from policies.recommend.peers.llmd import LlmD
from policies.recommend.peers.ray_serve import RayServe
from policies.recommend.peers.skyserve import SkyServeRequestRate
from policies.recommend.peers.static import Static
from scaler.journal.codec import decode_tick, encode_tick
from tests.factories import spec
from tests.laws import LAW
from tests.policies.random_workloads import SIGNALS, START, Dice, WorkloadRun
from tests.policies.test_laws import is_blind, sizes

FAST = Behavior(
    scale_up=ScaleUpRules(stabilization_window_s=30.0), scale_down=ScaleDownRules(stabilization_window_s=20.0)
)
METRICS = (
    HpaMetric(quantities=("visible", "in_flight"), target=5.0),
    HpaMetric(quantities=("waiting",), target=3.0, target_type="value", source="engine"),
    HpaMetric(type="pods", quantities=("kv_cache_usage",), target=0.5, source="engine"),
)
PEERS: tuple[Any, ...] = (
    Hpa(source="queue", metrics=METRICS),
    Hpa(source="queue", metrics=METRICS[:1], behavior=FAST),
    Keda(source="queue", triggers=(Trigger(quantities=("visible",), target=5.0),), cooldown_s=60.0),
    Keda(
        source="queue",
        triggers=(
            Trigger(quantities=("visible",), target=5.0, activation=2.0),
            Trigger(quantities=("running",), target=4.0, target_type="value", source="engine"),
        ),
        cooldown_s=30.0,
        fallback=Fallback(failure_threshold=1, replicas=4),
        active_replicas=2,
        behavior=FAST,
    ),
    Kpa(source="engine", target=20.0, stable_window_s=40.0, scale_down_delay_s=30.0),
    Kpa(source="engine", target=5.0, activation_scale=3, scale_to_zero_grace_s=0.0, stable_window_s=6.0),
    RayServe(source="engine", downscale_delay_s=45.0, upscaling_factor=0.7, downscaling_factor=0.3),
    SkyServeRequestRate(
        source="engine",
        quantity="tokens_per_s",
        target_qps_per_replica=700.0,
        upscale_delay_s=30.0,
        downscale_delay_s=60.0,
    ),
    LlmD(source="engine"),
    LlmD(source="engine", recipe="queue_guard"),
    LlmD(source="engine", recipe="saturation", pool_saturation="busy_share"),
    DynamoEasy(source="engine", kv_tokens=50_000),
    DynamoEasy(source="engine", kv_tokens=50_000, mode="prefill", optimize="latency"),
    DynamoSla(
        source="engine", kv_tokens=50_000, step_s=0.02, prompt_token_s=2e-5, kv_token_s=1e-7, adjustment_interval_s=45.0
    ),
    AibrixApa(source="engine", quantity="busy_share", observe_window_s=60.0, horizon_s=120.0),
    Static(replicas=3),
)


@st.composite
def specs(draw: st.DrawFn) -> WorkloadSpec:
    """Draw a workload with one peer policy."""
    high = draw(st.integers(1, 20))
    return spec(
        {"peer": draw(st.sampled_from(PEERS))},
        min_replicas=draw(st.integers(0, min(3, high))),
        max_replicas=high,
        interval_s=draw(st.sampled_from((15.0, 2.0, 60.0))),
    )


@st.composite
def workload_runs(draw: st.DrawFn) -> WorkloadRun:
    workload = draw(specs())
    run = WorkloadRun(workload, {name: draw(st.integers(0, 12)) for name in workload.pools}, calm=False)
    seeds = st.just(0) | st.binary(min_size=24, max_size=24).map(lambda b: int.from_bytes(b, "big"))
    for number in draw(st.lists(seeds, min_size=5, max_size=50)):
        run.tick(Dice(number))
    return run


@pytest.mark.slow
@LAW
@given(workload_runs())
def test_blind_peer_never_scales_in(run: WorkloadRun) -> None:
    for tick in run.ticks:
        if is_blind(tick):
            current = sizes(tick.observation)
            assert all(target >= current[pool] for pool, target in tick.decision.targets.items())


@LAW
@given(workload_runs())
def test_peer_stays_within_the_bounds_of_the_workload(run: WorkloadRun) -> None:
    for tick in run.ticks:
        decision = tick.decision
        if decision.target is not None and decision.may_scale_in and decision.targets:
            assert run.spec.min_replicas <= decision.target <= run.spec.max_replicas


@LAW
@given(workload_runs())
def test_recommendation_of_a_peer_is_finite_whole_and_nonnegative(run: WorkloadRun) -> None:
    for tick in run.ticks:
        for recommendation in tick.decision.recommendations:
            for size in (recommendation.replicas, recommendation.unstabilized):
                assert size is None or (math.isfinite(size) and size >= 0 and size == int(size))
            assert all(math.isfinite(value) for value in recommendation.memory.values())
            assert (recommendation.replicas is None) or recommendation.evidence is not Evidence.BLIND


@pytest.mark.slow
@LAW
@given(workload_runs())
def test_decisions_of_a_peer_follow_from_the_ticks_alone(run: WorkloadRun) -> None:
    history = History(7200.0)
    for tick in run.ticks:
        before = [history.column(c).tobytes() for c in range(len(COLUMNS))]
        assert decide(run.spec, history, tick.observation) == tick.decision
        assert decide(run.spec, history, tick.observation) == tick.decision
        assert [history.column(c).tobytes() for c in range(len(COLUMNS))] == before
        read_back = decode_tick(json.loads(json.dumps(encode_tick(tick.record))))
        assert read_back == tick.record
        history.append(read_back)


@LAW
@given(workload_runs(), st.integers(0, 30))
def test_history_that_covers_the_lookback_gives_the_same_decisions(run: WorkloadRun, late: int) -> None:
    """`WorkloadSpec.lookback_s` suffices for a replay from the middle of a journal."""
    history = History(7200.0)
    for tick in run.ticks[late:]:
        start = run.ticks[late].decision.at
        if tick.decision.at - start > run.spec.lookback_s:
            assert decide(run.spec, history, tick.observation) == tick.decision
        history.append(tick.record)


@LAW
@given(workload_runs(), st.sampled_from((-3600.0, 86_400.0)))
def test_clock_jump_changes_no_decision_of_a_peer(run: WorkloadRun, step_s: float) -> None:
    history = History(7200.0)
    for tick in run.ticks[:-1]:
        history.append(tick.record)
    last = run.ticks[-1]
    history.shift(step_s)
    readings = {
        name: dataclasses.replace(r, measured_at=r.measured_at + step_s) if isinstance(r, Fresh) else r
        for name, r in last.observation.readings.items()
    }
    moved = dataclasses.replace(last.observation, at=last.observation.at + step_s, readings=readings)
    again = decide(run.spec, history, moved)
    assert (again.target, again.capped_need) == (last.decision.target, last.decision.capped_need)


@LAW
@given(st.sampled_from(PEERS), st.integers(0, 50), st.integers(0, 50), st.floats(0, 1e12, allow_nan=False))
def test_recommendation_of_a_peer_is_finite_for_any_load(peer: Any, ready: int, pending: int, load: float) -> None:
    readings = {SignalName(name): Fresh(min(load, 1.0) if max(v) <= 1 else load, START) for name, v in SIGNALS.items()}
    recommendation = peer.recommend(
        PolicyName("me"), PolicyContext(START, readings, ready, ready + pending, None, History())
    )
    assert recommendation.replicas is None or (recommendation.replicas >= 0 and math.isfinite(recommendation.replicas))
