"""Shares of pools: the nearest ones are filled first."""

from __future__ import annotations

import math
from itertools import pairwise

from policies.model.names import BackendName
from policies.route.hysteresis import held_share, min_growth
from policies.route.preference import Distance
from policies.route.situation import Situation


def pool_shares(
    situation: Situation, left: float, *, is_free: bool
) -> tuple[dict[BackendName, float], dict[str, float]]:
    """Return the share of each pool, with the memory of the hysteresis.

    `left` is the share of the requests that providers leave. At one distance, pools share in proportion to their ready
    capacity. `is_free` is whether the present split must change, so that none of it is kept.
    """
    farther, memory = _farther(situation, left, is_free=is_free)
    shares: dict[BackendName, float] = {}
    for (begin, end), pools in zip(pairwise([1.0, *farther, 0.0]), situation.by_distance.values(), strict=True):
        total = sum(pools.values())
        shares |= {name: left * (begin - end) * capacity / total for name, capacity in pools.items()}
    return shares, memory


def _farther(situation: Situation, left: float, *, is_free: bool) -> tuple[list[float], dict[str, float]]:
    """Return the part of the pools' requests that goes beyond each distance, with the memory.

    Nothing goes beyond the last one. Where the demand is not known, or exceeds all pools, they share in proportion to
    their capacity.

    Example: 4 near replicas of 6 leave 1 - 4 / 5 of a demand of 5 to the others, and 1 - 4 / 6 of one of 7.
    """
    total, demand = sum(situation.capacity.values()), situation.lasting_demand
    carried = min(total, math.inf if demand is None else left * demand)
    memory: dict[str, float] = {}
    parts = [0.0]
    for distance in reversed(list(situation.by_distance)[:-1]):
        nearer = sum(sum(pools.values()) for each, pools in situation.by_distance.items() if each <= distance)
        needed = 0.0 if nearer >= carried else 1.0 - nearer / carried
        part, held = needed, dict[str, float]()
        if not is_free and carried < total:
            applied = _applied_farther(situation, distance, total - nearer, carried)
            key = f"distance {distance:d}."
            part, held = held_share(situation, applied, needed, min_growth(situation, needed), key)
        parts.append(max(part, parts[-1]))
        memory |= held
    return parts[:0:-1], memory


def _applied_farther(situation: Situation, distance: Distance, capacity: float, carried: float) -> float:
    """Return the part of the pools' requests that goes beyond a distance now.

    It is limited to what the `capacity` there carries.
    """
    pools = {name: situation.applied.get(name, 0.0) for name in situation.pools}
    total = sum(pools.values())
    beyond = sum(share for name, share in pools.items() if situation.distance(name) > distance)
    return min(beyond / total if total else 0.0, capacity / carried if carried else 1.0)
