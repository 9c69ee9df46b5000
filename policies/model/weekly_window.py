"""Weekly spans of local wall-clock time in a named time zone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import lru_cache
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from policies.model.field_metadata import FieldMetadata, Pattern

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CLOCK_TIME = Pattern(r"^([01][0-9]|2[0-3]):[0-5][0-9]$", "a time of day as HH:MM")


@dataclass(frozen=True, kw_only=True)
class Span:
    """A span of local wall-clock time on some days of the week."""

    start: Annotated[
        str, FieldMetadata("Local time at which the window opens, HH:MM.", pattern=CLOCK_TIME, example="08:00")
    ]
    end: Annotated[
        str,
        FieldMetadata(
            "Local time at which the window closes, HH:MM. At or before the start, it is on the next day.",
            pattern=CLOCK_TIME,
            example="18:00",
        ),
    ]
    days: Annotated[tuple[Day, ...], FieldMetadata("Days on which the window opens. The default is every day.")] = DAYS

    def covers(self, local: datetime) -> bool:
        """Return whether the span covers `local`, a wall-clock time in its zone.

        Wall-clock times are compared, so a daylight saving change shortens or lengthens a span: a skipped hour is
        missing from it, and a repeated hour is in it twice. Example: 22:00 to 02:00 on Saturdays covers Saturday 23:00
        and Sunday 01:00.
        """
        start, end = _clock_time(self.start), _clock_time(self.end)
        opened_today = DAYS[local.weekday()] in self.days
        opened_yesterday = DAYS[(local - timedelta(days=1)).weekday()] in self.days
        now = local.time()
        if start < end:
            return opened_today and start <= now < end
        return (opened_today and now >= start) or (opened_yesterday and now < end)


def local_time(at: float, time_zone: str) -> datetime:
    """Return the wall-clock time of the epoch time `at` in a zone."""
    return datetime.fromtimestamp(at, ZoneInfo(time_zone))


def time_text(local: datetime, time_zone: str) -> str:
    """Return a wall-clock time as text: ``mon 08:30 in Europe/Berlin``."""
    return f"{DAYS[local.weekday()]} {local:%H:%M} in {time_zone}"


def zone_problems(time_zone: str) -> Iterator[tuple[str, str]]:
    """Yield the problem of an unknown zone name, as (field, rule)."""
    try:
        ZoneInfo(time_zone)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        yield "time_zone", "is not an IANA time zone; use a name such as Europe/Berlin"


@lru_cache(maxsize=256)
def _clock_time(text: str) -> time:
    return time.fromisoformat(text)
