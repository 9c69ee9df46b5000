"""The pipeline from readings to targets, tick by tick."""

from __future__ import annotations

from typing import Any

import pytest

from policies.history.ticks import History
from policies.model import Absent, Evidence, Fresh, PoolStatus, Reading, RuleId, Stale
from policies.model.pool import Pool
from policies.model.spec import ScaleDown, ScaleUp
from policies.pipeline import decide
from policies.recommend.schedule import Schedule, Window
from policies.recommend.threshold import Concurrency, GpuUtilization, Headroom, QueueDepth
from tests.factories import ABSENT, MAIN, NOW, fresh, live, queue, seen, spec, stale, targets, tick_of

TWO = {"queue": QueueDepth(source="queue"), "gpu": GpuUtilization(source="gpu")}


def test_largest_need_sets_the_target_and_is_named_in_the_reason() -> None:
    decision = decide(spec(TWO), History(), seen({**queue(80), "gpu.utilization": fresh(0.7)}, desired=4))
    assert (decision.demand, decision.target, decision.targets) == (8.0, 8, {MAIN: 8})
    assert decision.steps[0].reason.startswith("queue recommends 8.00: 80 messages")


def test_one_fresh_signal_suffices_for_scale_out() -> None:
    decision = decide(spec(TWO), History(), seen({**queue(80), "gpu.utilization": ABSENT}, desired=4))
    assert (decision.target, decision.may_scale_in) == (8, False)


@pytest.mark.parametrize("missing", [ABSENT, stale(0.0)], ids=["absent", "stale"])
def test_scale_in_needs_every_signal(missing: Absent | Stale[float]) -> None:
    decision = decide(spec(TWO), History(), seen({**queue(10), "gpu.utilization": missing}, desired=9))
    assert decision.target == 9
    assert decision.steps[-1].rule == RuleId.EVIDENCE
    assert "gpu" in decision.reason


def test_partial_reading_scales_out_but_not_in() -> None:
    busy = {"engines.running": Fresh(900.0, NOW, "1 of 9 engines did not answer"), "engines.waiting": fresh(0)}
    workload = spec({"requests": Concurrency(source="engines")})
    assert decide(workload, History(), seen(busy, desired=5)).target == 9
    held = decide(workload, History(), seen(busy, desired=12))
    assert (held.target, held.may_scale_in) == (12, False)


def test_blind_workload_holds_its_size() -> None:
    decision = decide(spec(TWO), History(), seen({}, desired=9))
    assert (decision.demand, decision.target, decision.steps[0].rule) == (None, 9, "blind")


def test_pool_of_unknown_size_is_not_resized() -> None:
    decision = decide(spec(), History(), seen(queue(500), pools={"main": Absent("API down")}))
    assert (decision.current, decision.target, dict(decision.targets)) == (None, None, {})
    assert "API down" in decision.reason


def test_pool_with_a_stale_size_is_not_resized() -> None:
    old = Stale(PoolStatus(3, 3), NOW - 90, 90)
    decision = decide(spec(), History(), seen(queue(500), pools={"main": old}))
    assert (decision.current, dict(decision.targets)) == (3, {})


def test_pool_does_not_scale_in_while_another_pool_is_stale() -> None:
    statuses: dict[str, Reading[PoolStatus]] = {
        "a": Stale(PoolStatus(5, 5), NOW - 90, 90),
        "b": Fresh(PoolStatus(5, 5), NOW),
    }
    held = decide(spec(pools={"a": Pool(), "b": Pool()}), History(), seen(queue(10), pools=statuses))
    assert (dict(held.targets), held.may_scale_in) == ({"b": 5}, False)
    assert "missing: the size of pool a" in held.steps[1].reason
    grown = decide(spec(pools={"a": Pool(), "b": Pool()}), History(), seen(queue(120), pools=statuses))
    assert dict(grown.targets) == {"b": 7}


@pytest.mark.parametrize(("take_over", "targets_"), [(False, {}), (True, {MAIN: 5})], ids=["yields", "takes over"])
def test_pool_of_another_writer_is_resized_only_with_take_over(take_over: bool, targets_: dict[str, int]) -> None:
    pool = Pool(on_other_writer="take_over" if take_over else "yield")
    decision = decide(spec(pools={"main": pool}), History(), seen(queue(50), desired=2, foreign="HPA llm"))
    assert dict(decision.targets) == targets_
    if not take_over:
        assert "is not resized (on_other_writer: yield): HPA llm" in decision.reason


