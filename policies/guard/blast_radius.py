"""Blast radius: at most a share of the workload, and of the fleet, scaled in within a window.

What was removed is read off the sizes found, so it counts whoever removed it, and a refused write counts for nothing.
Where the share rounds to less than a pool's quantum, one quantum of one pool may go, lest that pool never shrinks: a
share of 0.1 of 20 replicas lets 2 go of pools with a quantum of 1, or else 8 at once of a single pool with a quantum of
8, and in either case nothing more within the window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from policies.allocate import quantum as quanta
from policies.history.ticks import HELD
from policies.model import RuleId, Step
from policies.signals.demand import replica_equivalents

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from policies.model import PoolName
    from policies.model.limits import BlastRadius
    from policies.recommend.context import RuleContext


def removable(radius: BlastRadius, largest: float, removed: float) -> int:
    """Return how many replicas may still go: of `largest` in the window, `removed` went. One always may."""
    return max(0, max(1, math.floor(radius.share * largest + 1e-9)) - round(removed))


@dataclass(frozen=True, slots=True)
class Room:
    """What one radius still allows: `left` replicas of all pools together. `removed` went within its window."""

    rule: RuleId
    left: int
    removed: int
    reason: str

    def of_one_pool(self, quantum: int) -> int:
        """Return how many replicas may go if they are all of one pool with this quantum."""
        return max(self.left, quantum - self.removed)

    def allows(self, removals: Mapping[PoolName, int], s: RuleContext) -> bool:
        """Return whether these removals fit: together, or as one quantum of a single pool."""
        total = sum(removals.values())
        if total <= self.left:
            return True
        return len(removals) == 1 and all(n <= self.of_one_pool(_quantum(p, s)) for p, n in removals.items())


def limit_blast_radius(targets: Mapping[PoolName, int], s: RuleContext) -> tuple[dict[PoolName, int], Step] | None:
    """Give back the removals that a radius does not allow; the most expensive pools' removals stay.

    What is given back was to be replaced elsewhere, by a move between pools: that growth goes with it.
    """
    removals = {name: s.desired[name] - target for name, target in targets.items() if target < s.desired[name]}
    rooms = tuple(_rooms(s)) if removals else ()
    tight = min((r for r in rooms if not r.allows(removals, s)), key=lambda r: r.left, default=None)
    if tight is None:
        return None
    allowed = _allowed(removals, rooms, s)
    kept = {**targets, **{name: s.desired[name] - allowed.get(name, 0) for name in removals}}
    _cut_replacements(kept, sum(kept.values()) - sum(targets.values()), s)
    total = sum(removals.values())
    whole = ", ".join(f"one quantum of {name} goes" for name, n in allowed.items() if n > tight.left)
    reason = f"{tight.reason}; {total} were to go" + (f", {whole}" if whole else "")
    return kept, Step(tight.rule, replica_equivalents(s.spec, {**s.desired, **kept}), reason)


def _rooms(s: RuleContext) -> Iterator[Room]:
    """The workload's own radius, and the fleet's as it was granted."""
    radius, grant = s.spec.blast_radius, s.observation.grant
    if radius.share < 1.0:
        sizes = s.history.column(HELD, s.now - radius.window_s)
        sizes = np.append(sizes[~np.isnan(sizes)], sum(s.desired.values()))
        removed = float(np.maximum(-np.diff(sizes), 0.0).sum())
        left = removable(radius, float(sizes.max()), removed)
        key = f"blast_radius.share {radius.share:g} in {radius.window_s:g} s"
        reason = f"{key}: {removed:g} of {sizes.max():g} went already, {left} may go"
        yield Room(RuleId.BLAST_RADIUS, left, round(removed), reason)
    if grant is not None and grant.removable is not None:
        yield Room(RuleId.FLEET_BLAST_RADIUS, int(grant.removable.most), grant.removed, grant.removable.reason)


def _allowed(removals: Mapping[PoolName, int], rooms: Sequence[Room], s: RuleContext) -> dict[PoolName, int]:
    """The removals that every radius allows, in whole quanta; one quantum of one pool where nothing fits together."""
    left = min(room.left for room in rooms)
    pools = sorted(removals, key=lambda n: s.spec.pools[n].price_usd_per_hour or 0.0)[::-1]
    allowed = {}
    for name in pools:
        allowed[name] = quanta.removal(s.desired[name], min(left, removals[name]), _quantum(name, s))
        left -= allowed[name]
    if any(allowed.values()):
        return allowed
    for name in pools:
        quantum = _quantum(name, s)
        most = min(removals[name], *(room.of_one_pool(quantum) for room in rooms))
        if (one := quanta.removal(s.desired[name], most, quantum)) > 0:
            return {name: one}
    return {}


def _cut_replacements(kept: dict[PoolName, int], over: int, s: RuleContext) -> None:
    """Cut `over` replicas of growth, the most expensive pools' first."""
    for name in sorted(kept, key=lambda n: -(s.spec.pools[n].price_usd_per_hour or 0.0)):
        grown = max(0, kept[name] - s.desired[name])
        cut = grown if grown <= over else quanta.removal(kept[name], over, _quantum(name, s))
        kept[name] -= cut
        over -= cut


def _quantum(name: PoolName, s: RuleContext) -> int:
    quantum: int = s.spec.pools[name].quantum
    return quantum
