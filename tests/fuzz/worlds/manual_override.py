"""Invariants of the operator's limits: budgets, blast radius, maintenance, override."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Final

from policies.model import Absent, Fresh, Tick
from policies.model.pool import Pool
from tests.fuzz.worlds.supply import short_of_quota
from tests.fuzz.worlds.tick_context import TickContext

NOISE: Final = 1e-6
"""Relative rounding error of a sum of prices."""


def within_budgets(context: TickContext) -> str | None:
    """The decided sizes use no more of a budget than its limit, or than the observed sizes."""
    budget = context.spec.budget
    for unit, limit in ((gpus, budget.gpus), (usd_per_hour, budget.usd_per_hour)):
        before, after = use(context, unit)
        if limit is not None and after > max(limit, before) * (1 + NOISE):
            return f"{unit.__name__} {before:g} -> {after:g}, and the budget is {limit:g}"
    return None


def gpus(pool: Pool) -> float:
    return float(pool.gpus_per_replica)


def usd_per_hour(pool: Pool) -> float:
    """Return the cost of one replica: a reserved one is paid whether used or not."""
    return 0.0 if pool.market == "reserved" else pool.price_usd_per_hour or 0.0


def use(context: TickContext, unit: Callable[[Pool], float]) -> tuple[float, float]:
    """Return the use of a unit by the sizes found and by the sizes decided."""
    before = {name: status.desired for name, status in context.statuses.items()}
    after = {**before, **context.decision.targets}
    size, decided = (sum(n * unit(context.spec.pools[name]) for name, n in sizes.items()) for sizes in (before, after))
    return size, decided


def removed_in_window(context: TickContext, now: int) -> tuple[int, int]:
    """Return the replicas removed within the blast radius's window, and its largest size: 8, 6, 7 gives 2 and 8."""
    window_s = context.spec.blast_radius.window_s
    sizes = [now, *(size for s in context.since(window_s) if (size := observed_size(s.tick)) is not None)]
    return sum(max(0, earlier - later) for later, earlier in itertools.pairwise(sizes)), max(sizes)


def within_the_blast_radius(context: TickContext) -> str | None:
    """Within the blast radius's window at most its share of the largest size is removed, or one quantum of one pool."""
    radius, now = context.spec.blast_radius, observed_size(context.tick)
    if radius.share == 1.0 or now is None:
        return None
    removal = now - sum({**{n: s.desired for n, s in context.statuses.items()}, **context.decision.targets}.values())
    removed, largest = removed_in_window(context, now)
    shrinking = [name for name, size, target in context.changes if target < size]
    minimum = context.spec.pools[shrinking[0]].quantum if len(shrinking) == 1 else 1
    maximum = max(minimum, math.floor(radius.share * largest + NOISE)) - removed
    if removal > max(0, maximum):
        return f"{removal} of {now} are removed, {removed} of {largest} went before, and {radius.share:g} may go"
    return None


def observed_size(tick: Tick) -> int | None:
    """Return the sum of the pools' observed sizes; None if one is unknown."""
    sizes = [r.value.desired for r in tick.observation.pools.values() if not isinstance(r, Absent)]
    return sum(sizes) if len(sizes) == len(tick.observation.pools) else None


def maintenance_holds(context: TickContext) -> str | None:
    """In a maintenance window no pool moves in a forbidden direction, unless an override is in force."""
    for name, size, target in context.changes:
        if target < size and context.forbids("hold", "no_scale_in"):
            return f"{name} {size} -> {target} in maintenance that forbids to shrink"
        if target > size and context.forbids("hold", "no_scale_out"):
            return f"{name} {size} -> {target} in maintenance that forbids to grow"
    return None


def override_is_obeyed(context: TickContext) -> str | None:
    """An override sets the size of a single pool without budget or blast radius, within quanta, bounds and evidence.

    Growth waits for some minutes after a quota error.
    """
    d, spec, override = context.decision, context.spec, context.override_in_force()
    limited = spec.budget.gpus is not None or spec.budget.usd_per_hour is not None or spec.blast_radius.share < 1.0
    if override is None or limited or spec.paused or len(spec.pools) > 1 or d.current is None:
        return None
    ((name, pool),) = spec.pools.items()
    maximum = max(spec.max_replicas if pool.max_replicas is None else pool.max_replicas, d.current)
    size = max(spec.min_replicas, pool.min_replicas, min(override.replicas, spec.max_replicas, maximum))
    fresh = isinstance(context.tick.observation.pools[name], Fresh)
    near = d.target is not None and abs(d.target - size) <= context.rounding
    may_move = d.may_scale_in if size <= d.current else not short_of_quota(name, context)
    if not near and fresh and may_move:
        return f"set by hand to {override.replicas}, which bounds make {size}, and {d.current} -> {d.target}"
    return None
