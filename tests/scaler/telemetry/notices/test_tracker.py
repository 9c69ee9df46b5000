"""When notices are sent: once at the start, once at the end, and again while a condition lasts."""

from __future__ import annotations

from typing import Any

from policies.model import Result, RuleId, Tick
from policies.model.error_budget import HOUR_S, MINUTE_S
from policies.model.limits import Override
from scaler.telemetry.notices.message import MAX_ALONE, MAX_LINES, messages
from scaler.telemetry.notices.tracker import Notice, Occasion, Tracker
from tests.factories import NOW, spec
from tests.scaler.telemetry.notices.ticks import BUDGET, budget, tick

SPEC = spec()
REPEAT_S = 4 * HOUR_S
FAILED: dict[str, Any] = {"pool_errors": {"gpus": "403 Forbidden"}}


def observed(ticks: list[Tick], tracker: Tracker | None = None) -> list[Notice]:
    tracker = tracker or Tracker(REPEAT_S)
    return [notice for t in ticks for notice in tracker.observe(t, SPEC)]


def every(step_s: float, until_s: float, first_s: float = 0.0, **conditions: Any) -> list[Tick]:
    count = round((until_s - first_s) / step_s)
    return [tick(first_s + i * step_s, **conditions) for i in range(count)]


def occasions(notices: list[Notice]) -> list[tuple[str, Occasion, float]]:
    return [(n.condition.event, n.occasion, n.at - NOW) for n in notices]


def test_condition_is_sent_at_its_start_and_at_its_end() -> None:
    ticks = [*every(60, 600, **FAILED), *every(60, 1200, 600)]
    assert occasions(observed(ticks)) == [("reads", Occasion.START, 120), ("reads", Occasion.END, 720)]


def test_short_failure_is_not_sent() -> None:
    ticks = [*every(15, 90, **FAILED), *every(15, 600, 90)]
    assert observed(ticks) == []


def test_condition_that_comes_and_goes_is_one() -> None:
    ticks = [t for i in range(20) for t in (tick(i * 120, **FAILED), tick(i * 120 + 60))]
    assert occasions(observed(ticks)) == [("reads", Occasion.START, 120)]


def test_lasting_condition_is_repeated_after_the_interval() -> None:
    notices = observed(every(60, 9 * HOUR_S, **FAILED))
    assert occasions(notices) == [
        ("reads", Occasion.START, 120),
        ("reads", Occasion.REPEAT, 120 + 4 * HOUR_S),
        ("reads", Occasion.REPEAT, 120 + 8 * HOUR_S),
    ]
    assert notices[1].since == NOW


def test_graver_state_is_sent_at_once() -> None:
    at_risk, violated = budget(0.0001), budget(0.02)
    risky = dict(at_risk.windows)
    for window in list(risky)[:-1]:
        risky[window] = violated.windows[window]._replace(late=2000.0)
    risk = type(at_risk)(0.99, at_risk.limits_s, risky, NOW)
    notices = observed([tick(0, slo=risk), tick(15, slo=violated), tick(30, slo=violated), tick(45, slo=risk)])
    assert [(n.finding.what, n.at - NOW) for n in notices] == [("SLO at risk", 0), ("SLO violated", 15)]


def test_unknown_state_ends_nothing() -> None:
    unknown = budget(0.0, measured_s=0.0)
    ticks = [tick(0, slo=budget(0.02)), *every(60, 2 * HOUR_S, 60, slo=unknown)]
    assert occasions(observed(ticks)) == [("slo", Occasion.START, 0)]


def test_wait_after_a_quota_error_ends_nothing() -> None:
    waits = {"steps": [(RuleId.SHORTAGE, "gpus: out of quota")]}
    ticks = [tick(0, result=Result.OUT_OF_QUOTA), *every(60, HOUR_S, 60, **waits), *every(60, 2 * HOUR_S, HOUR_S)]
    assert occasions(observed(ticks)) == [
        ("capacity", Occasion.START, 0),
        ("capacity", Occasion.END, HOUR_S + 10 * MINUTE_S),
    ]


def test_limit_that_a_budget_sets_is_sent_after_five_minutes() -> None:
    assert occasions(observed(every(60, 600, steps=[BUDGET]))) == [("budget", Occasion.START, 300)]


def test_ended_override_is_sent_once_and_its_removal_is_not() -> None:
    tracker, ended = Tracker(REPEAT_S), spec(override=Override(replicas=12, until="2026-06-01T10:00Z"))
    notices = [*tracker.observe(tick(0), ended), *tracker.observe(tick(15), ended), *tracker.observe(tick(30), SPEC)]
    assert occasions(notices) == [("override", Occasion.START, 0)]
    (message,) = messages(notices, None)
    assert message.body.startswith("manual override ended (since 2026-06-01 10:00 UTC).")
    assert tracker.observe(tick(4 * HOUR_S), SPEC) == []


def test_recorded_ticks_prevent_a_second_notice_after_a_restart() -> None:
    before, after = every(60, HOUR_S, **FAILED), every(60, 2 * HOUR_S, HOUR_S + 300, **FAILED)
    first = Tracker(REPEAT_S)
    assert len(observed(before, first)) == 1
    second = Tracker(REPEAT_S)
    observed(before, second)  # as of the journal
    assert observed(after, second) == []
    recovered = observed(every(60, 3 * HOUR_S, 2 * HOUR_S), second)
    assert occasions(recovered) == [("reads", Occasion.END, 2 * HOUR_S + 120)]
    assert recovered[0].since == NOW


def test_jump_of_the_clock_is_no_time_that_passed() -> None:
    tracker = Tracker(REPEAT_S)
    assert len(observed(every(60, 600, **FAILED), tracker)) == 1
    jumped = tick(600 + 9 * HOUR_S, clock_step_s=9 * HOUR_S, **FAILED)
    assert tracker.observe(jumped, SPEC) == []


def test_message_is_short_plain_text_with_number_remedy_and_link() -> None:
    notices = observed([tick(0, result=Result.OUT_OF_QUOTA, reason="64 of 64 vCPUs"), *every(60, 1200, 60)])
    start, end = messages(notices, "https://forescale.example.com/")
    assert (start.title, start.kind) == ("Forescale: chat capacity of pool gpus", "failure")
    assert start.body.splitlines() == [
        "quota refused (since 2027-01-15 08:00 UTC).",
        "64 of 64 vCPUs",
        "Have the quota raised, or free usage.",
        "https://forescale.example.com/",
    ]
    assert end.title == start.title, "services join both by the title"
    assert end.body.startswith("over after 11 min: quota refused (since 2027-01-15 08:00 UTC).")
    assert end.kind == "success"


def test_many_notices_share_a_message() -> None:
    (notice,) = observed([tick(0, result=Result.OUT_OF_QUOTA)])
    assert len(messages([notice] * MAX_ALONE, None)) == MAX_ALONE
    (message,) = messages([notice] * (MAX_LINES + 12), None)
    assert message.title == f"Forescale: {MAX_LINES + 12} notices"
    assert message.body.splitlines()[-1] == "and 12 more"
