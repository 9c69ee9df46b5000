"""The bounded past: windows, gaps, lead times."""

from __future__ import annotations

import numpy as np

from policies.history import AT, MAY_LOWER, TARGET, WANTED, History, LeadTimes
from policies.model import Decision
from tests.factories import seen, tick_of


def row(history: History, at: float, *, target: int | None = 1, may_lower: bool = True, ready: int = 1) -> None:
    decision = Decision(at, (), 1.0, target, True, may_lower, target, ready, target, ())
    history.append(tick_of(seen({}, at=at), decision))


def test_a_window_is_what_lies_at_or_after_its_start() -> None:
    history = History()
    for at in (0, 15, 30, 45):
        row(history, at, target=at)
    assert history.column(TARGET, since=15).tolist() == [15, 30, 45]
    assert history.column(TARGET, since=46).tolist() == []


def test_keeps_its_span_and_no_more() -> None:
    history = History(span_s=600)
    for i in range(10_000):
        row(history, 15.0 * i)
    at = history.column(AT)
    assert at[0] == at[-1] - 600
    assert len(history) == 41


def test_keeps_no_more_rows_than_allowed() -> None:
    history = History(span_s=1e9, max_rows=100)
    for i in range(1000):
        row(history, float(i), target=i)
    assert history.column(TARGET).tolist() == list(range(900, 1000))


def test_refuses_a_row_that_does_not_lie_after_the_last() -> None:
    history = History()
    row(history, 100)
    row(history, 100)
    row(history, 50)
    assert history.column(AT).tolist() == [100]


def test_unknown_values_are_not_numbers() -> None:
    history = History()
    row(history, 1, target=5)
    row(history, 2, target=None)
    assert np.isnan(history.column(WANTED)[-1])


def test_the_longest_gap_counts_both_ends_of_the_window() -> None:
    history = History()
    for at in (0, 15, 30, 90, 105):
        row(history, at)
    assert history.longest_gap_s(MAY_LOWER, 0, 120) == 60
    assert history.longest_gap_s(MAY_LOWER, 95, 120) == 15
    assert history.longest_gap_s(MAY_LOWER, 100, 400) == 295
    assert history.longest_gap_s(MAY_LOWER, -50, 120) == np.inf, "nothing vouches for the window's start"


def test_turns_without_full_evidence_are_gaps() -> None:
    history = History()
    for at in (0, 15, 30, 45, 60):
        row(history, at, may_lower=at not in {15, 30, 45})
    assert history.longest_gap_s(MAY_LOWER, 0, 60) == 60


def test_a_clock_jump_moves_the_whole_past() -> None:
    history = History()
    row(history, 10, target=5, ready=1)
    history.shift(3600)
    assert history.column(AT).tolist() == [3610]
    row(history, 3625, target=5, ready=5)
    assert history.lead_times.quantile_s(0.5) == 15


def test_a_lead_time_runs_from_decided_to_serving() -> None:
    lead = LeadTimes()
    lead.note(0, target=2, ready=2)
    lead.note(15, target=4, ready=2)
    lead.note(30, target=5, ready=2)
    lead.note(105, target=5, ready=3)
    lead.note(135, target=5, ready=5)
    assert len(lead) == 3
    assert [lead.quantile_s(q) for q in (0.0, 0.5, 1.0)] == [90, 105, 120]


def test_a_replica_no_longer_wanted_has_no_lead_time() -> None:
    lead = LeadTimes()
    lead.note(0, target=6, ready=2)
    lead.note(15, target=3, ready=2)
    lead.note(60, target=3, ready=3)
    lead.note(75, target=6, ready=3)
    lead.note(100, target=6, ready=6)
    assert len(lead) == 4
    assert lead.quantile_s(1.0) == 60
    assert lead.quantile_s(0.0) == 25


def test_no_lead_time_is_known_before_the_first() -> None:
    assert LeadTimes().quantile_s(0.9) is None
