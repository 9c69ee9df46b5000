"""The predictive policy on engines by a formula: the known failures of autoscalers for LLMs."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from policies.history.ticks import History
from policies.model import Absent, Evidence, Fresh, PolicyName, Reading, SignalName, Stale
from policies.model.spec import Slo
from policies.recommend.context import PolicyContext
from policies.recommend.predictive.backlog_clearing import BacklogNeed, BacklogSupply, WaitingWork, backlog_need
from policies.recommend.predictive.latency_model import LoadLimit, capacity_at, load_limit, recall_latencies
from policies.recommend.predictive.need import Need
from policies.recommend.predictive.policy import Predictive
from policies.recommend.predictive.slo_correction import IGNORED_RATIO, MAX_CORRECTION, MIN_CORRECTION, SloCorrection
from policies.signals.demand_hold import demand_to_hold
from policies.signals.latency_quantities import QUANTITIES
from tests.factories import NOW, spec
from tests.policies.recommend.engines import ITL, Day, Engines, recommendation_of

CALM = [60.0] * 120


def ideal_replicas(day: Day, rps: float) -> float:
    """Return the replicas that keep the p99 of ITL within 50 ms on the day's engines."""
    mean_s = ITL.mean_s(0.05, 0.99)
    return (
        rps * day.engines.tokens_per_request / (day.engines.saturation_tokens_per_s * (1 - day.engines.itl_s / mean_s))
    )


@pytest.mark.slow
def test_steady_load_converges_to_the_fewest_replicas_within_the_slo() -> None:
    day = Day()
    last = day.run(CALM)[-1]
    assert last.target is not None
    assert 0.9 * ideal_replicas(day, 60.0) <= last.target <= ideal_replicas(day, 60.0) + 2


@pytest.mark.slow
def test_wrong_configured_capacity_is_corrected_by_learning() -> None:
    day = Day(
        policy=Predictive(
            source="e", rate_window_s=60.0, quantile=0.5, prompt_tokens_per_s=80_000.0, generation_tokens_per_s=18_000.0
        )
    )
    last = day.run([60.0 + 20.0 * math.sin(k / 9) for k in range(400)])[-1]
    assert last.target is not None
    assert last.target >= ideal_replicas(day, 50.0)
    assert recommendation_of(last).memory["itl_s.saturation"] == pytest.approx(0.5, rel=0.25)


@pytest.mark.slow
def test_queue_of_earlier_engines_does_not_change_the_learned_itl() -> None:
    day = Day()
    size = day.run(CALM)[-1].target
    assert size is not None
    day.sizes = [1] * len(day.sizes)
    before = recommendation_of(day.run([60.0] * 2)[-1]).memory
    day.sizes = [size + 2] * len(day.sizes)
    day.engines.waiting = 0.0
    day.transform = lambda values: {**values, "waiting": 1000.0, "ttft_mean_s": 30.0}
    after = recommendation_of(day.run([60.0] * 19)[-1]).memory
    assert {key: after[key] for key in after if key.startswith("itl_s")} == {
        key: before[key] for key in before if key.startswith("itl_s")
    }
    later = recommendation_of(day.run([60.0] * 12)[-1]).memory
    assert later["itl_s.saturation"] < after["itl_s.saturation"], "a longer-lasting queue belongs to all engines"


def test_flat_kv_cache_does_not_hide_a_growing_prefill_queue() -> None:
    """llm-d's workload-variant-autoscaler #662: usage stays at 32 % while the queue grows."""
    day = Day(
        engines=Engines(prompt=6000.0, output=2.0), ready=2, transform=lambda values: {**values, "kv_cache_usage": 0.32}
    )
    decisions = day.run([40.0] * 40)
    assert decisions[-1].target is not None
    assert decisions[-1].target >= 40.0 * 6000 / 40_000


