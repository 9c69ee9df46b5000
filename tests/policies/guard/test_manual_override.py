"""The operator's settings: overrides that end, maintenance windows, and pause."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from policies.history.ticks import History
from policies.model import Decision, Fresh, PoolStatus, RuleId
from policies.model.limits import BlastRadius, Budget, Maintenance, MaintenanceWindow, Override
from policies.model.pool import Pool
from policies.model.spec import ScaleDown, ScaleUp
from policies.pipeline import decide
from tests.factories import ABSENT, MAIN, NOW, queue, seen, spec

UNTIL = "2027-01-15T08:01:00Z"  # NOW is 2027-01-15T08:00:00Z
LAUNCH = Override(replicas=12, until=UNTIL, reason="launch")


def decision_for(messages: float | None, current: int, at: float = NOW, **settings: Any) -> Decision:
    readings = {} if messages is None else queue(messages)
    return decide(spec(**settings), History(), seen(readings, desired=current, at=at))


def rules(decision: Decision) -> list[str]:
    return [step.rule for step in decision.steps]


@pytest.mark.parametrize(
    ("settings", "messages", "current", "target"),
    [
        pytest.param({}, 30, 3, 12, id="it stands above what policies want"),
        pytest.param({}, 300, 30, 12, id="downwards too"),
        pytest.param({"scale_up": ScaleUp(max_replicas=1, max_share=0)}, 30, 3, 12, id="steps do not slow it"),
        pytest.param({"scale_down": ScaleDown()}, 300, 30, 12, id="nor windows"),
        pytest.param({}, None, 3, 12, id="it raises a blind workload"),
        pytest.param({}, None, 30, 30, id="it never shrinks a blind one"),
        pytest.param({"max_replicas": 8}, 30, 3, 8, id="bounds hold"),
        pytest.param({"min_replicas": 14}, 30, 14, 14, id="the lower one too"),
        pytest.param({"budget": Budget(gpus=9)}, 30, 3, 9, id="budgets hold"),
        pytest.param({"blast_radius": BlastRadius(share=0.1)}, 300, 30, 27, id="the blast radius holds"),
        pytest.param({"paused": True}, 30, 3, 3, id="pause holds"),
        pytest.param({"pools": {"main": Pool(max_replicas=5)}}, 30, 3, 5, id="a pool's bounds hold"),
    ],
)
def test_override_sets_the_target_within_the_limits(
    settings: dict[str, Any], messages: float | None, current: int, target: int
) -> None:
    decision = decision_for(messages, current, override=LAUNCH, **settings)
    assert decision.target == target
    assert "override to 12 until 2027-01-15T08:01:00Z (launch)" in " ".join(s.reason for s in decision.steps)


def test_blind_override_explains_why_it_does_not_scale_in() -> None:
    step = next(s for s in decision_for(None, 30, override=LAUNCH).steps if s.rule == RuleId.EVIDENCE)
    assert step.replicas == 30
    assert "scale-in needs fresh readings of every policy and pool; missing: policy queue" in step.reason


@pytest.mark.parametrize(("current", "target"), [(3, 12), (20, 12)])
def test_override_exceeds_the_bounds_with_beyond_bounds(current: int, target: int) -> None:
    beyond = Override(replicas=12, until=UNTIL, beyond_bounds=True)
    assert decision_for(30, current, override=beyond, max_replicas=8).target == target


def test_override_expires_at_its_end_time_and_is_reported() -> None:
    assert decision_for(30, 12, at=NOW + 59.9, override=LAUNCH).target == 12
    ended = decision_for(30, 12, at=NOW + 60, override=LAUNCH)
    assert ended.target == 3
    assert "the override to 12 (launch) ended at 2027-01-15T08:01:00Z: remove it" in ended.reason


def test_bounds_apply_again_after_an_override_beyond_them_ends() -> None:
    beyond = Override(replicas=12, until=UNTIL, beyond_bounds=True)
    assert decision_for(300, 12, at=NOW + 60, override=beyond, max_replicas=8).target == 8


def test_override_takes_precedence_over_maintenance() -> None:
    always = Maintenance(windows=(MaintenanceWindow(start="00:00", end="00:00"),))
    assert decision_for(30, 3, override=LAUNCH, maintenance=always).target == 12


# --- maintenance


def at(text: str, zone: str = "Europe/Berlin", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def night(mode: Any = "hold", start: str = "22:00", end: str = "04:00", days: Any = ("sat",)) -> Maintenance:
    return Maintenance(
        windows=(MaintenanceWindow(start=start, end=end, days=days, mode=mode),), time_zone="Europe/Berlin"
    )


def blocked_directions(maintenance: Maintenance, moment: float) -> tuple[bool, bool]:
    """Return whether scale-out and scale-in are forbidden at a time."""

    def size(messages: float) -> int | None:
        readings = {n: Fresh(r.value, moment) for n, r in queue(messages).items() if isinstance(r, Fresh)}
        return decide(spec(maintenance=maintenance), History(), seen(readings, desired=5, at=moment)).target

    return size(100) == 5, size(10) == 5


@pytest.mark.parametrize(
    ("mode", "expected"),
    [("hold", (True, True)), ("no_scale_in", (False, True)), ("no_scale_out", (True, False))],
)
def test_maintenance_mode_blocks_its_directions(mode: str, expected: tuple[bool, bool]) -> None:
    assert blocked_directions(night(mode), at("2026-06-06T23:00")) == expected


@pytest.mark.parametrize(
    ("moment", "open_"),
    [
        pytest.param("2026-06-06T21:59", False, id="before it opens"),
        pytest.param("2026-06-06T22:00", True, id="as it opens"),
        pytest.param("2026-06-07T03:59", True, id="after midnight, on a day that it does not name"),
        pytest.param("2026-06-07T04:00", False, id="as it closes"),
        pytest.param("2026-06-06T01:00", False, id="Friday's night is not Saturday's"),
    ],
)
def test_maintenance_window_spans_midnight(moment: str, open_: bool) -> None:
    assert blocked_directions(night(), at(moment)) == (open_, open_)


@pytest.mark.parametrize(
    ("moment", "fold", "open_"),
    [
        pytest.param("2026-03-29T01:59", 0, False, id="spring, before the hour that is skipped"),
        pytest.param("2026-03-29T03:00", 0, True, id="spring, a minute later, in what is left of it"),
        pytest.param("2026-10-25T02:30", 0, True, id="autumn, the first time"),
        pytest.param("2026-10-25T02:30", 1, True, id="autumn, an hour later, once more"),
        pytest.param("2026-10-25T03:30", 0, False, id="autumn, when it is over"),
    ],
)
def test_maintenance_window_follows_daylight_saving_changes(moment: str, fold: int, open_: bool) -> None:
    window = night(start="02:00", end="03:30", days=("sun",))
    assert blocked_directions(window, at(moment, fold=fold)) == (open_, open_)


def test_maintenance_reason_names_the_window_and_the_intended_size() -> None:
    always = Maintenance(windows=(MaintenanceWindow(start="00:00", end="00:00"),))
    decision = decision_for(100, 5, maintenance=always)
    assert decision.reason == "maintenance window 00:00 to 00:00 (hold); now fri 08:00 in UTC; 10 without it"


def test_maintenance_takes_precedence_over_pool_bounds() -> None:
    always = Maintenance(windows=(MaintenanceWindow(start="00:00", end="00:00"),))
    pools = {"a": Pool(min_replicas=2), "b": Pool()}
    statuses = {"a": Fresh(PoolStatus(0, 0), NOW), "b": Fresh(PoolStatus(5, 5), NOW)}
    decision = decide(spec(pools=pools, maintenance=always), History(), seen(queue(50), pools=statuses))
    assert dict(decision.targets) == {"a": 0, "b": 5}
    assert "maintenance" in rules(decision)


def test_override_does_not_resize_a_pool_of_unknown_size() -> None:
    decision = decide(spec(override=LAUNCH), History(), seen(queue(30), pools={"main": ABSENT}))
    assert dict(decision.targets) == {}


def test_override_does_not_resize_a_pool_of_another_writer() -> None:
    decision = decide(spec(override=LAUNCH), History(), seen(queue(30), desired=2, foreign="HPA llm"))
    assert MAIN not in decision.targets
