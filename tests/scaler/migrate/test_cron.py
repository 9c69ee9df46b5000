"""Pairs of cron expressions as weekly windows, compared with the trigger's own rule for each minute."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.model.weekly_window import DAYS, Span
from scaler.migrate.cron import WEEK, CronError, minutes, windows

MONDAY = datetime(2026, 1, 5)  # noqa: DTZ001 - a wall clock without a zone
WEEKDAYS = ["mon", "tue", "wed", "thu", "fri"]


def window_dict(start: str, end: str, days: list[str] | None = None) -> dict[str, object]:
    return {"start": start, "end": end, **({} if days is None else {"days": days})}


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ("0 8 * * 1-5", "0 18 * * 1-5", [window_dict("08:00", "18:00", WEEKDAYS)]),
        ("0 8 * * MON-FRI", "0 18 * * mon,tue,wed,thu,fri", [window_dict("08:00", "18:00", WEEKDAYS)]),
        ("0 22 * * *", "0 6 * * *", [window_dict("22:00", "06:00")]),
        ("@daily", "30 7 ? * *", [window_dict("00:00", "07:30")]),
        (
            "0 8 * * 1",
            "0 18 * * 3",
            [window_dict("08:00", "08:00", ["mon", "tue"]), window_dict("08:00", "18:00", ["wed"])],
        ),
        ("0 8 * * *", "0 12,18 * * *", [window_dict("08:00", "18:00")]),
        ("0 20 * * 0", "0 4 * * 1", [window_dict("20:00", "04:00", ["sun"])]),
    ],
    ids=["office hours", "names", "night", "descriptor", "days on end", "two ends", "over the week's end"],
)
def test_cron_pair_becomes_weekly_windows(start: str, end: str, expected: list[dict[str, object]]) -> None:
    assert windows(start, end) == expected


@pytest.mark.parametrize(
    ("start", "end", "rule"),
    [
        ("0 8 * *", "0 18 * * *", "needs five fields"),
        ("0 8 1 * *", "0 18 1 * *", "day of the month"),
        ("0 8 * 1 *", "0 18 * 1 *", "the month"),
        ("61 8 * * *", "0 18 * * *", "must be from 0 to 59"),
        ("0 8 * * 7", "0 18 * * *", "must be from 0 to 6"),
        ("0 x * * *", "0 18 * * *", "is not a number"),
        ("0 8 * * *", "0 8 * * *", "must differ"),
    ],
)
def test_unsupported_cron_expression_raises_cron_error(start: str, end: str, rule: str) -> None:
    with pytest.raises(CronError, match=rule):
        windows(start, end)


def span(window: Mapping[str, Any]) -> Span:
    """Return a window as the schedule policy's record."""
    return Span(start=window["start"], end=window["end"], days=tuple(window.get("days", DAYS)))


def active(starts: list[int], ends: list[int], minute: int) -> bool:
    """Return whether KEDA's trigger is active: the next end comes no later than the next start."""

    def next_minute(times: list[int]) -> int:
        return min(t + WEEK * (t <= minute) for t in times)

    return next_minute(ends) <= next_minute(starts)


FIELD = st.sampled_from(["0", "7", "15", "20", "*/9", "3-5", "1,6,13"])
DAY = st.sampled_from(["*", "1-5", "0", "6", "2,4", "sun,wed"])


@given(st.tuples(FIELD, FIELD, DAY), st.tuples(FIELD, FIELD, DAY))
def test_windows_are_open_exactly_while_the_trigger_is_active(start: tuple[str, ...], end: tuple[str, ...]) -> None:
    first, last = (f"{m} {h} * * {d}" for m, h, d in (start, end))
    starts, ends = minutes(first), minutes(last)
    if starts == ends:
        return
    spans = [span(window) for window in windows(first, last)]
    for minute in sorted({*starts, *ends, *(t - 1 for t in starts), *(t - 1 for t in ends)})[:200]:
        local = MONDAY + timedelta(minutes=minute % WEEK)
        assert any(s.covers(local) for s in spans) == active(starts, ends, minute % WEEK), (
            f"{first} to {last} at {local}"
        )