@pytest.mark.parametrize(
    ("need", "current", "target"),
    [(10.9, 10, 10), (11.1, 10, 12), (9.1, 10, 10), (8.9, 10, 9), (1.05, 1, 1), (0.5, 1, 1)],
)
def test_tolerance_is_a_dead_band_around_the_current_size(need: float, current: int, target: int) -> None:
    decision = decide(spec(tolerance=0.1), History(), seen(queue(need * 10), desired=current))
    assert decision.target == target


def test_floating_point_noise_does_not_add_a_replica() -> None:
    workload = spec({"queue": QueueDepth(source="queue", target_per_replica=0.1)})
    decision = decide(workload, History(), seen(queue(0.3), desired=3))  # 0.3 / 0.1 is 2.9999999999999996
    assert decision.capped_need == 3
    decision = decide(spec(), History(), seen(queue(30.000000000000004), desired=3))
    assert decision.capped_need == 3


def test_headroom_applies_on_top_of_the_measured_demand() -> None:
    workload = spec({"room": Headroom(share=0.5), "queue": QueueDepth(source="queue")})
    decision = decide(workload, History(), seen(queue(30), desired=1))
    assert (decision.demand, decision.target) == (3.0, 6)
    assert [r.policy for r in decision.recommendations] == ["room", "queue"]


# --- bounds


@pytest.mark.parametrize(("messages", "target"), [(0, 2), (5000, 6)], ids=["at least", "at most"])
def test_target_stays_within_min_and_max_replicas(messages: float, target: int) -> None:
    assert decide(spec(min_replicas=2, max_replicas=6), History(), seen(queue(messages), desired=3)).target == target


def test_size_above_the_maximum_falls_only_with_full_evidence() -> None:
    assert decide(spec(max_replicas=6), History(), seen(queue(5000), desired=9)).target == 6
    assert decide(spec(max_replicas=6), History(), seen({}, desired=9)).target == 9


def test_size_below_the_minimum_rises_even_when_blind() -> None:
    assert decide(spec(min_replicas=3), History(), seen({}, desired=1)).target == 3


def test_paused_workload_keeps_its_size_and_names_the_intended_one() -> None:
    decision = decide(spec(paused=True), History(), seen(queue(50), desired=2))
    assert (decision.target, dict(decision.targets)) == (2, {})
    assert "the configuration sets paused: true; 5 without it" in decision.reason


# --- windows


def test_scale_in_stops_at_the_largest_need_of_the_window() -> None:
    workload = spec(scale_down=ScaleDown(window_s=60, max_replicas=1000))
    decisions = live(workload, [queue(50)] * 6 + [queue(80)] + [queue(20)] * 6, start=5)
    assert targets(decisions) == [5] * 6 + [8] + [8] * 4 + [2, 2]


def test_scale_in_waits_until_the_history_covers_the_window() -> None:
    workload = spec(scale_down=ScaleDown(window_s=60, max_replicas=1000, max_evidence_gap_s=30))
    decisions = live(workload, [queue(20)] * 5, start=5)
    assert targets(decisions) == [5, 5, 5, 5, 2]


def test_single_blind_tick_does_not_reset_the_window() -> None:
    workload = spec(scale_down=ScaleDown(window_s=120, max_replicas=1000, max_evidence_gap_s=60))
    ticks = [queue(20)] * 4 + [{}] + [queue(20)] * 4
    assert targets(live(workload, ticks, start=5))[-1] == 2


def test_long_blind_period_within_the_window_holds_the_size() -> None:
    workload = spec(scale_down=ScaleDown(window_s=120, max_replicas=1000, max_evidence_gap_s=40))
    ticks = [queue(20)] * 4 + [{}] * 4 + [queue(20)] * 2
    assert set(targets(live(workload, ticks, start=5))) == {5}


def test_windows_are_in_seconds_not_ticks() -> None:
    workload = spec(scale_down=ScaleDown(window_s=60, max_replicas=1000), interval_s=5)
    quick = live(workload, [queue(50)] * 13 + [queue(20)] * 14, start=5, step_s=5)
    assert targets(quick)[13:] == [5] * 12 + [2, 2]


def test_scale_up_window_grows_to_its_smallest_need() -> None:
    workload = spec(scale_up=ScaleUp(window_s=30, max_replicas=1000))
    assert targets(live(workload, [queue(10), queue(90), queue(60), queue(90), queue(90)])) == [1, 1, 1, 6, 6]


# --- steps


def test_scale_out_is_limited_per_period() -> None:
    workload = spec(scale_up=ScaleUp(period_s=15, max_replicas=4, max_share=1.0))
    assert targets(live(workload, [queue(500)] * 6)) == [5, 10, 20, 40, 50, 50]


