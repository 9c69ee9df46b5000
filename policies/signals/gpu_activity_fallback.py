"""Fallback demand from GPU utilization.

It is used while neither the engines nor a queue provide readings.

High GPU utilization is not high load: a continuously batching engine reads near 100 % with a single request, and so
does every replica that is added. A policy that followed the reading would scale out without end. So utilization may
raise the size once, by a part of the last known need, and never lowers it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from policies.signals.demand import work_of_share

UTILIZATION: Final = "utilization"
TARGET_UTILIZATION: Final = 0.7
"""Mean GPU utilization to hold: the default target of the policy `gpu_utilization`. Share."""
MAX_RAISE: Final = 1.5
"""The need is at most this multiple of the last known need. Demand seldom grows by half during an outage of metrics,
and a utilization of 100 % cannot show by how much."""


@dataclass(frozen=True, slots=True)
class ActivityNeed:
    """The need in replicas that follows from GPU utilization, and its reason."""

    replicas: float
    reason: str


def activity_need(utilization: float, ready: int, last_need: float) -> ActivityNeed:
    """Return the need of `ready` replicas with this mean GPU utilization (a share of the time).

    Example: 4 ready replicas at 100 % need 4 * 1.0 / 0.7 = 5.71 replicas. With a last known need of 3, the result is
    at most 1.5 * 3 = 4.5.
    """
    need, maximum = work_of_share(utilization, ready, TARGET_UTILIZATION), MAX_RAISE * max(1.0, last_need)
    reason = f"GPU utilization is {utilization:.0%} over {ready} ready replicas, which shows activity and not load"
    if need > maximum:
        reason += f"; limited to {maximum:.2f}, {MAX_RAISE:g} times the last known need of {max(1.0, last_need):.2f}"
    return ActivityNeed(min(need, maximum), reason)
