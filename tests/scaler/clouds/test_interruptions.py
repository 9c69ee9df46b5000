"""Interruptions, counted from notices and from replicas that no longer serve."""

from __future__ import annotations

import pytest

from policies.model import PoolPart
from scaler.clouds.interruptions import (
    INTERRUPTION_LIFETIME_S,
    InterruptionNotice,
    InterruptionTracker,
    Kind,
    NoticeBoard,
)
from scaler.clouds.parts import sum_parts
from tests.fakes import ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def board(clock: ManualClock) -> NoticeBoard:
    return NoticeBoard(clock)


@pytest.fixture
def tracker(board: NoticeBoard) -> InterruptionTracker:
    tracker = InterruptionTracker(board, overdue_s=180.0)
    tracker.observe({"a": 1, "b": 4})
    return tracker


def pin(board: NoticeBoard, machine: str, kind: Kind = "interruption", interrupts_at: float | None = None) -> None:
    board.pin(InterruptionNotice(machine, kind, board.clock.now(), interrupts_at))


def test_noticed_interruption_counts_its_replicas_once(board: NoticeBoard, tracker: InterruptionTracker) -> None:
    pin(board, "b")
    assert set(tracker.observe({"a": 1, "b": 4})) == {"b"}
    assert (tracker.observe({"a": 1}), tracker.interrupted) == (set(), 4)
    tracker.observe({"a": 1, "b": 4})
    tracker.observe({"a": 1})
    assert tracker.interrupted == 4, "its notice is removed with it"


def test_notice_between_two_observations_counts(board: NoticeBoard, tracker: InterruptionTracker) -> None:
    pin(board, "a")
    tracker.observe({"b": 4})
    assert tracker.interrupted == 1


def test_notice_removed_together_with_its_machine_counts(board: NoticeBoard, tracker: InterruptionTracker) -> None:
    pin(board, "a")
    tracker.observe({"a": 1, "b": 4})
    board.unpin("a")
    tracker.observe({"b": 4})
    assert tracker.interrupted == 1


def test_rebalance_recommendation_is_pending_but_not_an_interruption(
    board: NoticeBoard, tracker: InterruptionTracker
) -> None:
    pin(board, "a", "rebalance")
    assert set(tracker.observe({"a": 1, "b": 4})) == {"a"}
    tracker.observe({"b": 4})
    assert tracker.interrupted == 0


@pytest.mark.parametrize("later_s", [INTERRUPTION_LIFETIME_S + 1, -1.0])
def test_expired_notice_is_ignored(
    board: NoticeBoard, tracker: InterruptionTracker, clock: ManualClock, later_s: float
) -> None:
    pin(board, "a")
    clock.advance(later_s)
    assert not tracker.observe({"a": 1, "b": 4})
    tracker.observe({"b": 4})
    assert tracker.interrupted == 0


def test_machine_past_its_interruption_time_is_not_pending(
    board: NoticeBoard, tracker: InterruptionTracker, clock: ManualClock
) -> None:
    pin(board, "a", interrupts_at=clock.now() + 30.0)
    assert set(tracker.pending(["a"])) == {"a"}
    clock.advance(211)
    assert not tracker.pending(["a"])


def test_cloud_may_report_an_interruption_without_a_notice(board: NoticeBoard, tracker: InterruptionTracker) -> None:
    tracker.observe({"b": 4}, lambda name, noticed: name == "a" and not noticed)
    assert tracker.interrupted == 1


def test_parts_are_sums_by_zone_and_market() -> None:
    replicas = [
        PoolPart("b", "spot", 1),
        PoolPart("a", "spot", 1, 0, 1),
        PoolPart("a", "on_demand", 0, 1),
        PoolPart("a", "spot", 0, 1),
    ]
    assert sum_parts(replicas) == (
        PoolPart("a", "on_demand", 0, 1),
        PoolPart("a", "spot", 1, 1, 1),
        PoolPart("b", "spot", 1),
    )
