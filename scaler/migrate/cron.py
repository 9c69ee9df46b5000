"""Converts a pair of cron expressions to weekly windows, by the rule of KEDA's cron trigger.

The trigger is active while the next end comes no later than the next start (kedacore/keda,
``pkg/scalers/cron_scaler.go``). So each end closes a window that the last start before it opens. Example: starts at
08:00 and 12:00 and an end at 18:00 make one window from 12:00 to 18:00.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from policies.model.weekly_window import DAYS

DAY: Final = 24 * 60
WEEK: Final = 7 * DAY
BOUNDS: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
"""Bounds of minute, hour, day of the month, month and day of the week (robfig/cron v3, which KEDA uses)."""
NAMES: Final = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
DESCRIPTORS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
}
Windows = list[dict[str, object]]


class CronError(ValueError):
    """The expression is invalid, or cannot be expressed as weekly windows."""


def windows(start: str, end: str) -> Windows:
    """Return the windows of a schedule in local time: start, end, and days unless all.

    Raises `CronError`.
    """
    starts, ends = minutes(start), minutes(end)
    if starts == ends:
        raise CronError("start and end must differ, as KEDA requires")
    days_by_times: dict[tuple[str, str], set[int]] = {}
    for opened, closed in _without_nested(_spans(starts, ends)):
        for first, last in _split_days(opened, closed):
            days_by_times.setdefault((_time_of_day(first), _time_of_day(last)), set()).add(first // DAY % 7)
    return [
        {"start": opened, "end": closed, **({} if len(days) == 7 else {"days": [DAYS[day] for day in sorted(days)]})}
        for (opened, closed), days in sorted(days_by_times.items())
    ]


def minutes(expression: str) -> list[int]:
    """Return the minutes of a week, from Monday 00:00, at which the expression fires.

    Raises `CronError`.

    Example: ``30 8 * * 2`` fires on Tuesday at 08:30, minute 1950.
    """
    fields = DESCRIPTORS.get(expression.strip().lower(), expression).split()
    if len(fields) != 5:
        raise CronError(f"{expression!r} needs five fields: minute, hour, day of month, month, day of week")
    if fields[2] not in {"*", "?"} or fields[3] not in {"*", "?"}:
        raise CronError(f"{expression!r} depends on the day of the month or the month, but windows are weekly")
    minute, hour, weekday = (_values(fields[i], BOUNDS[i], expression) for i in (0, 1, 4))
    return sorted((day + 6) % 7 * DAY + h * 60 + m for day in weekday for h in hour for m in minute)


def _values(text: str, bounds: tuple[int, int], expression: str) -> set[int]:
    values: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        low, high = bounds
        if span not in {"*", "?"}:
            first, _, last = span.partition("-")
            low = _number(first, expression)
            high = _number(last, expression) if last else bounds[1] if step else low
        increment = _number(step, expression) if step else 1
        if not bounds[0] <= low <= high <= bounds[1] or increment < 1:
            raise CronError(f"{part!r} in {expression!r} must be from {bounds[0]} to {bounds[1]}")
        values.update(range(low, high + 1, increment))
    return values


def _number(text: str, expression: str) -> int:
    try:
        return NAMES[text.lower()] if text.lower() in NAMES else int(text)
    except ValueError as e:
        raise CronError(f"{text!r} in {expression!r} is not a number") from e


def _spans(starts: Sequence[int], ends: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield for each end of the week the last start before it.

    A start in the week before is negative.
    """
    for end in ends:
        yield max(start if start < end else start - WEEK for start in starts), end


def _without_nested(spans: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the longest span of each start, moved into the week."""
    longest: dict[int, int] = {}
    for start, end in spans:
        shift = WEEK if start < 0 else 0
        longest[start + shift] = max(longest.get(start + shift, 0), end + shift)
    yield from sorted(longest.items())


def _split_days(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield a span in parts of at most a day, the maximum length of a window."""
    while start < end:
        yield start, min(end, start + DAY)
        start += DAY


def _time_of_day(minute: int) -> str:
    return f"{minute % DAY // 60:02d}:{minute % 60:02d}"
