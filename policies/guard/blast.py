"""Blast radius: at most a share of the workload, and of the fleet, scaled in within a window.

What was removed is read off the sizes found, so it counts whoever removed it, and a refused write counts for nothing.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from policies import quanta
from policies.history import HELD
from policies.model import Quota, Step

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from policies.limits import BlastRadius
    from policies.model import PoolName
    from policies.view import Situation


def removable(radius: BlastRadius, largest: float, removed: float, quantum: int = 1) -> int:
    """How many replicas may still go, of `largest` at most in the window, `removed` already in it; one quantum may."""
    return max(0, max(quantum, math.floor(radius.share * largest + 1e-9)) - round(removed))


def _own(s: Situation, quantum: int) -> Quota:
    """What the workload's own radius leaves."""
    radius = s.spec.blast_radius
    sizes = s.history.column(HELD, s.now - radius.window_s)
    sizes = np.append(sizes[~np.isnan(sizes)], sum(s.held.values()))
    removed = float(np.maximum(-np.diff(sizes), 0.0).sum())
    left = removable(radius, float(sizes.max()), removed, quantum)
    key = f"blast_radius.share {radius.share:g} in {radius.window_s:g} s"
    return Quota(left, f"{key}: {removed:g} of {sizes.max():g} went already, {left} may go")


def _radii(s: Situation, quantum: int) -> Iterator[tuple[str, Quota]]:
    if s.spec.blast_radius.share < 1.0:
        yield "blast radius", _own(s, quantum)
    if s.seen.grant is not None and s.seen.grant.removable is not None:
        yield "fleet's blast radius", s.seen.grant.removable


def contain(targets: Mapping[PoolName, int], s: Situation) -> tuple[dict[PoolName, int], Step] | None:
    """The targets with so few removals, the dearest pools' first, as every radius leaves.

    What is given back was to be replaced elsewhere, by a move between pools: that growth goes with it.
    """
    if s.spec.blast_radius.share >= 1.0 and s.seen.grant is None:
        return None
    removals = sum(max(0, s.held[name] - target) for name, target in targets.items())
    quantum = quanta.largest(s.spec.pools[name] for name, target in targets.items() if target < s.held[name])
    tight = min(_radii(s, quantum), key=lambda r: r[1].most, default=None) if removals > 0 else None
    if tight is None or removals <= tight[1].most:
        return None
    rule, quota = tight
    kept, back = dict(targets), removals - int(quota.most)
    pools = s.spec.pools
    for name in sorted(kept, key=lambda n: pools[n].price_usd_per_hour or 0.0):
        gone = max(0, s.held[name] - kept[name])
        returned = gone if gone <= back else quanta.more(kept[name], back, gone, pools[name].quantum)
        kept[name] += returned
        back -= returned
    over = sum(kept.values()) - sum(targets.values())
    for name in sorted(kept, key=lambda n: -(pools[n].price_usd_per_hour or 0.0)):
        grown = max(0, kept[name] - s.held[name])
        spared = grown if grown <= over else quanta.fewer(kept[name], over, pools[name].quantum)
        kept[name] -= spared
        over -= spared
    return kept, Step(rule, sum({**s.held, **kept}.values()), f"{quota.reason}; {removals} were to go")
