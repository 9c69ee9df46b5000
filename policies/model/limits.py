"""Limits of a workload: budgets, blast radius, SLO feasibility, maintenance and overrides.

These records hold and check the settings. The rules that apply them are in `policies.guard`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Annotated, Literal

from policies.model.field_metadata import FieldMetadata
from policies.model.weekly_window import Span, zone_problems


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Maximum GPUs and cost of a workload.

    Growth stops there, and a workload beyond it shrinks step by step.
    """

    gpus: Annotated[
        int | None,
        FieldMetadata(
            "Maximum GPUs of all pools together, counted by gpus_per_replica; null: no limit. It must cover"
            " min_replicas. GPUs.",
            ge=0,
            le=1_000_000,
        ),
    ] = None
    usd_per_hour: Annotated[
        float | None,
        FieldMetadata(
            "Maximum price of all replicas except those of reserved pools, which are paid for anyway; null: no"
            " limit. It must cover min_replicas, and every other pool then needs price_usd_per_hour. USD per hour.",
            ge=0,
            le=1e9,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class BlastRadius:
    """Maximum share of the replicas that may be removed within a window. One always may."""

    share: Annotated[
        float,
        FieldMetadata(
            "Maximum share of the largest size in the window that may be removed within the window. One replica may"
            " always be removed. The default of 1 sets no limit. Lower it to slow down a mistaken scale-in. Share.",
            gt=0,
            le=1,
        ),
    ] = 1.0
    window_s: Annotated[
        float,
        FieldMetadata(
            "Window over which removals count. The default of 600 is twice the default scale-down window. Raise it"
            " to allow fewer removals per hour. Seconds.",
            gt=0,
            le=86400,
        ),
    ] = 600.0


@dataclass(frozen=True, kw_only=True)
class LateGrowth:
    """When to stop adding replicas for latency: where more of them would not help.

    Latency grows linearly with the requests per ready replica, by a line that is fitted to the workload's own ticks.
    Growth for load is never limited.
    """

    min_gain: Annotated[
        float,
        FieldMetadata(
            "Minimum gain of one more replica, as a share of the p95 latency; with less, growth for latency ends."
            " The default of 0.02 requires 2 %. Set 0 to accept any gain. Share.",
            ge=0,
            lt=1,
        ),
    ] = 0.02
    settle_s: Annotated[
        float,
        FieldMetadata(
            "Time that new replicas must have served before more are added for latency. The default of 120 covers"
            " latencies measured over one or two minutes. Raise it for longer metric windows. Seconds.",
            ge=0,
            le=3600,
        ),
    ] = 120.0
    window_s: Annotated[
        float,
        FieldMetadata(
            "Time span of the ticks that show whether more replicas reduce latency. When they are older, one more"
            " replica is tried. The default of 3600 tries once an hour. Lower it if traffic changes faster. Seconds.",
            ge=60,
            le=86400,
        ),
    ] = 3600.0


@dataclass(frozen=True, kw_only=True)
class MaintenanceWindow(Span):
    """A weekly window in which the size must not change, fall or rise."""

    mode: Annotated[
        Literal["hold", "no_scale_in", "no_scale_out"],
        FieldMetadata(
            "Changes that the window forbids: no_scale_in or no_scale_out forbids one direction, hold both. The"
            " default of hold is the safest."
        ),
    ] = "hold"


@dataclass(frozen=True, kw_only=True)
class Maintenance:
    """Weekly windows in which the size must not change, fall or rise.

    An override in force takes precedence over them.
    """

    windows: Annotated[
        tuple[MaintenanceWindow, ...],
        FieldMetadata(
            "Maintenance windows, as in {start: '22:00', end: '02:00', days: [sat], mode: hold}. Times are local; an"
            " end at or before the start is on the next day. The default is none."
        ),
    ] = ()
    time_zone: Annotated[
        str, FieldMetadata("IANA name of the windows' time zone, as in Europe/Berlin. The default is UTC.")
    ] = "UTC"

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from zone_problems(self.time_zone)


@dataclass(frozen=True, kw_only=True)
class Override:
    """A temporary size set by an operator."""

    replicas: Annotated[
        int,
        FieldMetadata(
            "Size to hold, within min_replicas and max_replicas unless beyond_bounds is set. Replica equivalents.",
            ge=0,
            le=100_000,
        ),
    ]
    until: Annotated[str, FieldMetadata("End of the override in ISO 8601 with a UTC offset, as in 2026-06-01T10:00Z.")]
    reason: Annotated[
        str, FieldMetadata("Reason for the override, which decisions and logs show. The default is empty.")
    ] = ""
    beyond_bounds: Annotated[
        bool,
        FieldMetadata(
            "Whether the size may be outside the workload's min_replicas and max_replicas; the pools' own bounds still"
            " apply. The default is false, so that a typing error stays within bounds."
        ),
    ] = False

    def problems(self) -> Iterator[tuple[str, str]]:
        try:
            parse_instant(self.until)
        except ValueError:
            yield "until", "must be an ISO 8601 time with a UTC offset, as in 2026-06-01T10:00Z"

    def in_force(self, now: float) -> bool:
        """Return whether the override has not ended at `now`."""
        return now < parse_instant(self.until)


@lru_cache(maxsize=256)
def parse_instant(text: str) -> float:
    """Return an ISO 8601 time in seconds since the Unix epoch. Raises `ValueError`."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("the UTC offset is missing")
    return moment.timestamp()
