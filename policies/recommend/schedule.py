"""A minimum size by the wall clock: weekly windows in a named time zone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, ClassVar

from policies.model import Evidence, PolicyName, Recommendation
from policies.model.field_metadata import FieldMetadata
from policies.model.weekly_window import Span, local_time, time_text, zone_problems
from policies.recommend.context import PolicyContext


@dataclass(frozen=True, kw_only=True)
class Window(Span):
    """A span of local wall-clock time on some days of the week, and the replicas it asks for."""

    replicas: Annotated[int, FieldMetadata("At least so many replicas inside it.", ge=1, example=4)]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """At least so many replicas in weekly windows; outside them it wants none.

    Example: 4 replicas from 08:00 to 18:00 and 12 from 12:00 to 13:00. It recommends 12 at 12:30, 4 at 17:59, 0 at
    18:00.
    """

    post_demand: ClassVar[bool] = True
    can_activate: ClassVar[bool] = True
    owns_stabilization: ClassVar[bool] = False
    lookback_s: ClassVar[float] = 0.0

    windows: Annotated[
        tuple[Window, ...],
        FieldMetadata(
            "The windows, each by local start and end (HH:MM, an end at or before the start is the next day's), days"
            " (default: all) and least replicas; where some overlap, the largest counts.",
            example=({"start": "08:00", "end": "18:00", "replicas": 4, "days": ["mon", "tue", "wed", "thu", "fri"]},),
        ),
    ]
    time_zone: Annotated[
        str, FieldMetadata("IANA name of the zone whose wall clock the windows follow.", example="Europe/Berlin")
    ] = "UTC"

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from zone_problems(self.time_zone)
        if not self.windows:
            yield "windows", "must not be empty"

    def needs(self) -> tuple[str, ...]:
        return ()

    def recommend(self, name: PolicyName, context: PolicyContext) -> Recommendation:
        local = local_time(context.at, self.time_zone)
        replicas = max((w.replicas for w in self.windows if w.covers(local)), default=0)
        clock = time_text(local, self.time_zone)
        reason = f"{clock}: at least {replicas}" if replicas else f"{clock}: no window is open"
        return Recommendation(name, float(replicas), Evidence.FULL, replicas > 0, reason)
