"""Weekly windows on the wall clock of a named zone."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from policies.history.ticks import History
from policies.model import PolicyName
from policies.recommend.context import PolicyContext
from policies.recommend.schedule import Schedule, Window

BERLIN = "Europe/Berlin"
NIGHT = Window(start="22:00", end="06:00", replicas=5, days=("fri",))
OFFICE = Window(start="08:00", end="18:00", replicas=8, days=("mon", "tue", "wed", "thu", "fri"))


def recommended(schedule: Schedule, at: datetime) -> float | None:
    return schedule.recommend(PolicyName("me"), PolicyContext(at.timestamp(), {}, 1, 1, None, History())).replicas


@pytest.mark.parametrize(
    ("window", "local", "replicas"),
    [
        pytest.param(OFFICE, "2026-06-01T07:59:59", 0, id="a second before it opens"),
        pytest.param(OFFICE, "2026-06-01T08:00:00", 8, id="as it opens"),
        pytest.param(OFFICE, "2026-06-01T17:59:59", 8, id="a second before it closes"),
        pytest.param(OFFICE, "2026-06-01T18:00:00", 0, id="as it closes"),
        pytest.param(OFFICE, "2026-06-06T12:00:00", 0, id="on a day that is not among its days"),
        pytest.param(NIGHT, "2026-06-05T23:00:00", 5, id="on Friday night"),
        pytest.param(NIGHT, "2026-06-06T05:59:00", 5, id="past midnight, opened on Friday"),
        pytest.param(NIGHT, "2026-06-06T06:00:00", 0, id="closed on Saturday morning"),
        pytest.param(NIGHT, "2026-06-06T22:30:00", 0, id="not on Saturday night"),
        pytest.param(NIGHT, "2026-06-05T05:00:00", 0, id="not before Friday's opening"),
    ],
)
def test_windows_open_and_close_by_local_time(window: Window, local: str, replicas: float) -> None:
    at = datetime.fromisoformat(local).replace(tzinfo=ZoneInfo(BERLIN))
    assert recommended(Schedule(time_zone=BERLIN, windows=(window,)), at) == replicas


@pytest.mark.parametrize(
    ("utc", "replicas"),
    [
        pytest.param("2026-03-29T00:59:00+00:00", 0, id="01:59 winter time, before the gap"),
        pytest.param("2026-03-29T01:00:00+00:00", 3, id="03:00 summer time, right after the gap"),
        pytest.param("2026-03-29T01:29:00+00:00", 3, id="03:29 summer time"),
        pytest.param("2026-03-29T01:30:00+00:00", 0, id="03:30 summer time, closed"),
        pytest.param("2026-10-25T00:30:00+00:00", 3, id="02:30 the first time"),
        pytest.param("2026-10-25T01:15:00+00:00", 3, id="02:15 the second time"),
        pytest.param("2026-10-25T02:30:00+00:00", 0, id="03:30 winter time, closed"),
    ],
)
def test_windows_follow_the_wall_clock_through_daylight_saving(utc: str, replicas: float) -> None:
    window = Window(start="02:00", end="03:30", replicas=3)
    assert recommended(Schedule(time_zone=BERLIN, windows=(window,)), datetime.fromisoformat(utc)) == replicas


def test_largest_of_overlapping_windows_counts() -> None:
    lunch = Window(start="12:00", end="13:00", replicas=12)
    at = datetime(2026, 6, 1, 12, 30, tzinfo=ZoneInfo("UTC"))
    assert recommended(Schedule(windows=(OFFICE, lunch)), at) == 12


def test_unknown_time_zone_or_no_windows_is_a_problem() -> None:
    assert [field for field, _ in Schedule(time_zone="Mars/Base", windows=(OFFICE,)).problems()] == ["time_zone"]
    assert [field for field, _ in Schedule(windows=()).problems()] == ["windows"]
