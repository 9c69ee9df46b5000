"""Sizes by the clock on the wall: at least so many replicas in weekly windows of a named time zone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import lru_cache
from typing import Annotated, ClassVar, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from policies.model import Evidence, PolicyName, Recommendation
from policies.rules import Rule
from policies.view import View

Day = Literal["mon", "tue", "wed", "thu", "fri", "sat", "sun"]
DAYS: tuple[Day, ...] = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
CLOCK_TIME = r"^([01][0-9]|2[0-3]):[0-5][0-9]$"


@dataclass(frozen=True, kw_only=True)
class Window:
    """A span of local wall-clock time on some days of the week."""

    start: Annotated[str, Rule("Local time at which it opens, HH:MM.", pattern=CLOCK_TIME, example="08:00")]
    end: Annotated[
        str,
        Rule(
            "Local time at which it closes, HH:MM; at or before the start: the next day.",
            pattern=CLOCK_TIME,
            example="18:00",
        ),
    ]
    replicas: Annotated[int, Rule("At least so many replicas inside it.", ge=1, example=4)]
    days: Annotated[tuple[Day, ...], Rule("Days on which it opens.")] = DAYS

    def covers(self, local: datetime) -> bool:
        """Whether it is open at `local`, a wall-clock time in the schedule's zone.

        Wall-clock readings are compared, so a window opens and closes by the clock on the wall through a daylight
        saving change: an hour that is skipped is missing from it, an hour that is repeated is in it twice.
        """
        start, end = _clock_time(self.start), _clock_time(self.end)
        opened_today = DAYS[local.weekday()] in self.days
        opened_yesterday = DAYS[(local - timedelta(days=1)).weekday()] in self.days
        now = local.time()
        if start < end:
            return opened_today and start <= now < end
        return (opened_today and now >= start) or (opened_yesterday and now < end)


@lru_cache(maxsize=256)
def _clock_time(text: str) -> time:
    return time.fromisoformat(text)


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """At least so many replicas in weekly windows; outside them it wants none."""

    shapes: ClassVar[bool] = True
    activates: ClassVar[bool] = True
    settles: ClassVar[bool] = False
    lookback_s: ClassVar[float] = 0.0

    windows: Annotated[
        tuple[Window, ...],
        Rule(
            "The windows, each by local start and end (HH:MM, an end at or before the start is the next day's), days"
            " (default: all) and least replicas; where some overlap, the largest counts.",
            example=({"start": "08:00", "end": "18:00", "replicas": 4, "days": ["mon", "tue", "wed", "thu", "fri"]},),
        ),
    ]
    time_zone: Annotated[
        str, Rule("IANA name of the zone whose wall clock the windows follow.", example="Europe/Berlin")
    ] = "UTC"

    def problems(self) -> Iterator[tuple[str, str]]:
        try:
            ZoneInfo(self.time_zone)
        except (ZoneInfoNotFoundError, ValueError, OSError):
            yield "time_zone", f"there is no time zone {self.time_zone!r} in the IANA database"
        if not self.windows:
            yield "windows", "must not be empty"

    def needs(self) -> tuple[str, ...]:
        return ()

    def recommend(self, name: PolicyName, view: View) -> Recommendation:
        local = datetime.fromtimestamp(view.at, ZoneInfo(self.time_zone))
        replicas = max((w.replicas for w in self.windows if w.covers(local)), default=0)
        clock = f"{DAYS[local.weekday()]} {local:%H:%M} in {self.time_zone}"
        reason = f"{clock}: at least {replicas}" if replicas else f"{clock}: no window is open"
        return Recommendation(name, float(replicas), Evidence.FULL, replicas > 0, reason)