@pytest.mark.parametrize(("prompt", "output"), [(1000.0, 200.0), (6000.0, 60.0)], ids=["conversation", "code"])
def test_initial_capacity_follows_the_prompt_to_output_ratio(prompt: float, output: float) -> None:
    policy = Predictive(source="e", rate_window_s=60.0, learn_capacity=False)
    first = recommendation_of(Day(policy=policy, engines=Engines(prompt=prompt, output=output), ready=20).tick(10.0))
    expected = load_limit(recall_latencies({}, prompt / output), {"ttft_s": 1.0, "itl_s": 0.05}, 0.99)
    assert first.work == pytest.approx(10.0 * (prompt / 40_000 + output / 9_000) / capacity_at(expected))
    assert capacity_at(expected) != capacity_at(load_limit(recall_latencies({}), {"ttft_s": 1.0, "itl_s": 0.05}, 0.99))


def test_rising_load_scales_out_before_requests_wait() -> None:
    day = Day(ready=6)
    day.run([30.0] * 80)
    size = day.sizes[-1]
    grown: list[float] = []
    for rps in np.linspace(30.0, 90.0, 60):
        decision = day.tick(float(rps))
        if decision.target is not None and decision.target > size:
            grown.append(day.engines.waiting)
            break
    assert grown == [0.0]


def test_gpu_utilization_does_not_change_the_decision() -> None:
    day = Day(transform=lambda values: {**values, "utilization": 1.0})
    idle = Day()
    assert [d.target for d in day.run([5.0] * 40)] == [d.target for d in idle.run([5.0] * 40)]


@pytest.mark.slow
def test_longer_outputs_at_the_same_rate_need_more_replicas() -> None:
    day = Day(ready=5)
    before = day.run(CALM)[-1]
    day.engines.output = 600.0
    after = day.run(CALM)[-1]
    assert before.target is not None
    assert after.target is not None
    assert after.target > before.target * 1.5


@pytest.mark.slow
def test_higher_quantile_reduces_the_shortage_on_a_ramp() -> None:
    shortages = {}
    for quantile in (0.5, 0.9):
        day = Day(policy=Predictive(source="e", rate_window_s=60.0, quantile=quantile, slo_correction=False), ready=4)
        day.run([30.0] * 60)
        shortage = 0.0
        for rps in np.linspace(30.0, 150.0, 90):
            day.tick(float(rps))
            shortage += max(0.0, ideal_replicas(day, float(rps)) - day.ready)
        shortages[quantile] = shortage
    assert shortages[0.9] < 0.7 * shortages[0.5]


@pytest.mark.slow
def test_unattainable_slo_does_not_scale_out_and_is_reported() -> None:
    """Dynamo's planner in SLA mode went from 2 to 8 replicas, its whole budget, for an ITL of 30 ms."""
    day = Day(slo=Slo(ttft_s=1.0, itl_s=0.03), engines=Engines(itl_s=0.035), ready=3)
    decisions = day.run([40.0] * 240)
    last = decisions[-1]
    assert last.target is not None
    assert last.target <= 6
    assert "misses its SLO at any size" in recommendation_of(last).reason


def test_sudden_load_on_one_replica_has_a_bounded_overshoot() -> None:
    """A slow start does not multiply the waiting requests, and one replica can still scale out."""
    day = Day(ready=1, lead_ticks=12, max_replicas=10_000)
    decisions = day.run([100.0] * 80)
    sizes = [d.target for d in decisions if d.target is not None]
    enough = ideal_replicas(day, 100.0)
    assert max(sizes) <= 6 * enough
    assert enough <= sizes[-1] <= 2 * enough


@pytest.mark.slow
def test_falling_load_removes_idle_replicas() -> None:
    day = Day(
        policy=dataclasses.replace(Day().policy, prompt_tokens_per_s=40_000.0, generation_tokens_per_s=9_000.0),
        ready=20,
    )
    sizes = [d.target for d in day.run([10.0] * 120)]
    assert sizes[-1] is not None
    assert sizes[-1] <= ideal_replicas(day, 10.0) + 1
    assert all(size is not None and size <= 2 for size in sizes[8:])


MISSING: dict[str, Reading[float]] = {"absent": Absent("gone"), "stale": Stale(1.0, NOW - 100, 100.0)}


