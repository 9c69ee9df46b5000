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


def dark(busy: float | None) -> dict[str, float]:
    """What is told while the engines' metrics are gone."""
    return {} if busy is None else {"utilization": busy}


def day_gone_dark(busy: float | None, turns: int) -> tuple[Day, float, list[int | None]]:
    """A day whose engines fall silent: the day, what they needed before, and the sizes decided after."""
    lost = False
    day = Day(policy=LAST_RESORT, seen=lambda told: dark(busy) if lost else told)
    needed = recommendation_of(day.run([60.0] * 80)[-1]).replicas
    assert needed is not None
    lost = True
    return day, needed, [decision.target for decision in day.run([1.0] * turns)]


def test_a_single_request_that_reads_100_percent_everywhere_buys_one_step_and_no_more() -> None:
    day, needed, sizes = day_gone_dark(1.0, 400)
    assert sizes[-1] is not None
    assert max(size or 0 for size in sizes) <= MAX_RAISE * needed + 1
    assert sizes[-1] == sizes[100], "it stands still, however long the metrics are gone"
    decision = day.turn(1.0)
    assert "busy, not loaded" in recommendation_of(decision).reason
    assert "no more than" in recommendation_of(decision).reason
    assert recommendation_of(decision).evidence is Evidence.PARTIAL


def test_it_does_raise_where_all_that_is_there_is_busy() -> None:
    _, needed, sizes = day_gone_dark(1.0, 40)
    assert sizes[-1] is not None
    assert sizes[-1] >= 1.3 * needed


@pytest.mark.parametrize("busy", [0.0, 0.3, None], ids=["idle", "hardly busy", "not read either"])
def test_it_lowers_nothing(busy: float | None) -> None:
    day, _, sizes = day_gone_dark(busy, 200)
    assert sizes[-1] == sizes[0] == day.sizes[-201]


def test_metrics_that_come_and_go_do_not_wind_it_up() -> None:
    day = Day(policy=LAST_RESORT)
    needed = recommendation_of(day.run([60.0] * 80)[-1]).replicas
    assert needed is not None
    for turn in range(400):
        day.seen = (lambda told: told) if turn % 8 == 0 else (lambda _: dark(1.0))
        day.turn(60.0)
    assert max(day.sizes[-300:]) <= MAX_RAISE * 1.3 * needed


def test_while_engines_tell_activity_is_not_looked_at() -> None:
    day = Day(policy=LAST_RESORT, seen=lambda told: {**told, "utilization": 1.0})
    plain = Day(policy=dataclasses.replace(LAST_RESORT, gpu_activity=None))
    assert [d.target for d in day.run([60.0] * 60)] == [d.target for d in plain.run([60.0] * 60)]


def view_of(readings: Mapping[str, Reading[float]], ready: int) -> PolicyContext:
    day = Day()
    told = {SignalName(name): reading for name, reading in readings.items()}
    return PolicyContext(day.at, told, ready, ready, None, day.history, spec=day.spec)


def test_from_a_start_without_a_past_it_goes_by_the_size_found_and_remembers_it() -> None:
    found = LAST_RESORT.recommend(NAME, view_of({"e.utilization": Fresh(1.0, 0.0)}, 4))
    assert found.replicas == pytest.approx(4 / 0.7)
    assert found.memory == {"needed": 4.0}


def test_a_queue_goes_before_it() -> None:
    policy = dataclasses.replace(LAST_RESORT, queue="q")
    readings: dict[str, Reading[float]] = {"e.utilization": Fresh(1.0, 0.0), "q.visible": Fresh(0.0, 0.0)}
    assert "the queue is empty" in policy.recommend(NAME, view_of(readings, 4)).reason
    gone: dict[str, Reading[float]] = {**readings, "q.visible": Absent("no answer")}
    assert "busy, not loaded" in policy.recommend(NAME, view_of(gone, 4)).reason


def test_at_no_replica_nothing_is_said() -> None:
    found = LAST_RESORT.recommend(NAME, view_of({"e.utilization": Fresh(1.0, 0.0)}, 0))
    assert (found.replicas, found.evidence) == (None, Evidence.BLIND)


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
