"""A ScaledObject: activation, scale to zero, and fallback."""

from __future__ import annotations

import pytest

from policies.history.ticks import History
from policies.model import Evidence, PolicyName, RuleId
from policies.recommend.context import PolicyContext
from policies.recommend.peers.hpa_behavior import Behavior, ScaleDownRules, ScaleUpRules, ScalingPolicy
from policies.recommend.peers.keda import Fallback, Keda, Trigger
from tests.factories import ABSENT, NOW
from tests.policies.recommend.peers.ticks import PeerTicks

ONE = (Trigger(quantities=("n",), target=5, activation=2),)
AT_ONCE = Behavior(scale_down=ScaleDownRules(stabilization_window_s=0))


def test_defaults_match_keda() -> None:
    keda = Keda(triggers=ONE)
    assert (keda.polling_interval_s, keda.cooldown_s, keda.initial_cooldown_s) == (30, 300, 0)
    assert (keda.behavior, keda.tolerance, keda.downscale_stabilization_s, keda.fallback) == (None, 0.1, 300, None)


@pytest.mark.parametrize(("messages", "size"), [(2, 0), (3, 1), (500, 1)], ids=["at it", "above it", "far above it"])
def test_workload_leaves_zero_above_activation_with_one_replica(messages: float, size: int) -> None:
    assert PeerTicks(Keda(source="q", triggers=ONE), 0, min_replicas=0).tick({"q.n": messages}) == size


def test_activity_is_polled_every_30_s_and_the_size_every_15_s() -> None:
    ticks = PeerTicks(Keda(source="q", triggers=ONE), 0, min_replicas=0)
    assert ticks.tick({"q.n": 0}) == 0
    assert ticks.run(2, {"q.n": 500}) == [0, 1], "the next poll is 30 s after the first"
    assert ticks.run(2, {"q.n": 500}) == [4, 8]


def test_activation_is_no_scale_event_of_the_hpa() -> None:
    """KEDA's operator makes the change from zero, so a limit of one pod a minute allows another at once."""
    behavior = Behavior(scale_up=ScaleUpRules(policies=(ScalingPolicy(type="pods", value=1, period_s=60.0),)))
    ticks = PeerTicks(Keda(source="q", triggers=ONE, behavior=behavior), 0, min_replicas=0)
    assert ticks.run(6, {"q.n": 500}) == [1, 2, 2, 2, 2, 3]


def test_workload_scales_to_zero_after_the_cooldown() -> None:
    ticks = PeerTicks(Keda(source="q", triggers=ONE, cooldown_s=60, behavior=AT_ONCE), 3, min_replicas=0)
    assert ticks.run(3, {"q.n": 15}) == [3, 3, 3]
    assert ticks.run(8, {"q.n": 2}) == [1, 1, 1, 1, 1, 0, 0, 0], "active at 30 s, idle for over 60 s at 120 s"


def test_never_active_workload_scales_to_zero_after_initial_cooldown() -> None:
    assert PeerTicks(Keda(source="q", triggers=ONE, behavior=AT_ONCE), 1, min_replicas=0).run(4, {"q.n": 0}) == [
        1,
        1,
        0,
        0,
    ]
    later = Keda(source="q", triggers=ONE, behavior=AT_ONCE, initial_cooldown_s=60)
    assert PeerTicks(later, 1, min_replicas=0).run(7, {"q.n": 0}) == [1, 1, 1, 1, 1, 1, 0]


def test_workload_with_a_minimum_ignores_the_cooldown() -> None:
    ticks = PeerTicks(Keda(source="q", triggers=ONE, cooldown_s=0), 9, min_replicas=2)
    assert ticks.run(21, {"q.n": 0}) == [9] * 21
    assert ticks.run(2, {"q.n": 0}) == [2, 2]


def test_active_replicas_is_the_size_on_activation() -> None:
    keda = Keda(source="q", triggers=ONE, active_replicas=3, cooldown_s=30, behavior=AT_ONCE)
    ticks = PeerTicks(keda, 0, min_replicas=0)
    assert ticks.run(3, {"q.n": 4}) == [3, 3, 3]
    assert ticks.run(5, {"q.n": 0})[-1] == 0


