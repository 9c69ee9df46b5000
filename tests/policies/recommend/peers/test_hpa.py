"""The HorizontalPodAutoscaler, against numbers computed by hand from its source and from studies of it."""

from __future__ import annotations

from typing import Literal

import pytest

from policies.history.ticks import History
from policies.model import Evidence, Fresh, PolicyName
from policies.recommend.context import PolicyContext
from policies.recommend.peers.hpa import Hpa, HpaMetric
from policies.recommend.peers.hpa_behavior import Behavior, ScaleDownRules, ScaleUpRules, ScalingPolicy
from policies.recommend.peers.hpa_replicas import PodGroups, Tolerance, by_average_value, by_pods, by_value
from tests.factories import ABSENT, NOW, fresh
from tests.policies.recommend.peers.ticks import PeerTicks, peak_under_backlog

TENTH = Tolerance(0.1, 0.1)
V2 = Behavior()
UNBOUNDED = Behavior(scale_up=ScaleUpRules(policies=(ScalingPolicy(type="pods", value=10**9, period_s=15.0),)))


def hpa(target: float = 100.0, *, value: bool = False, behavior: Behavior | None = None) -> Hpa:
    metric = HpaMetric(quantities=("n",), target=target, target_type="value" if value else "average_value")
    return Hpa(source="q", metrics=(metric,), behavior=behavior)


# --- the proposal of a metric


@pytest.mark.parametrize(
    ("total", "size", "asked"),
    [
        pytest.param(1000, 1, 10, id="shared out"),
        pytest.param(1090, 10, 10, id="within the tolerance above"),
        pytest.param(1100, 10, 10, id="at the tolerance"),
        pytest.param(1101, 10, 12, id="over it"),
        pytest.param(899, 10, 9, id="under it"),
        pytest.param(250, 0, 3, id="from zero"),
        pytest.param(0, 0, 0, id="nothing at zero"),
        pytest.param(30.000000000000004, 5, 1, id="no replica for rounding noise"),
    ],
)
def test_average_value_divides_a_total_whatever_is_ready(total: float, size: int, asked: int) -> None:
    assert by_average_value(total, 100, size, TENTH) == asked


@pytest.mark.parametrize(
    ("total", "size", "ready", "asked"),
    [
        pytest.param(300, 4, 4, 12, id="three times the target: three times the ready ones"),
        pytest.param(300, 12, 4, 12, id="the pending ones do not count"),
        pytest.param(300, 12, 12, 36, id="and multiply once they are ready: the runaway"),
        pytest.param(105, 7, 3, 7, id="within the tolerance: the size, not the ready ones"),
        pytest.param(300, 5, 0, 0, id="none ready: nothing asked for"),
        pytest.param(250, 0, 0, 3, id="from zero: the ratio itself"),
    ],
)
def test_value_multiplies_the_ready_replicas_by_the_ratio(total: float, size: int, ready: int, asked: int) -> None:
    assert by_value(total, 100, size, ready, TENTH) == asked


@pytest.mark.parametrize(
    ("mean", "size", "pods", "asked"),
    [
        pytest.param(1.5, 4, PodGroups(4), 6, id="all measured"),
        pytest.param(1.05, 4, PodGroups(4), 4, id="within the tolerance"),
        pytest.param(2.0, 6, PodGroups(3, missing=3), 6, id="growing: missing ones are idle, so half of it is there"),
        pytest.param(3.0, 6, PodGroups(3, missing=3), 9, id="growing: and what is beyond them is asked for"),
        pytest.param(2.0, 6, PodGroups(3, unready=3), 6, id="growing: unready ones are idle"),
        pytest.param(0.4, 10, PodGroups(5, missing=5), 7, id="shrinking: missing ones are at the target"),
        pytest.param(0.4, 10, PodGroups(5, unready=5), 2, id="shrinking: unready ones are left out"),
        pytest.param(1.3, 10, PodGroups(5, missing=5), 10, id="a direction that turns round changes nothing"),
        pytest.param(0.9, 10, PodGroups(1, missing=9), 10, id="filled up to the tolerance"),
        pytest.param(1.0, 10, PodGroups(5, missing=5), 10, id="at the target"),
        pytest.param(9.0, 4, PodGroups(0, missing=4), None, id="nobody measured"),
    ],
)
def test_pods_without_a_sample_make_the_change_smaller(
    mean: float, size: int, pods: PodGroups, asked: int | None
) -> None:
    assert by_pods(mean, 1.0, size, pods, TENTH) == asked


