"""Pool memory: losses, refusals and waits, their decay, and clock jumps."""

from __future__ import annotations

import math

import pytest

from policies.history.capacity_backoff import FIRST_S, LONGEST_S, CapacityBackoff
from policies.history.capacity_ceiling import FORGET_S, CapacityCeiling
from policies.history.interruption_rate import (
    EVENTS,
    HOURS,
    NEW_EVENTS,
    NEW_HOURS,
    UNHELD_HALF_LIFE_S,
    InterruptionRate,
)
from policies.history.lead_times import LeadTimes
from policies.history.pool_memory import PoolMemory
from policies.model import Outcome, PoolName, PoolStatus, Result, Shortfall

POOL = PoolName("spot")
HOUR_S = 3600.0


def tick(
    memory: PoolMemory, at: float, status: PoolStatus, requested: int | None = None, *, abandoned: int = 0
) -> None:
    """Record a tick that requests `requested` replicas, or the current size."""
    after = status.desired if requested is None else requested
    memory.note(at, status, Outcome(POOL, status.desired, after, Result.ACCEPTED), abandoned, "abc")


# --- rate


def test_interruption_rate_falls_with_the_time_without_losses() -> None:
    rate = InterruptionRate()
    assert rate.per_hour == EVENTS / HOURS
    for _ in range(120):
        rate.note(60.0, replicas=3, lost=0, notice_s=0.0)
    assert rate.per_hour == pytest.approx(EVENTS / (HOURS + 2))


def test_interruption_starts_a_new_spell_after_any_quiet_time() -> None:
    rate = InterruptionRate()
    for _ in range(24 * 6):
        rate.note(600.0, replicas=3, lost=0, notice_s=0.0)
    rate.note(15.0, replicas=3, lost=1, notice_s=0.0)
    assert rate.per_hour == pytest.approx(NEW_EVENTS / NEW_HOURS)
    for _ in range(60):
        rate.note(60.0, replicas=2, lost=0, notice_s=0.0)
    assert rate.per_hour == pytest.approx(NEW_EVENTS / (NEW_HOURS + 1))


def test_time_without_replicas_decays_the_rate_towards_the_prior() -> None:
    rate = InterruptionRate()
    rate.note(60.0, replicas=3, lost=3, notice_s=0.0)
    rate.note(UNHELD_HALF_LIFE_S, replicas=0, lost=0, notice_s=0.0)
    assert EVENTS / HOURS < rate.per_hour < NEW_EVENTS / NEW_HOURS
    rate.note(20 * UNHELD_HALF_LIFE_S, replicas=0, lost=0, notice_s=0.0)
    assert rate.per_hour == pytest.approx(EVENTS / HOURS, rel=0.01)


def test_spell_begins_when_a_waiting_pool_gets_its_first_replica() -> None:
    memory = PoolMemory()
    tick(memory, 0.0, PoolStatus(3, 3))
    tick(memory, 60.0, PoolStatus(3, 0, interrupted=3), 1)
    for minute in range(2, 180):
        tick(memory, minute * 60.0, PoolStatus(1, 0, interrupted=3), abandoned=1)
    tick(memory, 180 * 60.0, PoolStatus(1, 1, interrupted=3))
    assert memory.interruption_rate.per_hour == pytest.approx(NEW_EVENTS / NEW_HOURS, rel=0.05)


def test_refusal_of_more_leaves_the_spell_of_the_replicas_that_serve() -> None:
    memory = PoolMemory()
    for minute in range(120):
        tick(memory, minute * 60.0, PoolStatus(2, 1), abandoned=1)
    assert memory.interruption_rate.per_hour == pytest.approx(EVENTS / (HOURS + 2), rel=0.01)


def test_time_without_replicas_raises_a_low_interruption_rate_towards_the_prior() -> None:
    rate = InterruptionRate()
    for _ in range(24):
        rate.note(600.0, replicas=3, lost=0, notice_s=0.0)
    quiet = rate.per_hour
    rate.note(UNHELD_HALF_LIFE_S, replicas=0, lost=0, notice_s=0.0)
    assert quiet < rate.per_hour < EVENTS / HOURS


def test_interrupted_share_is_learned() -> None:
    rate = InterruptionRate()
    for _ in range(20):
        rate.note(600.0, replicas=4, lost=1, notice_s=0.0)
    assert 0.25 < rate.share < 0.35


def test_learned_notice_is_weighted_by_the_losses_that_had_one() -> None:
    rate = InterruptionRate()
    assert rate.notice_s() == 0
    for _ in range(9):
        rate.note(60.0, replicas=1, lost=1, notice_s=100.0)
    assert 80 < rate.notice_s() < 100
    rate.note(60.0, replicas=1, lost=1, notice_s=0.0)
    assert rate.notice_s() < 90


