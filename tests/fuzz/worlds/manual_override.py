"""What must hold of the owner's limits: budgets, blast radius, maintenance, a size set by hand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Final

from policies.model import Absent, Fresh, Tick
from policies.model.spec import Pool
from tests.fuzz.worlds.turn import Turn

NOISE: Final = 1e-6
"""Of a sum of prices, as a share of it."""


def within_budgets(turn: Turn) -> str | None:
    """What the sizes decided hold of a budget is within it, or no more than what the sizes found hold."""
    budget = turn.spec.budget
    for unit, limit in ((gpus, budget.gpus), (usd_per_hour, budget.usd_per_hour)):
        before, after = use(turn, unit)
        if limit is not None and after > max(limit, before) * (1 + NOISE):
            return f"{unit.__name__} {before:g} -> {after:g}, and the budget is {limit:g}"
    return None


def gpus(pool: Pool) -> float:
    return float(pool.gpus_per_replica)


def usd_per_hour(pool: Pool) -> float:
    """Return the cost of one replica: a reserved one is paid whether used or not."""
    return 0.0 if pool.market == "reserved" else pool.price_usd_per_hour or 0.0


def use(turn: Turn, unit: Callable[[Pool], float]) -> tuple[float, float]:
    """Return the use of a unit by the sizes found and by the sizes decided."""
    before = {name: status.desired for name, status in turn.found.items()}
    after = {**before, **turn.decision.targets}
    found, decided = (sum(n * unit(turn.spec.pools[name]) for name, n in sizes.items()) for sizes in (before, after))
    return found, decided


def removed_in_window(turn: Turn, now: int) -> tuple[int, int]:
    """Return the replicas removed within the blast radius's window, and its largest size: 8, 6, 7 gives 2 and 8."""
    window_s = turn.spec.blast_radius.window_s
    sizes = [now, *(size for s in turn.since(window_s) if (size := held(s.tick)) is not None)]
    return sum(max(0, earlier - later) for later, earlier in itertools.pairwise(sizes)), max(sizes)


def within_the_blast_radius(turn: Turn) -> str | None:
    """In the blast radius's window no more than its share of the largest size goes, or one quantum of one pool."""
    radius, now = turn.spec.blast_radius, held(turn.tick)
    if radius.share == 1.0 or now is None:
        return None
    removal = now - sum({**{n: s.desired for n, s in turn.found.items()}, **turn.decision.targets}.values())
    removed, largest = removed_in_window(turn, now)
    shrinking = [name for name, found, target in turn.changes if target < found]
    least = turn.spec.pools[shrinking[0]].quantum if len(shrinking) == 1 else 1
    most = max(least, math.floor(radius.share * largest + NOISE)) - removed
    if removal > max(0, most):
        return f"{removal} of {now} are removed, {removed} of {largest} went before, and {radius.share:g} may go"
    return None


def held(tick: Tick) -> int | None:
    """The sum of the pools' sizes as found; None where one is not known."""
    sizes = [r.value.desired for r in tick.observation.pools.values() if not isinstance(r, Absent)]
    return sum(sizes) if len(sizes) == len(tick.observation.pools) else None


def maintenance_holds(turn: Turn) -> str | None:
    """In a maintenance window no pool moves the way that it forbids, unless a size is set by hand."""
    for name, found, target in turn.changes:
        if target < found and turn.forbids("hold", "no_scale_in"):
            return f"{name} {found} -> {target} in maintenance that forbids to shrink"
        if target > found and turn.forbids("hold", "no_scale_out"):
            return f"{name} {found} -> {target} in maintenance that forbids to grow"
    return None


def a_hand_is_obeyed(turn: Turn) -> str | None:
    """A size set by hand is that of a single pool without budget or radius, in whole quanta, bounds and evidence."""
    d, spec, given = turn.decision, turn.spec, turn.by_hand()
    limited = spec.budget.gpus is not None or spec.budget.usd_per_hour is not None or spec.blast_radius.share < 1.0
    if given is None or limited or spec.paused or len(spec.pools) > 1 or d.current is None:
        return None
    ((name, pool),) = spec.pools.items()
    most = max(spec.max_replicas if pool.max_replicas is None else pool.max_replicas, d.current)
    size = max(spec.min_replicas, pool.min_replicas, min(given.replicas, spec.max_replicas, most))
    fresh = isinstance(turn.tick.observation.pools[name], Fresh)
    near = d.target is not None and abs(d.target - size) <= turn.rounding
    if not near and fresh and (size > d.current or d.may_scale_in):
        return f"set by hand to {given.replicas}, which bounds make {size}, and {d.current} -> {d.target}"
    return None