def test_scale_in_is_limited_per_period() -> None:
    workload = spec(scale_down=ScaleDown(window_s=0, period_s=60, max_replicas=2, max_share=0.5))
    sizes = targets(live(workload, [queue(400)] + [queue(10)] * 12, start=40))
    assert sizes == [40, 20, 20, 20, 20, 10, 10, 10, 10, 5, 5, 5, 5]


# --- zero


ZERO: dict[str, Any] = {"min_replicas": 0, "cooldown_s": 60.0}


def test_one_message_activates_a_workload_at_zero() -> None:
    assert decide(spec(**ZERO), History(), seen(queue(1), desired=0)).target == 1


def test_workload_stays_at_zero_up_to_the_activation_threshold() -> None:
    workload = spec({"queue": QueueDepth(source="queue", activation=5)}, **ZERO)
    assert decide(workload, History(), seen(queue(5), desired=0)).target == 0
    assert decide(workload, History(), seen(queue(6), desired=0)).target == 1


def test_workload_scales_to_zero_only_after_the_cooldown() -> None:
    decisions = live(spec(**ZERO), [queue(10)] * 3 + [queue(0)] * 6)
    assert targets(decisions) == [1] * 7 + [0, 0]
    assert decisions[6].steps[-1].rule == RuleId.COOLDOWN


def test_work_below_activation_does_not_delay_scale_to_zero() -> None:
    workload = spec({"queue": QueueDepth(source="queue", activation=5)}, **ZERO)
    assert targets(live(workload, [queue(4)] * 6))[-1] == 0


def test_scale_to_zero_needs_evidence_for_the_whole_cooldown() -> None:
    assert targets(live(spec(**ZERO), [{}] * 3 + [queue(0)] * 4)) == [1] * 7


def test_blind_tick_does_not_scale_to_zero() -> None:
    decisions = live(spec(**ZERO), [queue(0)] * 8 + [{}], start=1)
    assert decisions[-1].target == decisions[-2].target
    held = live(spec(TWO, **ZERO), [{**queue(0), "gpu.utilization": ABSENT}] * 9)
    assert set(targets(held)) == {1}


def test_absent_gpu_utilization_at_zero_does_not_block_activation() -> None:
    workload = spec(TWO, **ZERO)
    decision = decide(workload, History(), seen({**queue(30), "gpu.utilization": ABSENT}, desired=0))
    assert decision.target == 3


def test_schedule_activates_a_workload_at_zero_without_readings() -> None:
    always = Schedule(windows=(Window(start="00:00", end="00:00", replicas=2),))
    workload = spec({"queue": QueueDepth(source="queue"), "hours": always}, **ZERO)
    assert decide(workload, History(), seen({}, desired=0)).target == 2


# --- pools


def test_pools_fill_in_order_and_empty_in_reverse() -> None:
    pools = {"reserved": Pool(max_replicas=4), "spot": Pool(max_replicas=6), "rest": Pool()}

    def sizes(messages: float, *current: int) -> dict[str, int]:
        statuses = {n: Fresh(PoolStatus(s, s), NOW) for n, s in zip(pools, current, strict=True)}
        return {
            str(n): t
            for n, t in decide(spec(pools=pools), History(), seen(queue(messages), pools=statuses)).targets.items()
        }

    assert sizes(120, 0, 0, 0) == {"reserved": 4, "spot": 6, "rest": 2}
    assert sizes(70, 4, 6, 2) == {"reserved": 4, "spot": 3, "rest": 0}
    assert sizes(70, 0, 6, 1) == {"reserved": 0, "spot": 6, "rest": 1}, "never moved between pools"


def test_own_pools_add_what_a_pool_of_another_writer_lacks() -> None:
    pools = {"theirs": Pool(), "ours": Pool()}
    statuses = {"theirs": Fresh(PoolStatus(2, 2, "a person"), NOW), "ours": Fresh(PoolStatus(0, 0), NOW)}
    decision = decide(spec(pools=pools), History(), seen(queue(50), pools=statuses))
    assert dict(decision.targets) == {"ours": 3}


def test_decision_lists_every_recommendation() -> None:
    workload = spec({**TWO, "busy": Concurrency(source="e")})
    decision = decide(workload, History(), seen({**queue(5), "e.running": fresh(3)}, desired=1))
    evidence = {r.policy: r.evidence for r in decision.recommendations}
    assert evidence == {"queue": Evidence.FULL, "gpu": Evidence.BLIND, "busy": Evidence.PARTIAL}


def test_decide_does_not_change_its_inputs() -> None:
    history = History()
    observation = seen(queue(50), desired=2)
    first = decide(spec(), history, observation)
    assert len(history) == 0
    assert decide(spec(), history, observation) == first
    history.append(tick_of(observation, first))
    assert len(history) == 1