# --- windows and rates


@pytest.mark.parametrize(
    ("behavior", "sizes"),
    [
        pytest.param(V2, [5, 10, 20, 40, 50], id="v2's defaults: four, or double"),
        pytest.param(None, [4, 8, 16, 32, 50], id="without a behavior: double, or up to four"),
    ],
)
def test_scale_out_from_one_to_fifty(behavior: Behavior | None, sizes: list[int]) -> None:
    assert PeerTicks(hpa(behavior=behavior)).run(5, {"q.n": 5000}) == sizes


@pytest.mark.slow
@pytest.mark.parametrize(
    ("start_s", "value", "behavior", "peak"),
    [
        (30, False, None, 39),
        (30, False, V2, 35),
        (30, True, None, 480),
        (30, True, V2, 80),
        (30, True, UNBOUNDED, 294),
        (180, False, None, 162),
        (180, False, V2, 162),
        (180, True, None, 4224),
        (180, True, V2, 2592),
        (180, True, UNBOUNDED, 3524),
        (300, False, None, 270),
        (300, False, V2, 270),
        (300, True, None, 10176),
        (300, True, V2, 8640),
        (300, True, UNBOUNDED, 7872),
    ],
)
def test_backlog_with_slow_starts_overshoots_to_the_known_peak(
    start_s: float, value: bool, behavior: Behavior | None, peak: int
) -> None:
    """100 requests per second at 10 per replica: ten suffice. The peaks are those of an independent model."""
    ticks = PeerTicks(hpa(value=value, behavior=behavior), start_s=start_s)
    assert peak_under_backlog(ticks, "q.n", arrivals=100, served=10, minutes=15) == peak


@pytest.mark.parametrize("behavior", [V2, None], ids=["v2", "legacy"])
def test_scale_in_waits_for_the_largest_need_of_five_minutes(behavior: Behavior | None) -> None:
    ticks = PeerTicks(hpa(behavior=behavior), 10)
    ticks.run(2, {"q.n": 1000})
    sizes = ticks.run(22, {"q.n": 200})
    held = 19 if behavior else 20  # a proposal of exactly 300 s ago is too old with a behavior, and counts without
    assert sizes == [10] * held + [2] * (22 - held)


def test_initial_size_counts_as_a_recommendation() -> None:
    sizes = PeerTicks(hpa(behavior=V2), 10).run(21, {"q.n": 200})
    assert sizes == [10] * 20 + [2]


def test_scale_up_window_grows_to_its_smallest_need() -> None:
    behavior = Behavior(scale_up=ScaleUpRules(stabilization_window_s=60))
    ticks = PeerTicks(hpa(behavior=behavior), 2)
    ticks.run(1, {"q.n": 200})
    assert ticks.run(5, {"q.n": 600}) == [2, 2, 2, 6, 6]


@pytest.mark.parametrize(
    ("select", "sizes"),
    [("max", [5, 2, 0]), ("min", [8, 6, 4]), ("disabled", [10, 10, 10])],
)
def test_select_policy_picks_the_largest_change_the_smallest_or_none(
    select: Literal["max", "min", "disabled"], sizes: list[int]
) -> None:
    rules = ScaleDownRules(
        stabilization_window_s=0,
        select_policy=select,
        policies=(
            ScalingPolicy(type="percent", value=50, period_s=15),
            ScalingPolicy(type="pods", value=2, period_s=15),
        ),
    )
    ticks = PeerTicks(hpa(behavior=Behavior(scale_down=rules)), 10, min_replicas=0)
    assert ticks.run(3, {"q.n": 0}) == sizes