@pytest.mark.slow
@pytest.mark.parametrize("reading", MISSING.values(), ids=MISSING)
@pytest.mark.parametrize("quantity", ["running", "waiting", "requests_per_s", "prompt_tokens_per_s"])
def test_missing_signal_does_not_count_as_zero(quantity: str, reading: Reading[float]) -> None:
    day = Day()
    day.run(CALM)
    readings = {SignalName(f"e.{k}"): Fresh(v, day.at) for k, v in day.engines.readings(60.0, 5).items()}
    readings[SignalName(f"e.{quantity}")] = reading  # type: ignore[assignment]
    context = PolicyContext(day.at, readings, 5, 5, None, day.history, spec=day.spec)
    recommendation = day.policy.recommend(PolicyName("predictive"), context)
    assert recommendation.evidence is not Evidence.FULL
    assert recommendation.replicas is None
    assert dict(recommendation.memory) == dict(day.history.memory(PolicyName("predictive")))


def test_simultaneous_zeros_under_load_are_believed_only_if_they_last() -> None:
    false_zeros = dict.fromkeys(Engines().readings(1.0, 1), 0.0)
    day = Day(transform=lambda values: dict(false_zeros) if is_faulty else values)
    is_faulty = False
    day.run(CALM)
    before = day.sizes[-1]
    is_faulty = True
    first = day.tick(60.0)
    assert recommendation_of(first).evidence is Evidence.BLIND
    assert first.target == before
    assert recommendation_of(day.run([60.0] * 19)[-1]).evidence is Evidence.BLIND
    assert recommendation_of(day.tick(60.0)).evidence is Evidence.FULL


def test_absent_kv_cache_reading_blocks_scale_in() -> None:
    day = Day(transform=lambda values: {**values, "kv_cache_usage": 0.3})
    day.run(CALM)
    readings: dict[SignalName, Reading[float]] = {
        SignalName(f"e.{k}"): Fresh(v, day.at) for k, v in day.engines.readings(60.0, 5).items()
    }
    readings[SignalName("e.kv_cache_usage")] = Absent("gone")
    recommendation = day.policy.recommend(
        PolicyName("predictive"), PolicyContext(day.at, readings, 5, 5, None, day.history, spec=day.spec)
    )
    assert recommendation.evidence is Evidence.PARTIAL
    assert recommendation.replicas is not None


def test_missing_latencies_teach_nothing_and_do_not_block_scale_in() -> None:
    day = Day(transform=lambda values: {k: v for k, v in values.items() if k not in QUANTITIES})
    last = day.run(CALM)[-1]
    assert last.may_scale_in
    assert recommendation_of(last).memory["itl_s.saturation"] == 1.0
    assert "no source reports TTFT or ITL" in recommendation_of(last).reason
    assert recommendation_of(last).latency_driven is None


def queue_view(visible: float, age_s: float | None = None, ready: int = 0, each_s: float = 0.0) -> PolicyContext:
    readings: dict[SignalName, Reading[float]] = {SignalName("q.visible"): Fresh(visible, NOW)}
    if age_s is not None:
        readings[SignalName("q.oldest_age_s")] = Fresh(age_s, NOW)
    history = History()
    return PolicyContext(NOW, readings, ready, ready, None, history, spec=spec({"p": WITH_QUEUE}))


WITH_QUEUE = Predictive(source="e", rate_window_s=60.0, queue="q")


def test_queue_activates_a_workload_without_engine_metrics() -> None:
    recommendation = WITH_QUEUE.recommend(PolicyName("p"), queue_view(50.0))
    assert (recommendation.active, recommendation.evidence) == (True, Evidence.PARTIAL)
    assert WITH_QUEUE.can_activate
    assert not WITH_QUEUE.recommend(PolicyName("p"), queue_view(0.0)).active


@pytest.mark.parametrize(
    ("requests", "rate", "ready", "size", "extra"),
    [
        pytest.param(0.0, 5.0, 1.0, 1.0, 0.0, id="nothing waits, whatever the rate"),
        pytest.param(1000.0, 4.0, 4.0, 4.0, math.sqrt(19 * 4 * 100 / 200), id="users wait: what that is worth"),
        pytest.param(1000.0, 4.0, 4.0, 8.0, 4.0, id="users wait, and help is under way"),
        pytest.param(1000.0, 0.0, 0.0, 0.0, 0.0, id="nobody comes whom it makes late"),
        pytest.param(10.0, 100.0, 100.0, 100.0, 1.0 / 15.0, id="no sooner than a turn"),
    ],
)
def test_backlog_need_counts_what_remains_when_replicas_start(
    requests: float, rate: float, ready: float, size: float, extra: float
) -> None:
    need = backlog_need(WaitingWork(requests, 0.1), rate, ready, size, BacklogSupply(100.0, 20.0, 100.0, 19.0))
    assert need.extra_replicas == pytest.approx(extra)


