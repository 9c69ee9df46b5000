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
    """What a workload may hold at a time. It limits growth; what is held beyond it is given back step by step."""

    gpus: Annotated[
        int | None,
        FieldMetadata("GPUs at most, by the pools' gpus_per_replica; null: no limit. GPUs.", ge=0, le=1_000_000),
    ] = None
    usd_per_hour: Annotated[
        float | None,
        FieldMetadata(
            "Price of all replicas at most, but for reserved pools, which are paid anyway; every other pool then needs"
            " a price; null: no limit. USD per hour.",
            ge=0,
            le=1e9,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class BlastRadius:
    """How much may be scaled in within a window, whoever asks for it; one replica always may."""

    share: Annotated[
        float,
        FieldMetadata(
            "Share of the largest size in the window that may be removed in it; 1: no limit. Share.", gt=0, le=1
        ),
    ] = 1.0
    window_s: Annotated[float, FieldMetadata("The window. Seconds.", gt=0, le=86400)] = 600.0


@dataclass(frozen=True, kw_only=True)
class LateGrowth:
    """When to stop buying replicas because users wait too long: where more of them would not help.

    Latency grows linearly with the requests per ready replica, by a line that is fitted to the workload's own ticks.
    Growth for load is never limited.
    """

    min_gain: Annotated[
        float,
        FieldMetadata(
            "The next replica must shorten the p95 latency by this much; 0: any gain will do. Share.", ge=0, lt=1
        ),
    ] = 0.02
    settle_s: Annotated[
        float,
        FieldMetadata("What was bought must have served for this long before more is bought. Seconds.", ge=0, le=3600),
    ] = 120.0
    window_s: Annotated[
        float,
        FieldMetadata("How far back turns teach; after this long another replica is tried. Seconds.", ge=60, le=86400),
    ] = 3600.0


@dataclass(frozen=True, kw_only=True)
class MaintenanceWindow(Span):
    """A weekly span in which the size is left alone, or does not fall, or does not rise."""

    mode: Annotated[
        Literal["hold", "no_scale_in", "no_scale_out"], FieldMetadata("hold: neither way; or which way is forbidden.")
    ] = "hold"


@dataclass(frozen=True, kw_only=True)
class Maintenance:
    """Weekly windows in which the size is left alone. An override that is in force stands above them."""

    windows: Annotated[
        tuple[MaintenanceWindow, ...],
        FieldMetadata(
            "The windows, as in {start: '22:00', end: '02:00', days: [sat], mode: hold}: local start and end (an end at"
            " or before the start is the next day's), days (default: all), and mode: hold (the default), no_scale_in"
            " or no_scale_out."
        ),
    ] = ()
    time_zone: Annotated[str, FieldMetadata("IANA name of the zone whose wall clock the windows follow.")] = "UTC"

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from zone_problems(self.time_zone)


@dataclass(frozen=True, kw_only=True)
class Override:
    """A size set by hand, for a while."""

    replicas: Annotated[int, FieldMetadata("The size to hold.", ge=0, le=100_000)]
    until: Annotated[str, FieldMetadata("When it ends, ISO 8601 with an offset, as in 2026-06-01T10:00Z.")]
    reason: Annotated[str, FieldMetadata("Why, for whoever reads it at night.")] = ""
    beyond_bounds: Annotated[
        bool,
        FieldMetadata("Whether it may leave min_replicas and max_replicas; the pools' own bounds hold all the same."),
    ] = False

    def problems(self) -> Iterator[tuple[str, str]]:
        try:
            parse_instant(self.until)
        except ValueError as e:
            yield "until", f"not a time: {e}"

    def in_force(self, now: float) -> bool:
        """Return whether the override has not ended at `now`."""
        return now < parse_instant(self.until)


@lru_cache(maxsize=256)
def parse_instant(text: str) -> float:
    """Return an ISO 8601 time in seconds since the Unix epoch. Raises `ValueError`."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError("needs an offset from UTC, as in 2026-06-01T10:00Z")
    return moment.timestamp()
