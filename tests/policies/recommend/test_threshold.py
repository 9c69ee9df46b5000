"""The recommendation of each threshold policy for its signals."""

from __future__ import annotations

import pytest

from policies.history.ticks import History
from policies.model import Evidence, Fresh, PolicyName, Reading, SignalName
from policies.recommend.context import Policy, PolicyContext
from policies.recommend.threshold import Concurrency, GpuUtilization, Headroom, KvCacheUsage, Metric, QueueDepth
from tests.factories import ABSENT, NOW, fresh, stale

ME = PolicyName("me")


def context(readings: dict[str, Reading[float]], ready: int | None = 4, demand: float | None = None) -> PolicyContext:
    return PolicyContext(NOW, {SignalName(n): r for n, r in readings.items()}, ready, ready, demand, History())


def test_defaults_match_the_documented_values() -> None:
    assert QueueDepth().target_per_replica == 10
    assert GpuUtilization().target == 0.70
    assert KvCacheUsage().target == 0.80
    assert Concurrency().target_per_replica == 100
    assert Headroom().share == 0.5


@pytest.mark.parametrize(
    ("policy", "readings", "ready", "replicas"),
    [
        pytest.param(
            QueueDepth(source="q"), {"q.visible": 25, "q.in_flight": 5}, 1, 3.0, id="messages waiting and in work"
        ),
        pytest.param(QueueDepth(source="q", count=("visible",)), {"q.visible": 25}, 1, 2.5, id="waiting only"),
        pytest.param(QueueDepth(source="q"), {"q.visible": 0, "q.in_flight": 0}, 3, 0.0, id="an empty queue"),
        pytest.param(QueueDepth(source="q"), {"q.visible": 7, "q.in_flight": 0}, 0, 0.7, id="a queue at zero replicas"),
        pytest.param(Concurrency(source="e"), {"e.running": 150, "e.waiting": 50}, 1, 2.0, id="running and waiting"),
        pytest.param(GpuUtilization(source="g"), {"g.utilization": 0.91}, 10, 13.0, id="busy GPUs"),
        pytest.param(GpuUtilization(source="g"), {"g.utilization": 0.35}, 10, 5.0, id="idle GPUs"),
        pytest.param(KvCacheUsage(source="e"), {"e.kv_cache_usage": 0.96}, 5, 6.0, id="a full cache"),
        pytest.param(Metric(quantity="tps", target=50, source="e"), {"e.tps": 125}, 1, 2.5, id="a total"),
        pytest.param(Metric(quantity="ttft", target=2, source="e", across="mean"), {"e.ttft": 3}, 4, 6.0, id="a mean"),
    ],
)
def test_signals_convert_to_replica_equivalents(
    policy: Policy, readings: dict[str, float], ready: int, replicas: float
) -> None:
    recommendation = policy.recommend(ME, context({n: fresh(v) for n, v in readings.items()}, ready))
    assert recommendation.replicas == pytest.approx(replicas)
    assert recommendation.evidence is Evidence.FULL
    assert set(recommendation.used) == set(readings)


@pytest.mark.parametrize(
    ("readings", "replicas", "evidence"),
    [
        pytest.param(
            {"q.visible": fresh(50), "q.in_flight": ABSENT}, 5.0, Evidence.PARTIAL, id="one absent: a lower bound"
        ),
        pytest.param(
            {"q.visible": stale(900), "q.in_flight": fresh(20)}, 2.0, Evidence.PARTIAL, id="a stale one moves nothing"
        ),
        pytest.param(
            {"q.visible": stale(900), "q.in_flight": ABSENT}, None, Evidence.BLIND, id="none fresh: no opinion"
        ),
        pytest.param(
            {"q.visible": Fresh(50.0, NOW, "1 of 2 did not answer"), "q.in_flight": fresh(0)},
            5.0,
            Evidence.PARTIAL,
            id="a total of some is a lower bound",
        ),
        pytest.param({}, None, Evidence.BLIND, id="nothing at all: no opinion"),
    ],
)
def test_missing_reading_does_not_count_as_zero(
    readings: dict[str, Reading[float]], replicas: float | None, evidence: Evidence
) -> None:
    recommendation = QueueDepth(source="q").recommend(ME, context(readings))
    assert (recommendation.replicas, recommendation.evidence) == (replicas, evidence)


def test_utilization_is_blind_while_ready_replicas_are_unknown() -> None:
    recommendation = GpuUtilization(source="g").recommend(ME, context({"g.utilization": fresh(0.9)}, ready=None))
    assert (recommendation.replicas, recommendation.evidence) == (None, Evidence.BLIND)


@pytest.mark.parametrize(
    ("policy", "readings", "active"),
    [
        pytest.param(
            QueueDepth(source="q", activation=5), {"q.visible": 5, "q.in_flight": 0}, False, id="at the threshold"
        ),
        pytest.param(QueueDepth(source="q", activation=5), {"q.visible": 6, "q.in_flight": 0}, True, id="above it"),
        pytest.param(QueueDepth(source="q"), {"q.visible": 0, "q.in_flight": 1}, True, id="one message in work"),
        pytest.param(GpuUtilization(source="g"), {"g.utilization": 0.02}, False, id="an idle GPU's noise"),
        pytest.param(GpuUtilization(source="g"), {"g.utilization": 0.4}, True, id="a busy GPU"),
        pytest.param(Metric(quantity="m", target=1, source="e", activation=3), {"e.m": 2}, False, id="a small total"),
    ],
)
def test_activation_is_strictly_above_the_threshold(policy: Policy, readings: dict[str, float], active: bool) -> None:
    assert policy.recommend(ME, context({n: fresh(v) for n, v in readings.items()})).active is active


@pytest.mark.parametrize(
    ("groups", "ready", "replicas"),
    [
        pytest.param(fresh(3), 4, 3.0, id="fewer groups than workers: more find nothing"),
        pytest.param(fresh(4), 4, 10.0, id="every worker holds a group: more may help"),
        pytest.param(ABSENT, 4, 10.0, id="unknown groups cap nothing"),
        pytest.param(fresh(0), 0, 10.0, id="no workers yet: nothing to conclude"),
    ],
)
def test_fifo_queue_caps_the_useful_replicas(groups: Reading[float], ready: int, replicas: float) -> None:
    readings = {"q.visible": fresh(100), "q.in_flight": fresh(0), "q.groups_in_flight": groups}
    recommendation = QueueDepth(source="q", groups_per_replica=1).recommend(ME, context(readings, ready))
    assert recommendation.replicas == replicas


def test_headroom_leaves_a_share_free_and_reports_full_evidence() -> None:
    recommendation = Headroom(share=0.5).recommend(ME, context({}, demand=3.0))
    assert (recommendation.replicas, recommendation.evidence, recommendation.active) == (6.0, Evidence.FULL, False)
    blind = Headroom().recommend(ME, context({}, demand=None))
    assert (blind.replicas, blind.evidence) == (None, Evidence.FULL)
