"""Blast radius: limits on scale-in within a window, of the workload and of the fleet.

Removals are counted from the observed sizes, so those of other writers count, and a refused write does not. Where the
share rounds to less than a pool's quantum, one quantum of one pool may be removed, or that pool would never shrink.

Example: a share of 0.1 of 20 replicas allows the removal of 2 from pools with a quantum of 1, or of 8 at once from a
single pool with a quantum of 8. In either case, no more are removed within the window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policies.allocate import quantum as quanta
from policies.history.ticks import DESIRED
from policies.model import RuleId, Step
from policies.signals.demand import replica_equivalents

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from policies.model import PoolName
    from policies.model.limits import BlastRadius
    from policies.recommend.context import RuleContext


def removable(radius: BlastRadius, largest: float, removed: float) -> int:
    """Return the replicas that may still go, of `largest` in the window, after `removed` went.

    Example: a share of 0.1 of 25 replicas allows 2, and 1 more after the first; of 5 replicas it allows 1.
    """
    return max(0, max(1, math.floor(radius.share * largest + 1e-9)) - round(removed))


@dataclass(frozen=True, slots=True)
class RemovalLimit:
    """One radius: `removable` more replicas of all pools, after `removed` in its window."""

    rule: RuleId
    removable: int
    removed: int
    reason: str

    def of_one_pool(self, quantum: int) -> int:
        """Return how many replicas may go if all are from one pool with this quantum."""
        return max(self.removable, quantum - self.removed)

    def allows(self, removals: Mapping[PoolName, int], context: RuleContext) -> bool:
        """Return whether these removals fit: together, or as one quantum of a single pool."""
        total = sum(removals.values())
        if total <= self.removable:
            return True
        return len(removals) == 1 and all(n <= self.of_one_pool(_quantum(p, context)) for p, n in removals.items())


def limit_blast_radius(
    targets: Mapping[PoolName, int], context: RuleContext
) -> tuple[dict[PoolName, int], Step] | None:
    """Cancel the removals that a radius does not allow, those of the most expensive pools last.

    A cancelled removal may have been part of a move to another pool: that growth is cut with it.
    """
    desired = context.desired
    removals = {name: desired[name] - target for name, target in targets.items() if target < desired[name]}
    limits = tuple(_limits(context)) if removals else ()
    exceeded = [limit for limit in limits if not limit.allows(removals, context)]
    if not exceeded:
        return None
    tightest = min(exceeded, key=lambda limit: limit.removable)
    allowed = _allowed_removals(removals, limits, context)
    corrected = {**targets, **{name: desired[name] - allowed.get(name, 0) for name in removals}}
    _cut_replacements(corrected, sum(corrected.values()) - sum(targets.values()), context)
    total = sum(removals.values())
    whole = ", ".join(f"one quantum of {name} is removed" for name, n in allowed.items() if n > tightest.removable)
    reason = f"{tightest.reason}; {total} removals were planned" + (f", {whole}" if whole else "")
    return corrected, Step(tightest.rule, replica_equivalents(context.spec, {**desired, **corrected}), reason)


def _limits(context: RuleContext) -> Iterator[RemovalLimit]:
    """Yield the limit of the workload's own radius, and that of the fleet's as it was granted."""
    radius, grant = context.spec.blast_radius, context.observation.grant
    if radius.share < 1.0:
        sizes = context.history.column(DESIRED, context.now - radius.window_s)
        sizes = np.append(sizes[~np.isnan(sizes)], sum(context.desired.values()))
        removed = float(np.maximum(-np.diff(sizes), 0.0).sum())
        left = removable(radius, float(sizes.max()), removed)
        key = f"blast_radius.share is {radius.share:g} per {radius.window_s:g} s"
        reason = f"{key}: {removed:g} of {sizes.max():g} replicas were removed, {left} more are allowed"
        yield RemovalLimit(RuleId.BLAST_RADIUS, left, round(removed), reason)
    if grant is not None and grant.removable is not None:
        quota = grant.removable
        yield RemovalLimit(RuleId.FLEET_BLAST_RADIUS, int(quota.most), grant.removed, quota.reason)


def _allowed_removals(
    removals: Mapping[PoolName, int], limits: Sequence[RemovalLimit], context: RuleContext
) -> dict[PoolName, int]:
    """Return the removals that all limits allow in whole quanta, or one quantum of one pool."""
    left = min(limit.removable for limit in limits)
    pools = sorted(removals, key=lambda n: context.spec.pools[n].price_usd_per_hour or 0.0)[::-1]
    allowed = {}
    for name in pools:
        allowed[name] = quanta.removal(context.desired[name], min(left, removals[name]), _quantum(name, context))
        left -= allowed[name]
    if any(allowed.values()):
        return allowed
    for name in pools:
        quantum = _quantum(name, context)
        maximum = min(removals[name], *(limit.of_one_pool(quantum) for limit in limits))
        if (removed := quanta.removal(context.desired[name], maximum, quantum)) > 0:
            return {name: removed}
    return {}


def _cut_replacements(targets: dict[PoolName, int], excess: int, context: RuleContext) -> None:
    """Cut `excess` replicas of growth, the most expensive pools' first."""
    for name in sorted(targets, key=lambda n: -(context.spec.pools[n].price_usd_per_hour or 0.0)):
        grown = max(0, targets[name] - context.desired[name])
        cut = grown if grown <= excess else quanta.removal(targets[name], excess, _quantum(name, context))
        targets[name] -= cut
        excess -= cut


def _quantum(name: PoolName, context: RuleContext) -> int:
    quantum: int = context.spec.pools[name].quantum
    return quantum
