"""GPU activity as the predictive policy's last resort: 100 % with a single request must not buy without end."""

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

LAST_RESORT = Predictive(source="e", rate_window_s=60.0, quantile=0.5, gpu_activity="e")
NAME = PolicyName("predictive")


def without_engine_metrics(utilization: float | None) -> dict[str, float]:
    """Return the readings while the engines' metrics are missing."""
    return {} if utilization is None else {"utilization": utilization}


def day_without_engine_metrics(utilization: float | None, turns: int) -> tuple[Day, float, list[int | None]]:
    """Return a day whose engine metrics disappear, the need before that, and the sizes after it."""
    lost = False
    day = Day(policy=LAST_RESORT, transform=lambda values: without_engine_metrics(utilization) if lost else values)
    needed = recommendation_of(day.run([60.0] * 80)[-1]).replicas
    assert needed is not None
    lost = True
    return day, needed, [decision.target for decision in day.run([1.0] * turns)]


def test_a_single_request_that_reads_100_percent_everywhere_buys_one_step_and_no_more() -> None:
    day, needed, sizes = day_without_engine_metrics(1.0, 400)
    assert sizes[-1] is not None
    assert max(size or 0 for size in sizes) <= MAX_RAISE * needed + 1
    assert sizes[-1] == sizes[100], "it stands still, however long the metrics are gone"
    decision = day.turn(1.0)
    assert "busy, not loaded" in recommendation_of(decision).reason
    assert "no more than" in recommendation_of(decision).reason
    assert recommendation_of(decision).evidence is Evidence.PARTIAL


def test_it_does_raise_where_all_that_is_there_is_busy() -> None:
    _, needed, sizes = day_without_engine_metrics(1.0, 40)
    assert sizes[-1] is not None
    assert sizes[-1] >= 1.3 * needed


@pytest.mark.parametrize("utilization", [0.0, 0.3, None], ids=["idle", "hardly busy", "not read either"])
def test_it_lowers_nothing(utilization: float | None) -> None:
    day, _, sizes = day_without_engine_metrics(utilization, 200)
    assert sizes[-1] == sizes[0] == day.sizes[-201]


def test_metrics_that_come_and_go_do_not_wind_it_up() -> None:
    day = Day(policy=LAST_RESORT)
    needed = recommendation_of(day.run([60.0] * 80)[-1]).replicas
    assert needed is not None
    for turn in range(400):
        day.transform = (lambda values: values) if turn % 8 == 0 else (lambda _: without_engine_metrics(1.0))
        day.turn(60.0)
    assert max(day.sizes[-300:]) <= MAX_RAISE * 1.3 * needed


def test_while_engines_tell_activity_is_not_looked_at() -> None:
    day = Day(policy=LAST_RESORT, transform=lambda values: {**values, "utilization": 1.0})
    plain = Day(policy=dataclasses.replace(LAST_RESORT, gpu_activity=None))
    assert [d.target for d in day.run([60.0] * 60)] == [d.target for d in plain.run([60.0] * 60)]


def context_of(readings: Mapping[str, Reading[float]], ready: int) -> PolicyContext:
    day = Day()
    values = {SignalName(name): reading for name, reading in readings.items()}
    return PolicyContext(day.at, values, ready, ready, None, day.history, spec=day.spec)


def test_from_a_start_without_a_past_it_goes_by_the_size_found_and_remembers_it() -> None:
    recommendation = LAST_RESORT.recommend(NAME, context_of({"e.utilization": Fresh(1.0, 0.0)}, 4))
    assert recommendation.replicas == pytest.approx(4 / 0.7)
    assert recommendation.memory == {"needed": 4.0}


def test_a_queue_goes_before_it() -> None:
    policy = dataclasses.replace(LAST_RESORT, queue="q")
    readings: dict[str, Reading[float]] = {"e.utilization": Fresh(1.0, 0.0), "q.visible": Fresh(0.0, 0.0)}
    assert "the queue is empty" in policy.recommend(NAME, context_of(readings, 4)).reason
    gone: dict[str, Reading[float]] = {**readings, "q.visible": Absent("no answer")}
    assert "busy, not loaded" in policy.recommend(NAME, context_of(gone, 4)).reason


def test_at_no_replica_nothing_is_said() -> None:
    recommendation = LAST_RESORT.recommend(NAME, context_of({"e.utilization": Fresh(1.0, 0.0)}, 0))
    assert (recommendation.replicas, recommendation.evidence) == (None, Evidence.BLIND)


def test_half_busy_is_worth_what_it_reads() -> None:
    assert activity_need(0.35, 4, 4.0).replicas == pytest.approx(2.0)


def test_a_source_without_utilization_is_refused() -> None:
    engines = {"kind": "prometheus", "url": "http://localhost:9090", "preset": "vllm"}
    read = ["running", "waiting", "requests_per_s", "prompt_tokens_per_s", "generation_tokens_per_s"]
    with pytest.raises(ConfigError, match="does not offer utilization"):
        workload_from(
            {
                "workload": "chat",
                "max_replicas": 4,
                "sources": {"engines": {**engines, "read": read}},
                "policies": {"p": {"kind": "predictive", "gpu_activity": "engines"}},
                "pools": {"gpus": {"kind": "kubernetes", "name": "vllm"}},
            }
        )