def test_reason_reports_the_backlog_and_its_replicas() -> None:
    need = backlog_need(WaitingWork(1000.0, 0.1), 4.0, 4.0, 8.0, BacklogSupply(100.0, 20.0, 100.0, 19.0))
    assert need.reason == (
        "1000 requests wait in the engines: clearing the backlog of 100 replica-seconds takes 4.0 more replicas"
    )


def test_reason_states_the_need_now_and_that_of_the_forecast() -> None:
    limit = LoadLimit(0.9, "", 0.0, 1.0)
    need = Need(5.1, 5.1, limit, BacklogNeed(0.0), None, 9.8, "0.20% late requests", SloCorrection(), ())
    assert need.reason(180.0).startswith("needs 5.1 replicas now, 9.8 within 180 s (0.20% late requests); ")
    assert replace(need, basis="").reason(180.0).startswith("needs 5.1 replicas now; ")


def test_slo_correction_rises_with_violations_and_falls_without() -> None:
    violated = idle = SloCorrection()
    for _ in range(2000):
        violated, idle = violated.after(0.2, 0.01, 15.0, 1800.0), idle.after(0.0, 0.01, 15.0, 1800.0)
    assert (violated.correction, idle.correction) == (MAX_CORRECTION, MIN_CORRECTION)
    assert SloCorrection().after(None, 0.01, 15.0, 1800.0) == SloCorrection()
    at_aim = SloCorrection()
    for _ in range(500):
        at_aim = at_aim.after(0.01, 0.01, 15.0, 1800.0)
    assert at_aim.correction == pytest.approx(1.0)


def test_slo_correction_ignores_late_shares_below_the_ignored_ratio() -> None:
    within = beyond = SloCorrection()
    for _ in range(500):
        within = within.after(0.9 * IGNORED_RATIO * 0.01, 0.01, 15.0, 1800.0)
        beyond = beyond.after(1.2 * IGNORED_RATIO * 0.01, 0.01, 15.0, 1800.0)
    assert within.correction == 1.0
    assert beyond.correction > 1.05


def test_slo_correction_recovers_within_an_hour_of_an_outage() -> None:
    state = SloCorrection()
    for _ in range(8):
        state = state.after(1.0, 0.01, 15.0, 1800.0)
    assert state.correction > 1.0
    for _ in range(240):
        state = state.after(0.005, 0.01, 15.0, 1800.0)
    assert state.correction == 1.0


@pytest.mark.slow
def test_peaks_are_monotonic_and_decisions_are_deterministic() -> None:
    day = Day(policy=Predictive(source="e", rate_window_s=60.0))
    last = day.run([60.0 + 20.0 * math.sin(k / 7) for k in range(240)])[-1]
    peaks = recommendation_of(last).peaks
    assert all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(peaks))
    again = Day(policy=Predictive(source="e", rate_window_s=60.0))
    assert again.run([60.0 + 20.0 * math.sin(k / 7) for k in range(240)])[-1] == last


def test_policy_without_an_slo_targets_throughput() -> None:
    day = Day()
    day.spec = dataclasses.replace(day.spec, slo=None)
    assert "limited by saturation" in recommendation_of(day.run(CALM)[-1]).reason


