"""Shares of the fleet's limits that the shards of several daemons hold. Pure functions.

Each daemon divides by the same amounts and rules, so that daemons with the same view reach the same result:

1. A shard has what its workloads use: sizes that stand are counted, also beyond the limit.
2. The free part meets minimums first, then needs in the order of priority. Equal needs get even parts, in whole
   replicas.
3. The rest is divided evenly between all shards, so that they can grow without a request.

Example: of 20 GPUs, shard 0 uses 8 and needs 12, and shard 1 uses 4 and needs 4. Shard 0 gets the 4 that it needs. Of
the 4 left, each shard gets 2: the parts are 14 and 6.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np

from policies.guard.budget import EPSILON
from policies.model import Grant, Quota
from policies.quota.fleet_quota import FleetLimits, fair_share
from policies.quota.resource_claims import Amount, ResourceClaim

NAMES: Final = {"gpus": "GPUs", "usd_per_hour": "USD per hour", "removals": "removals"}
"""The units of `Amounts` in texts, in their order."""


class Amounts(NamedTuple):
    """GPUs, USD per hour, and replicas removed within the window of the blast radius."""

    gpus: float = 0.0
    usd_per_hour: float = 0.0
    removals: float = 0.0

    def larger(self, other: Amounts) -> Amounts:
        return Amounts(*map(max, self, other))

    def smaller(self, other: Amounts) -> Amounts:
        return Amounts(*map(min, self, other))

    def plus(self, other: Amounts) -> Amounts:
        return Amounts(*(a + b for a, b in zip(self, other, strict=True)))


@dataclass(frozen=True, slots=True)
class HeldShare:
    """A shard's share of the fleet's limits, as its holder may use it now, and its use.

    While sizes are unknown, `is_known` is False: then no workload grows into the share, or shrinks for the limit.
    """

    shard: int
    granted: Amounts
    used: Amounts
    is_known: bool = True


def limited_units(limits: FleetLimits) -> tuple[str, ...]:
    """Return the units of `Amounts` that the fleet limits."""
    is_limited = (limits.max_gpus is not None, limits.max_usd_per_hour is not None, limits.blast_radius.share < 1.0)
    return tuple(unit for unit, limited in zip(Amounts._fields, is_limited, strict=True) if limited)


def within_share(grant: Grant, claim: ResourceClaim, share: HeldShare, quantum: int) -> Grant:
    """Return the grant of a workload within its shard's share.

    `quantum` is the largest of its pools. A share that covers it also allows its removal at once.
    """
    removable, removed = grant.removable, grant.removed
    if removable is not None:
        left = min(removable.most, max(0, math.floor(share.granted.removals - share.used.removals + EPSILON)))
        is_whole = share.granted.removals + EPSILON >= quantum and share.used.removals == 0
        reason = f"{_reason(removable, share, 'removals')}: {left:g} more are allowed"
        removable, removed = Quota(left, reason), 0 if is_whole else quantum
    gpus = _within(grant.gpus, claim.gpus, share, "gpus")
    return Grant(gpus, _within(grant.usd_per_hour, claim.usd_per_hour, share, "usd_per_hour"), removable, removed)


def _within(quota: Quota | None, own: Amount, share: HeldShare, unit: str) -> Quota | None:
    """Return the amount that the workload may hold: its own, and what is free of the share."""
    if quota is None:
        return None
    spare = max(0.0, getattr(share.granted, unit) - getattr(share.used, unit))
    most = own.held - own.unread if not share.is_known else min(quota.most, own.held + spare - own.unread)
    reason = _reason(quota, share, unit) + ("" if share.is_known else "; not all of its sizes are known")
    return Quota(most, f"{reason}: this workload may use {most:g}")


def _reason(quota: Quota, share: HeldShare, unit: str) -> str:
    granted, used = getattr(share.granted, unit), getattr(share.used, unit)
    return f"{quota.reason}; {used:g} of the {granted:g} {NAMES[unit]} in the share of shard {share.shard} are used"


class ShardNeed(NamedTuple):
    """The amounts of a shard's workloads with one priority, and the largest of one replica."""

    priority: int
    held: float
    minimum: float
    need: float
    per_replica: float


def divide(limit: float, used: Mapping[int, float], needs: Mapping[int, Sequence[ShardNeed]]) -> dict[int, float]:
    """Return each shard's part of a limit: never less than what it uses.

    The parts exceed the limit only where the used amounts do.
    """
    parts = dict(used)
    rows = [(shard, need) for shard in sorted(used) for need in needs.get(shard, ())]
    _add(limit, parts, [(shard, max(0.0, n.minimum - n.held), n.per_replica) for shard, n in rows])
    for priority in sorted({n.priority for _, n in rows}, reverse=True):
        equal = [(shard, n) for shard, n in rows if n.priority == priority]
        _add(limit, parts, [(shard, n.need - max(n.held, n.minimum), n.per_replica) for shard, n in equal])
    largest = {shard: max((n.per_replica for n in needs.get(shard, ())), default=0.0) for shard in parts}
    _add(limit, parts, [(shard, math.inf, largest[shard]) for shard in sorted(parts)])
    return parts


def _add(limit: float, parts: dict[int, float], unmet: Sequence[tuple[int, float, float]]) -> None:
    """Add even parts of what is free to the shards with unmet amounts, in whole replicas."""
    left = free = max(0.0, limit - sum(parts.values()))
    amounts = np.array([amount for _, amount, _ in unmet])
    for row, (shard, amount, per_replica) in enumerate(unmet):
        if amount > EPSILON and left > EPSILON:
            fair = fair_share(free, np.delete(amounts, row), per_replica)
            given = min(left, fair, _in_replicas(amount, per_replica))
            parts[shard] += given
            left -= given


def _in_replicas(amount: float, per_replica: float) -> float:
    if per_replica <= 0 or math.isinf(amount):
        return amount
    return math.ceil(amount / per_replica - EPSILON) * per_replica
