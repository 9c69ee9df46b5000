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
    """A weekly window of local time, and the minimum number of replicas in it."""

    replicas: Annotated[
        int, FieldMetadata("Minimum number of replicas while the window is open. Replicas.", ge=1, example=4)
    ]


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """A minimum number of replicas in weekly windows of local time; none outside them.

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
            "Windows, each with a local start and end (HH:MM), days (all by default) and a minimum number of replicas."
            " An end at or before the start is on the next day. Where windows overlap, the largest minimum applies.",
            example=({"start": "08:00", "end": "18:00", "replicas": 4, "days": ["mon", "tue", "wed", "thu", "fri"]},),
        ),
    ]
    time_zone: Annotated[
        str,
        FieldMetadata(
            "IANA name of the time zone of the windows. The default of UTC has no daylight saving time; set the zone"
            " of your users.",
            example="Europe/Berlin",
        ),
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
        reason = f"{clock}: scheduled minimum is {replicas}" if replicas else f"{clock}: no window is open"
        return Recommendation(name, float(replicas), Evidence.FULL, replicas > 0, reason)
