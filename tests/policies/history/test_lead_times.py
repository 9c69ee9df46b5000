"""Lead times: arrived and pending replicas, and how long a request counts as supply."""

from __future__ import annotations

from policies.history.lead_times import LeadTimes


def test_lead_time_runs_from_decision_to_serving() -> None:
    lead_times = LeadTimes()
    lead_times.note(0, target=2, ready=2)
    lead_times.note(15, target=4, ready=2)
    lead_times.note(30, target=5, ready=2)
    lead_times.note(105, target=5, ready=3)
    lead_times.note(135, target=5, ready=5)
    assert len(lead_times) == 3
    assert [lead_times.quantile_s(q) for q in (0.0, 0.5, 1.0)] == [90, 105, 120]


def test_cancelled_replica_has_no_lead_time() -> None:
    lead_times = LeadTimes()
    lead_times.note(0, target=6, ready=2)
    lead_times.note(15, target=3, ready=2)
    lead_times.note(60, target=3, ready=3)
    lead_times.note(75, target=6, ready=3)
    lead_times.note(100, target=6, ready=6)
    assert len(lead_times) == 4
    assert lead_times.quantile_s(1.0) == 60
    assert lead_times.quantile_s(0.0) == 25


def test_lead_time_is_unknown_before_the_first_arrival() -> None:
    assert LeadTimes().quantile_s(0.9) is None


def test_replicas_delayed_by_a_shortage_record_no_lead_time() -> None:
    lead_times = LeadTimes()
    lead_times.note(0, target=3, ready=0)
    lead_times.mark_shortage()
    lead_times.note(15, target=4, ready=0)
    lead_times.note(1800, target=4, ready=3)
    assert len(lead_times) == 0
    lead_times.note(1815, target=4, ready=4)
    assert lead_times.quantile_s(0.5) == 1800, "a request after the shortage is a regular start"


def test_implausibly_long_starts_record_no_lead_time() -> None:
    lead_times = LeadTimes()
    lead_times.note(0, target=4, ready=0)
    lead_times.note(31_000, target=4, ready=4)
    assert (len(lead_times), lead_times.usual_s(90.0), lead_times.patience_s(90.0)) == (0, 90.0, 270.0)


def test_clock_jump_keeps_the_shortage_mark() -> None:
    lead_times = LeadTimes()
    lead_times.note(0, target=1, ready=0)
    lead_times.mark_shortage()
    lead_times.shift(-500.0)
    lead_times.note(-400, target=1, ready=1)
    assert len(lead_times) == 0
