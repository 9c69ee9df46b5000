"""KEDA's cron trigger: a number of replicas by the wall clock.

Source: kedacore/keda, ``pkg/scalers/cron_scaler.go``: between start and end the metric is desiredReplicas and the
trigger is active, otherwise the metric is 1 and the trigger is idle; the target is 1 per replica.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata
from policies.model.weekly_window import Span, local_time, zone_problems
from policies.recommend.peers.hpa_replicas import Tolerance, by_average_value

IDLE_REPLICAS: Final = 1
"""``defaultDesiredReplicas``: the metric while the trigger is idle."""
TARGET: Final = 1.0


@dataclass(frozen=True, kw_only=True)
class Cron:
    """One cron trigger of ``spec.triggers``, with its two cron expressions as weekly windows."""

    replicas: Annotated[
        int,
        FieldMetadata(
            "desiredReplicas: replicas requested in the windows. Outside them, the trigger requests one. Replicas.",
            ge=0,
            example=6,
        ),
    ]
    windows: Annotated[
        tuple[Span, ...],
        FieldMetadata(
            "Weekly windows in local time, each from a start to the next end.",
            example=({"start": "08:00", "end": "18:00"},),
        ),
    ]
    time_zone: Annotated[
        str,
        FieldMetadata(
            "timezone: IANA name of the time zone of the windows. The default of UTC has no daylight saving time."
        ),
    ] = "UTC"

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from zone_problems(self.time_zone)
        if not self.windows:
            yield "windows", "must not be empty"

    def active(self, at: float) -> bool:
        """Return whether a window is open at a time (Unix seconds)."""
        local = local_time(at, self.time_zone)
        return any(window.covers(local) for window in self.windows)

    def proposal(self, at: float, size: int, tolerance: Tolerance) -> int:
        """Return the replicas that the HPA proposes for its metric."""
        value = float(self.replicas if self.active(at) else IDLE_REPLICAS)
        return by_average_value(value, TARGET, size, tolerance)
