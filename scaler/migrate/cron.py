"""A pair of cron expressions as weekly windows, by the rule of KEDA's cron trigger.

At any moment the trigger is active if the next end comes no later than the next start (kedacore/keda,
``pkg/scalers/cron_scaler.go``). So what is active before each end reaches back to the last start before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from policies.model.weekly_window import DAYS

DAY: Final = 24 * 60
WEEK: Final = 7 * DAY
BOUNDS: Final = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 6))
"""Of minute, hour, day of the month, month and day of the week (robfig/cron v3, which KEDA uses)."""
NAMES: Final = {"sun": 0, "mon": 1, "tue": 2, "wed": 3, "thu": 4, "fri": 5, "sat": 6}
DESCRIPTORS: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
}
Windows = list[dict[str, object]]


class CronError(ValueError):
    """An expression that is none, or that no weekly window can state."""


def windows(start: str, end: str) -> Windows:
    """From each start to the next end, as a schedule's windows: start, end, and days unless it is all. Local time.

    Raises `CronError`.
    """
    starts, ends = minutes(start), minutes(end)
    if starts == ends:
        raise CronError("start and end must differ: KEDA refuses them equal")
    found: dict[tuple[str, str], set[int]] = {}
    for opened, closed in _joined(_spans(starts, ends)):
        for first, last in _days(opened, closed):
            found.setdefault((_clock(first), _clock(last)), set()).add(first // DAY % 7)
    return [
        {"start": opened, "end": closed, **({} if len(days) == 7 else {"days": [DAYS[day] for day in sorted(days)]})}
        for (opened, closed), days in sorted(found.items())
    ]


def minutes(expression: str) -> list[int]:
    """Return the minutes of a week, from Monday 00:00, at which it fires. Raises `CronError`."""
    fields = DESCRIPTORS.get(expression.strip().lower(), expression).split()
    if len(fields) != 5:
        raise CronError(f"{expression!r} is no cron expression: minute, hour, day of month, month, day of week")
    if fields[2] not in {"*", "?"} or fields[3] not in {"*", "?"}:
        raise CronError(f"{expression!r} depends on the day of the month or the month, and windows are weekly")
    minute, hour, weekday = (_values(fields[i], BOUNDS[i], expression) for i in (0, 1, 4))
    return sorted((day + 6) % 7 * DAY + h * 60 + m for day in weekday for h in hour for m in minute)


def _values(text: str, bounds: tuple[int, int], whole: str) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, _, step = part.partition("/")
        low, high = bounds
        if span not in {"*", "?"}:
            first, _, last = span.partition("-")
            low = _number(first, whole)
            high = _number(last, whole) if last else bounds[1] if step else low
        by = _number(step, whole) if step else 1
        if not bounds[0] <= low <= high <= bounds[1] or by < 1:
            raise CronError(f"{part!r} in {whole!r} must lie within {bounds[0]} to {bounds[1]}")
        found.update(range(low, high + 1, by))
    return found


def _number(text: str, whole: str) -> int:
    try:
        return NAMES[text.lower()] if text.lower() in NAMES else int(text)
    except ValueError as e:
        raise CronError(f"{text!r} in {whole!r} is no number") from e


def _spans(starts: Sequence[int], ends: Sequence[int]) -> Iterator[tuple[int, int]]:
    """For each end in the week, from when on its window is open: a minute before it, perhaps of the week before."""
    for end in ends:
        yield max(start if start < end else start - WEEK for start in starts), end


def _joined(spans: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Spans without those that lie within another, which begins where they do."""
    longest: dict[int, int] = {}
    for start, end in spans:
        shift = WEEK if start < 0 else 0
        longest[start + shift] = max(longest.get(start + shift, 0), end + shift)
    yield from sorted(longest.items())


def _days(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield a span in parts of a day at most: no window is longer."""
    while start < end:
        yield start, min(end, start + DAY)
        start += DAY


def _clock(minute: int) -> str:
    return f"{minute % DAY // 60:02d}:{minute % 60:02d}"