MINUTE = 4


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        pytest.param([4.0] * 56 + [0.1] * MINUTE, 4.0, id="gone within a minute: an outage"),
        pytest.param([0.0, 0.0, 6.0, 0.0] * 14 + [0.0] * MINUTE, 6.0, id="a pause between bursts"),
        pytest.param([4.0 - 0.01 * k for k in range(60)], 0.0, id="an evening"),
        pytest.param([4.0] * 60, 0.0, id="as ever"),
        pytest.param([0.0] * 60, 0.0, id="nothing for long"),
        pytest.param([4.0] * 56 + [math.nan] * MINUTE, 0.0, id="not seen: no collapse, and held for that"),
        pytest.param([math.nan] * 60, 0.0, id="never seen"),
    ],
)
def test_sudden_drop_of_demand_is_held_and_a_gradual_one_is_not(past: list[float], expected: float) -> None:
    assert demand_to_hold(np.array(past), MINUTE) == pytest.approx(expected)


@pytest.mark.slow
def test_sudden_drop_keeps_the_replicas_for_a_quarter_of_an_hour() -> None:
    day = Day(ready=6)
    day.run(CALM)
    before = day.sizes[-1]
    sizes = [d.target for d in day.run([0.5] * 100)]
    assert all(size is not None and size >= before - 1 for size in sizes[4:50])
    assert sizes[-1] == 1


def test_unknown_capacity_releases_a_fifth_of_the_replicas_at_a_time() -> None:
    unnamed = Predictive(source="e", rate_window_s=60.0)
    named = dataclasses.replace(unnamed, prompt_tokens_per_s=40_000.0, generation_tokens_per_s=9_000.0)
    guessed, given = (Day(policy=policy, ready=20) for policy in (unnamed, named))
    sizes = [[recommendation_of(decision).replicas for decision in day.run([30.0] * 3)] for day in (guessed, given)]
    assert sizes[0] == [16.0] * 3, "20 replicas less a fifth"
    assert max(size for size in sizes[1] if size is not None) < 12.0, "the given capacity is trusted"
    assert recommendation_of(guessed.tick(30.0)).reason.endswith("until their capacity is learned")
    last = recommendation_of(guessed.run([30.0] * 400)[-1])
    assert "until their capacity is learned" not in last.reason
    assert last.replicas is not None
    assert last.replicas < 12.0


def test_unknown_capacity_of_few_replicas_releases_one() -> None:
    day = Day(policy=Predictive(source="e", rate_window_s=60.0), ready=3)
    assert recommendation_of(day.tick(2.0)).replicas == 2.0
    assert recommendation_of(Day(policy=Predictive(source="e", rate_window_s=60.0), ready=3).tick(0.0)).replicas == 0.0


def test_window_that_the_source_reports_is_followed() -> None:
    def sizes(policy: Predictive, **reported: float) -> list[int]:
        day = Day(policy=policy, transform=lambda values: {**values, **reported})
        day.run([5.0, 20.0, 40.0, 10.0] * 10)
        return day.sizes

    configured = sizes(Predictive(source="e", rate_window_s=60.0))
    assert sizes(Predictive(source="e"), rate_window_s=60.0) == configured
    assert sizes(Predictive(source="e")) != configured, "120 s where no source reports one"
    assert sizes(Predictive(source="e", rate_window_s=60.0), rate_window_s=300.0) == configured


TOKENS = ("prompt_tokens_per_s", "generation_tokens_per_s")


@pytest.mark.parametrize(
    ("accumulating", "factor"),
    [pytest.param(0.0, 1.0 + 0.5 / 21, id="steady"), pytest.param(120.0, 1.5 * 1.2, id="rising")],
)
def test_tokens_of_one_window_count_by_their_part_of_five_minutes_unless_requests_accumulate(
    accumulating: float, factor: float
) -> None:
    """In one tick of 21 the tokens rise by half; 120 requests more in a window are a fifth of the completed ones."""

    def long_requests(values: dict[str, float]) -> dict[str, float]:
        longer = {name: 1.5 * values[name] for name in TOKENS}
        return {**values, **longer, "running": values["running"] + accumulating}

    def work(transform: Callable[[dict[str, float]], dict[str, float]]) -> float:
        day = Day(policy=Predictive(source="e", rate_window_s=60.0, learn_capacity=False), ready=20)
        day.run([10.0] * 40)
        day.transform = transform
        return recommendation_of(day.tick(10.0)).work or 0.0

    assert work(long_requests) == pytest.approx(factor * work(lambda values: values), rel=0.01)