def test_any_active_trigger_activates_and_the_largest_proposal_counts() -> None:
    triggers = (Trigger(quantities=("n",), target=5), Trigger(quantities=("m",), target=1, source="other"))
    ticks = PeerTicks(Keda(source="q", triggers=triggers), 0, min_replicas=0)
    assert ticks.tick({"q.n": 0, "other.m": 1}) == 1
    assert ticks.tick({"q.n": 0, "other.m": 3}) == 3


def test_failing_trigger_prevents_scale_to_zero() -> None:
    ticks = PeerTicks(Keda(source="q", triggers=ONE, cooldown_s=30, behavior=AT_ONCE), 2, min_replicas=0)
    ticks.run(2, {"q.n": 10})
    assert ticks.run(20, {"q.n": ABSENT}) == [2] * 20


def test_activity_with_a_failing_trigger_does_not_reset_the_cooldown() -> None:
    triggers = (Trigger(quantities=("n",), target=5), Trigger(quantities=("m",), target=5))
    ticks = PeerTicks(Keda(source="q", triggers=triggers, cooldown_s=60, behavior=AT_ONCE), 2, min_replicas=0)
    ticks.tick({"q.n": 10, "q.m": 0})
    assert ticks.run(7, {"q.n": 10, "q.m": ABSENT}) == [2] * 7, "active: the HPA holds it"
    assert ticks.tick({"q.n": 0, "q.m": 0}) == 0, "120 s after the last activity that counted"


def test_hpa_history_excludes_the_time_at_zero() -> None:
    ticks = PeerTicks(Keda(source="q", triggers=ONE), 0, min_replicas=0)
    ticks.run(1, {"q.n": 500})
    assert ticks.run(3, {"q.n": 500}) == [4, 8, 16]


# --- fallback

FALLBACK = Fallback(failure_threshold=3, replicas=6)


def test_fallback_applies_after_more_failures_than_the_threshold() -> None:
    ticks = PeerTicks(Keda(source="q", triggers=ONE, fallback=FALLBACK), 2)
    assert ticks.run(5, {"q.n": ABSENT}) == [2, 2, 2, 4, 6]


def test_successful_reading_resets_the_failure_count() -> None:
    ticks = PeerTicks(Keda(source="q", triggers=ONE, fallback=FALLBACK), 2)
    ticks.run(3, {"q.n": ABSENT})
    ticks.tick({"q.n": 10})
    assert ticks.run(3, {"q.n": ABSENT}) == [2, 2, 2]


def test_fallback_below_the_current_size_does_not_scale_in() -> None:
    low = Fallback(failure_threshold=0, replicas=1)
    ticks = PeerTicks(Keda(source="q", triggers=ONE, fallback=low, behavior=AT_ONCE), 20)
    assert ticks.run(30, {"q.n": ABSENT}) == [20] * 30
    assert ticks.decisions[-1].steps[-1].rule == RuleId.EVIDENCE


@pytest.mark.parametrize(
    ("behavior", "now", "size"),
    [
        ("static", 9, 6),
        ("current_replicas", 9, 9),
        ("current_replicas_if_higher", 9, 9),
        ("current_replicas_if_higher", 2, 6),
        ("current_replicas_if_lower", 9, 6),
        ("current_replicas_if_lower", 2, 2),
    ],
)
def test_fallback_behavior_may_use_the_current_size(behavior: str, now: int, size: int) -> None:
    assert Fallback(failure_threshold=1, replicas=6, behavior=behavior).size(now) == size  # type: ignore[arg-type]


def test_fallback_of_a_value_trigger_needs_ready_replicas() -> None:
    keda = Keda(
        source="q",
        triggers=(Trigger(quantities=("n",), target=5, target_type="value"),),
        fallback=Fallback(failure_threshold=0, replicas=6),
    )
    none_ready = keda.recommend(PolicyName("me"), PolicyContext(NOW, {}, 0, 3, None, History()))
    assert (none_ready.replicas, none_ready.evidence) == (None, Evidence.BLIND)
    two_ready = keda.recommend(PolicyName("me"), PolicyContext(NOW, {}, 2, 3, None, History()))
    assert (two_ready.unstabilized, two_ready.evidence) == (6.0, Evidence.PARTIAL)