def test_documented_notice_counts_half_until_losses_are_observed() -> None:
    announced, unannounced = InterruptionRate(), InterruptionRate()
    assert announced.notice_s(120.0) == 60
    for _ in range(9):
        announced.note(60.0, replicas=1, lost=1, notice_s=120.0)
        unannounced.note(60.0, replicas=1, lost=1, notice_s=0.0)
    assert announced.notice_s(120.0) == pytest.approx(110, rel=0.01)
    assert unannounced.notice_s(120.0) < 12


# --- ceiling


def test_capacity_ceiling_is_the_size_in_the_tick_after_a_refusal() -> None:
    memory = PoolMemory()
    tick(memory, 0.0, PoolStatus(2, 2))
    memory.note(15.0, PoolStatus(2, 2), Outcome(POOL, 2, 12, Result.OUT_OF_CAPACITY), 0, "abc")
    tick(memory, 30.0, PoolStatus(8, 2))
    assert memory.ceiling.held == 8
    assert memory.ceiling.max_supply == 9


@pytest.mark.parametrize(
    ("seen", "abandoned"),
    [
        (PoolStatus(12, 3, failed=4, shortfall=Shortfall(20.0, "none to be had")), 0),
        (PoolStatus(12, 8), 4),
        (PoolStatus(12, 8, interrupted=1), 0),
    ],
    ids=["reported", "never arrived", "interrupted"],
)
def test_capacity_ceiling_excludes_replicas_that_do_not_arrive(seen: PoolStatus, abandoned: int) -> None:
    memory = PoolMemory()
    tick(memory, 0.0, PoolStatus(12, seen.ready + seen.interrupted), 12)
    tick(memory, 30.0, seen, abandoned=abandoned)
    assert memory.ceiling.held == 8


def test_quota_error_sets_no_capacity_ceiling() -> None:
    memory = PoolMemory()
    tick(memory, 0.0, PoolStatus(2, 2), 12)
    tick(memory, 15.0, PoolStatus(12, 2, failed=10, shortfall=Shortfall(10.0, "quota", quota=True)))
    assert math.isinf(memory.ceiling.max_supply)


def test_requests_beyond_the_ceiling_double_after_each_success() -> None:
    ceiling, limits = CapacityCeiling().hit(8), []
    while ceiling.held is not None and ceiling.held < 23:
        limits.append(ceiling.max_supply)
        ceiling = ceiling.passed(int(ceiling.max_supply))
    assert limits == [9, 11, 15, 23]
    assert ceiling.hit(31).max_supply == 32, "refused again"


def test_unconfirmed_capacity_ceiling_is_forgotten() -> None:
    ceiling = CapacityCeiling().hit(8).aged(FORGET_S)
    assert ceiling.max_supply == 9
    assert math.isinf(ceiling.aged(15.0).max_supply)


# --- shortage


def test_each_refusal_doubles_the_wait_up_to_half_an_hour() -> None:
    shortage, at, waits = CapacityBackoff(), 0.0, []
    for _ in range(6):
        shortage = shortage.refused(at, "none")
        waits.append(shortage.until - at)
        at = shortage.until
    assert waits == [180, 360, 720, 1440, 1800, 1800]


def test_repeated_refusal_within_the_wait_counts_once() -> None:
    first = CapacityBackoff().refused(0.0, "none")
    assert first.refused(60.0, "none") == first
    assert first.is_active(FIRST_S - 1)
    assert not first.is_active(FIRST_S)


def test_refusal_long_after_the_last_restarts_the_wait() -> None:
    shortage = CapacityBackoff().refused(0.0, "none").refused(FIRST_S, "none")
    assert shortage.refused(10 * LONGEST_S, "none").wait_s == FIRST_S


def test_granted_replicas_end_the_backoff() -> None:
    shortage = CapacityBackoff().refused(0.0, "none").granted(9, 0.0)
    assert not shortage.is_active(1.0)
    assert shortage.refused(10.0, "none").wait_s == FIRST_S
    assert shortage.grant_probability() > CapacityBackoff().grant_probability()


# --- memory


