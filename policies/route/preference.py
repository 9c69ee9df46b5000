"""The order of backends by distance or by latency."""

from __future__ import annotations

import math
from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from policies.model.names import BackendName

MIN_RATIO: Final = 1.2
"""Ratio of two latencies from which the faster provider is preferred. Closer ones keep their order."""


class Distance(IntEnum):
    """The distance of a backend from the gateway of its route. A lower one is preferred."""

    NEAR = 0
    AREA = 1
    FAR = 2

    @property
    def words(self) -> str:
        """The distance as a reason names it."""
        return ("near", "same area", "far")[self]


def distance_of(home: str, region: str | None) -> Distance:
    """Return the distance of a region; an unknown one is far.

    Example: from `eu-west-1`, `eu-central-1` is in the same area, and `us-east-1` is far.
    """
    if region == home:
        return Distance.NEAR
    return Distance.AREA if region is not None and _area(region) == _area(home) else Distance.FAR


def _area(region: str) -> str:
    return region.partition("-")[0]


def latency_ranks(
    usd: Mapping[BackendName, float],
    latencies_s: Mapping[BackendName, float],
    unmeasured_s: float,
    ranks: Mapping[BackendName, int],
) -> dict[BackendName, int]:
    """Return the rank of each provider by latency, from 0 for the preferred one.

    A provider moves ahead of another one only if it is faster by `MIN_RATIO`, so that noise changes no order. `ranks`
    has the previous order; without one, prices order the providers. A latency of 0 is not measured, and counts as
    `unmeasured_s`.

    Example: 1.0 s, 1.1 s and 0.5 s in this order become 0.5 s, 1.0 s and 1.1 s.
    """
    order: list[BackendName] = []
    for name in sorted(usd, key=lambda n: (ranks.get(n, math.inf), usd[n])):
        place = len(order)
        latency_s = latencies_s[name] or unmeasured_s
        while place and MIN_RATIO * latency_s < (latencies_s[order[place - 1]] or unmeasured_s):
            place -= 1
        order.insert(place, name)
    return {name: rank for rank, name in enumerate(order)}
