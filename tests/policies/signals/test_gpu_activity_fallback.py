"""GPU activity as the predictive policy's fallback: 100 % with a single request must not scale out without end."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import pytest

from policies.model import Absent, Evidence, Fresh, PolicyName, Reading, SignalName
from policies.recommend.context import PolicyContext
from policies.recommend.predictive.policy import Predictive
from policies.signals.gpu_activity_fallback import MAX_RAISE, activity_need
from scaler.config.load import workload_from
from scaler.config.problems import ConfigError
from tests.policies.recommend.engines import Day, recommendation_of

WITH_FALLBACK = Predictive(source="e", rate_window_s=60.0, quantile=0.5, gpu_activity="e")
NAME = PolicyName("predictive")


def without_engine_metrics(utilization: float | None) -> dict[str, float]:
    """Return the readings while the engines' metrics are missing."""
    return {} if utilization is None else {"utilization": utilization}


def day_without_engine_metrics(utilization: float | None, ticks: int) -> tuple[Day, float, list[int | None]]:
    """Return a day whose engine metrics disappear, the need before that, and the sizes after it."""
    metrics_missing = False
    day = Day(
        policy=WITH_FALLBACK,
        transform=lambda values: without_engine_metrics(utilization) if metrics_missing else values,
    )
    needed = recommendation_of(day.run([60.0] * 80)[-1]).replicas
    assert needed is not None
    metrics_missing = True
    return day, needed, [decision.target for decision in day.run([1.0] * ticks)]


def test_full_gpu_activity_adds_one_step_and_no_more() -> None:
    day, needed, sizes = day_without_engine_metrics(1.0, 400)
    assert sizes[-1] is not None
    assert max(size or 0 for size in sizes) <= MAX_RAISE * needed + 1
    assert sizes[-1] == sizes[100], "the size does not change while the metrics are absent"
    decision = day.tick(1.0)
    assert "activity and not load" in recommendation_of(decision).reason
    assert "; limited to " in recommendation_of(decision).reason
    assert recommendation_of(decision).evidence is Evidence.PARTIAL


def test_full_gpu_activity_scales_out_by_at_least_30_percent() -> None:
    _, needed, sizes = day_without_engine_metrics(1.0, 40)
    assert sizes[-1] is not None
    assert sizes[-1] >= 1.3 * needed


@pytest.mark.slow
@pytest.mark.parametrize("utilization", [0.0, 0.3, None], ids=["idle", "hardly busy", "not read either"])
def test_low_or_absent_gpu_activity_never_lowers_the_size(utilization: float | None) -> None:
    day, _, sizes = day_without_engine_metrics(utilization, 200)
    assert sizes[-1] == sizes[0] == day.sizes[-201]


@pytest.mark.slow
def test_intermittent_engine_metrics_do_not_ratchet_the_size_up() -> None:
    day = Day(policy=WITH_FALLBACK)
    needed = recommendation_of(day.run([60.0] * 80)[-1]).replicas
    assert needed is not None
    for tick in range(400):
        day.transform = (lambda values: values) if tick % 8 == 0 else (lambda _: without_engine_metrics(1.0))
        day.tick(60.0)
    assert max(day.sizes[-300:]) <= MAX_RAISE * 1.3 * needed


def test_gpu_activity_is_ignored_while_engine_metrics_are_present() -> None:
    day = Day(policy=WITH_FALLBACK, transform=lambda values: {**values, "utilization": 1.0})
    plain = Day(policy=dataclasses.replace(WITH_FALLBACK, gpu_activity=None))
    assert [d.target for d in day.run([60.0] * 60)] == [d.target for d in plain.run([60.0] * 60)]


def context_of(readings: Mapping[str, Reading[float]], ready: int) -> PolicyContext:
    day = Day()
    values = {SignalName(name): reading for name, reading in readings.items()}
    return PolicyContext(day.at, values, ready, ready, None, day.history, spec=day.spec)


def test_fallback_without_a_history_starts_from_the_current_size() -> None:
    recommendation = WITH_FALLBACK.recommend(NAME, context_of({"e.utilization": Fresh(1.0, 0.0)}, 4))
    assert recommendation.replicas == pytest.approx(4 / 0.7)
    assert recommendation.memory == {"needed": 4.0}


def test_queue_takes_precedence_over_gpu_activity() -> None:
    policy = dataclasses.replace(WITH_FALLBACK, queue="q")
    readings: dict[str, Reading[float]] = {"e.utilization": Fresh(1.0, 0.0), "q.visible": Fresh(0.0, 0.0)}
    assert "the queue is empty" in policy.recommend(NAME, context_of(readings, 4)).reason
    without_queue: dict[str, Reading[float]] = {**readings, "q.visible": Absent("no answer")}
    assert "activity and not load" in policy.recommend(NAME, context_of(without_queue, 4)).reason


def test_fallback_is_blind_at_zero_replicas() -> None:
    recommendation = WITH_FALLBACK.recommend(NAME, context_of({"e.utilization": Fresh(1.0, 0.0)}, 0))
    assert (recommendation.replicas, recommendation.evidence) == (None, Evidence.BLIND)


def test_gpu_activity_at_half_its_target_needs_half_the_replicas() -> None:
    assert activity_need(0.35, 4, 4.0).replicas == pytest.approx(2.0)


def test_source_without_utilization_is_rejected() -> None:
    engines = {"kind": "prometheus", "url": "http://localhost:9090", "preset": "vllm"}
    read = ["running", "waiting", "requests_per_s", "prompt_tokens_per_s", "generation_tokens_per_s"]
    with pytest.raises(ConfigError, match="does not provide utilization"):
        workload_from(
            {
                "workload": "chat",
                "max_replicas": 4,
                "sources": {"engines": {**engines, "read": read}},
                "policies": {"p": {"kind": "predictive", "gpu_activity": "engines"}},
                "pools": {"gpus": {"kind": "kubernetes", "name": "vllm"}},
            }
        )