@pytest.mark.parametrize(
    ("before", "requested", "after", "lost"),
    [
        (PoolStatus(3, 3), 3, PoolStatus(3, 1), 2),
        (PoolStatus(3, 3), 1, PoolStatus(1, 1), 0),
        (PoolStatus(3, 3), 1, PoolStatus(1, 0), 1),
        (PoolStatus(3, 3, interrupted=4), 3, PoolStatus(3, 3, interrupted=5), 1),
        (PoolStatus(3, 3, interrupted=4), 3, PoolStatus(3, 3), 0),
        (PoolStatus(3, 3), 3, PoolStatus(2, 2), 0),
    ],
    ids=["ready fell", "scaled in", "scaled in, one lost", "reported", "counter restarted", "another writer"],
)
def test_losses_between_ticks_are_counted(before: PoolStatus, requested: int, after: PoolStatus, lost: int) -> None:
    memory = PoolMemory()
    tick(memory, 0.0, before, requested)
    assert memory.lost(after) == lost


def test_pool_without_a_history_counts_all_pending_replicas() -> None:
    assert PoolMemory().expected_pending(PoolStatus(5, 2), 0.0, 60.0, interruptible=True) == 3


def test_replacements_of_losses_count_only_in_uninterruptible_pools() -> None:
    memory = PoolMemory()
    tick(memory, 0.0, PoolStatus(3, 3))
    now = PoolStatus(3, 1)
    assert memory.expected_pending(now, 15.0, 60.0, interruptible=True) == 0
    assert memory.expected_pending(now, 15.0, 60.0, interruptible=False) == 2, (
        "an on-demand replica that restarts comes back"
    )
    tick(memory, 15.0, now)
    assert memory.expected_pending(now, 30.0, 60.0, interruptible=True) == 0
    assert memory.interruption_backoff.is_active(30.0)


def test_request_counts_as_pending_until_the_patience_ends() -> None:
    memory = PoolMemory()
    tick(memory, 0.0, PoolStatus(1, 1), 3)
    tick(memory, 15.0, PoolStatus(3, 1), 4)
    assert [memory.expected_pending(PoolStatus(4, 1), at, 60.0, interruptible=True) for at in (30.0, 61.0, 76.0)] == [
        3,
        1,
        0,
    ]


def test_notice_runs_from_the_first_tick_that_reports_it() -> None:
    memory = PoolMemory()
    tick(memory, 0.0, PoolStatus(2, 2))
    tick(memory, 15.0, PoolStatus(2, 2, interruption_pending=1))
    tick(memory, 120.0, PoolStatus(2, 2, interruption_pending=1))
    tick(memory, 135.0, PoolStatus(2, 1, interrupted=1))
    assert memory.interruption_rate.notice_s() == pytest.approx(60.0, rel=0.01), "120 s, and a prior of none"


def test_clock_jump_keeps_the_ages_in_pool_memory() -> None:
    memory = PoolMemory()
    tick(memory, 0.0, PoolStatus(1, 1), 3)
    tick(memory, 15.0, PoolStatus(3, 1), abandoned=1)
    memory.shift(-5000.0)
    assert memory.expected_pending(PoolStatus(3, 1), -4950.0, 60.0, interruptible=True) == 2
    assert memory.backoff.is_active(-4950.0)
    assert not memory.backoff.is_active(-4700.0)


# --- patience


def test_wait_for_capacity_does_not_raise_the_patience() -> None:
    lead = LeadTimes()
    for i in range(9):
        lead.note(1000.0 * i, target=1, ready=0)
        lead.note(1000.0 * i + 100.0, target=1, ready=1)
        lead.note(1000.0 * i + 200.0, target=0, ready=0)
    lead.note(20_000.0, target=1, ready=0)
    lead.note(22_000.0, target=1, ready=1)
    assert lead.quantile_s(1.0) == 2_000
    assert lead.patience_s(prior_s=500.0) == 125


@pytest.mark.parametrize("waited_s", [1_200.0, 31_000.0])
def test_requests_that_waited_for_capacity_do_not_raise_the_lead_time(waited_s: float) -> None:
    memory = PoolMemory()
    tick(memory, 0.0, PoolStatus(0, 0), 4)
    tick(memory, 30.0, PoolStatus(4, 0, failed=4, shortfall=Shortfall(30.0, "no spot capacity")))
    tick(memory, waited_s, PoolStatus(4, 4))
    assert memory.lead_times.usual_s(prior_s=90.0) == 90.0
    assert memory.lead_times.patience_s(prior_s=90.0) == 270.0


def test_longer_start_is_learned_once_it_is_typical() -> None:
    lead = LeadTimes()
    for i in range(9):
        took_s = 100.0 if i < 4 else 600.0
        lead.note(1000.0 * i, target=1, ready=0)
        lead.note(1000.0 * i + took_s, target=1, ready=1)
        lead.note(1000.0 * i + 700.0, target=0, ready=0)
    assert lead.usual_s(prior_s=50.0) == 600


def test_patience_is_three_times_the_configured_lead_time_at_first() -> None:
    assert LeadTimes().patience_s(prior_s=120.0) == 360