def test_rate_limit_counts_the_changes_within_its_period() -> None:
    rules = ScaleUpRules(policies=(ScalingPolicy(type="pods", value=3, period_s=60),))
    ticks = PeerTicks(hpa(behavior=Behavior(scale_up=rules)), 1)
    assert ticks.run(9, {"q.n": 5000}) == [4, 4, 4, 4, 7, 7, 7, 7, 10]


@pytest.mark.parametrize(
    ("found", "size"),
    [
        pytest.param(5, 9, id="nothing of it: four more may come"),
        pytest.param(7, 9, id="two of four: two more may come"),
        pytest.param(9, 9, id="all: none in this period"),
        pytest.param(3, 7, id="somebody removed two meanwhile: four more than there are"),
    ],
)
def test_rate_limit_counts_a_change_as_far_as_it_was_made(found: int, size: int) -> None:
    four = ScaleUpRules(policies=(ScalingPolicy(type="pods", value=4, period_s=60),))
    ticks = PeerTicks(hpa(behavior=Behavior(scale_up=four)), 5)
    assert ticks.tick({"q.n": 5000}) == 9
    ticks.size, ticks.ready_at = found, [NOW] * found
    assert ticks.tick({"q.n": 5000}) == size


def test_tolerance_applies_to_its_direction_only() -> None:
    behavior = Behavior(scale_up=ScaleUpRules(tolerance=0.5))
    ticks = PeerTicks(hpa(behavior=behavior), 10)
    assert ticks.tick({"q.n": 1400}) == 10
    assert ticks.tick({"q.n": 1600}) == 16


# --- several metrics, and missing ones

TWO = Hpa(source="q", metrics=(HpaMetric(quantities=("n",), target=10), HpaMetric(quantities=("m",), target=1)))


def test_largest_proposal_counts() -> None:
    assert PeerTicks(TWO, 4).tick({"q.n": 50, "q.m": 7}) == 7


def test_missing_metric_allows_only_scale_out_and_is_not_recorded() -> None:
    ticks = PeerTicks(TWO, 4)
    assert ticks.tick({"q.n": 80, "q.m": ABSENT}) == 8
    assert ticks.tick({"q.n": 10, "q.m": ABSENT}) == 8
    assert [d.capped_need for d in ticks.decisions] == [8, None]


def test_partial_reading_does_not_scale_in() -> None:
    ticks = PeerTicks(hpa(behavior=Behavior(scale_down=ScaleDownRules(stabilization_window_s=0))), 8)
    assert ticks.tick({"q.n": Fresh(100.0, ticks.at, "a replica did not answer")}) == 8
    assert ticks.tick({"q.n": 100}) == 1


def test_pods_metric_without_a_ready_replica_is_blind() -> None:
    policy = Hpa(source="e", metrics=(HpaMetric(type="pods", quantities=("kv",), target=0.5),))
    readings = {"e.kv": fresh(0.9)}
    recommendation = policy.recommend(PolicyName("me"), PolicyContext(NOW, readings, 0, 3, None, History()))  # type: ignore[arg-type]
    assert (recommendation.replicas, recommendation.evidence) == (None, Evidence.BLIND)
    assert not policy.can_activate


def test_need_before_windows_and_limits_is_recorded() -> None:
    ticks = PeerTicks(hpa(), 1)
    ticks.tick({"q.n": 5000})
    decision = ticks.decisions[0]
    assert (decision.demand, decision.capped_need, decision.target) == (50.0, 50, 4)
    assert [s.rule for s in decision.steps] == ["demand", "own limits"]
    assert "twice the size and 4" in decision.recommendations[0].reason
