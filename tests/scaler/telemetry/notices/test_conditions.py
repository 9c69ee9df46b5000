"""The conditions of a tick: what holds, what does not, and what is unknown."""

from __future__ import annotations

from typing import Any

import pytest

from policies.model import Result, RuleId
from policies.model.limits import Override
from policies.model.observation import Shortfall
from scaler.config.notices import EVENTS
from scaler.telemetry.notices.conditions import Finding, NotFound, State, states
from tests.factories import NOW, spec
from tests.scaler.telemetry.notices.ticks import BUDGET, QUOTA, budget, tick

ENDED = Override(replicas=12, until="2026-06-01T10:00Z", reason="launch")
SPEC = spec(override=ENDED)
CASES: dict[str, tuple[dict[str, Any], tuple[str, str], str | NotFound]] = {
    "met": ({"slo": budget(0.001)}, ("slo", "SLO"), NotFound.CLEAR),
    "violated": ({"slo": budget(0.02)}, ("slo", "SLO"), "SLO violated"),
    "not measured": ({"slo": budget(0.0, measured_s=0.0)}, ("slo", "SLO"), NotFound.UNKNOWN),
    "pool read": ({}, ("reads", "pool gpus"), NotFound.CLEAR),
    "pool not read": ({"pool_errors": {"gpus": "403"}}, ("reads", "pool gpus"), "cannot be read"),
    "quota error": (
        {"result": Result.OUT_OF_QUOTA, "reason": "64 vCPUs"},
        ("capacity", "capacity of pool gpus"),
        "quota refused",
    ),
    "quota shortfall": ({"shortfall": QUOTA}, ("capacity", "capacity of pool gpus"), "quota refused"),
    "stock-out": ({"result": Result.OUT_OF_CAPACITY}, ("capacity", "capacity of pool gpus"), "out of capacity"),
    "capacity shortfall": (
        {"shortfall": Shortfall(NOW, "no p5")},
        ("capacity", "capacity of pool gpus"),
        "out of capacity",
    ),
    "enough capacity": ({}, ("capacity", "capacity of pool gpus"), NotFound.CLEAR),
    "waits after a quota error": (
        {"steps": [(RuleId.SHORTAGE, "gpus: out of quota")]},
        ("capacity", "capacity of pool gpus"),
        NotFound.UNKNOWN,
    ),
    "failed write": ({"result": Result.UNAVAILABLE}, ("capacity", "capacity of pool gpus"), NotFound.UNKNOWN),
    "budget": ({"steps": [BUDGET]}, ("budget", "budget"), "budget reached"),
    "fleet's budget": ({"steps": [(RuleId.FLEET, "max_gpus")]}, ("budget", "budget"), "budget reached"),
    "no budget reached": ({}, ("budget", "budget"), NotFound.CLEAR),
    "blind": ({"demand": None, "target": None}, ("budget", "budget"), NotFound.UNKNOWN),
    "override ended": ({}, ("override", "override until 2026-06-01T10:00Z"), "manual override ended"),
}


@pytest.mark.parametrize("name", CASES)
def test_condition_of_a_tick(name: str) -> None:
    conditions, (event, subject), expected = CASES[name]
    found = {(c.event, c.subject): state for c, state in states(tick(**conditions), SPEC).items()}
    state: State = found[event, subject]  # type: ignore[index]  # the table's texts
    assert (state.what if isinstance(state, Finding) else state) == expected


def test_every_event_has_a_case_that_holds() -> None:
    assert {event for _, (event, _), expected in CASES.values() if isinstance(expected, str)} == {*EVENTS}


def test_override_in_force_is_no_condition() -> None:
    later = spec(override=Override(replicas=12, until="2127-06-01T10:00Z"))
    assert [s for c, s in states(tick(), later).items() if c.event == "override"] == [NotFound.CLEAR]
    assert not [c for c in states(tick(), spec()) if c.event == "override"]


def test_text_of_a_cloud_is_one_line_without_secrets() -> None:
    reason = "refused\n\x1b[31m" + "x" * 1000 + " token=abcdef123456"
    (finding,) = (
        s for c, s in states(tick(result=Result.OUT_OF_QUOTA, reason=reason), spec()).items() if c.event == "capacity"
    )
    assert isinstance(finding, Finding)
    assert finding.detail.isprintable()
    assert len(finding.detail) <= 300
    secret = states(tick(pool_errors={"gpus": "password=hunter2hunter2 refused"}), spec())
    assert "hunter2" not in repr(secret)
