"""Invariants of supply: whole quanta, quota errors, and failed replicas."""

from __future__ import annotations

from typing import Final

from policies.allocate import quantum as quanta
from policies.history.capacity_backoff import LONGEST_S, QUOTA_SHORTEST_S
from policies.history.pool_memory import REFUSALS
from policies.model import Fresh, PoolName, PoolStatus, Result, Tick
from policies.model.pool import Pool
from policies.signals.demand import EPSILON
from tests.fuzz.worlds.tick_context import TickContext

PATIENCE: Final = 3
"""Consecutive ticks in which a workload may lack replicas that other pools could provide."""
CALM_S: Final = 2 * LONGEST_S
"""Time without trouble after which a pool has no remembered shortage."""


def targets_are_whole_quanta(context: TickContext) -> str | None:
    """A pool's target is a multiple of its quantum, or the observed size."""
    for name, size, target in context.changes:
        quantum = context.spec.pools[name].quantum
        if target != size and target % quantum:
            return f"{name} {size} -> {target}, and its replicas come and go by {quantum}"
    return None


def quota_errors_are_respected(context: TickContext) -> str | None:
    """If pools differ in cost, a pool with a quota error grows no further than its minimum for some minutes.

    Exceptions are a change of the specification, which no world has, and an observed size above the requested one:
    another writer raised it, or the response to a write was lost.
    """
    if context.pools_are_alike or context.override_in_force():
        return None
    for name, size, target in context.changes:
        pool = context.spec.pools[name]
        minimum = max(size, quanta.round_up(pool.min_replicas, pool.quantum))
        if target > minimum and (reason := short_of_quota(name, context)):
            return f"{name} {size} -> {target}, and it said: {reason}"
    return None


def short_of_quota(name: PoolName, context: TickContext) -> str:
    """Return a pool's last quota error within the shortest backoff, unless it has been raised since; else empty."""
    later, since = context.statuses[name], context.now.at - QUOTA_SHORTEST_S
    for recorded in context.since(QUOTA_SHORTEST_S - EPSILON):
        status = _status(name, recorded.tick)
        if status is None:
            continue
        outcomes = [o for o in recorded.tick.outcomes if o.pool == name and o.after > o.before]
        requested = max([status.desired, *(o.after for o in outcomes if o.result is Result.ACCEPTED)])
        if later.desired > requested:
            return ""
        reasons = [o.reason for o in outcomes if o.result is Result.OUT_OF_QUOTA]
        if status.shortfall is not None and status.shortfall.quota and status.shortfall.at > since:
            reasons.append(status.shortfall.reason)
        if reasons:
            return reasons[0]
        later = status
    return ""


def failed_replicas_are_replaced_elsewhere(context: TickContext) -> str | None:
    """If pools differ in cost, replicas that a platform reports as failed are requested from pools without trouble.

    The violation: for `PATIENCE` consecutive ticks replicas are failed, fewer than needed are present or expected, and
    a pool without trouble for `CALM_S` is not asked for the missing ones. A failed replica that a minimum, a quantum or
    maintenance keeps leaves no place for another one within the workload's maximum.
    """
    if context.pools_are_alike or len(context.past) < PATIENCE or _growth_is_limited(context):
        return None
    ticks = [context.tick, *(recorded.tick for recorded in context.past[:-PATIENCE:-1])]
    missing = ""
    for tick in ticks:
        missing = _missing_replicas(context, tick)
        if not missing:
            return None
    return missing


def _growth_is_limited(context: TickContext) -> bool:
    """Return whether something other than the allocator may keep pools from growing."""
    budget = context.spec.budget
    limited = budget.gpus is not None or budget.usd_per_hour is not None
    return (
        limited
        or context.spec.paused
        or context.override_in_force() is not None
        or context.forbids("hold", "no_scale_out")
    )


def _missing_replicas(context: TickContext, tick: Tick) -> str:
    """Describe the replicas missing at a tick and the pool that could provide them; empty if there are none."""
    d, spec = tick.decision, context.spec
    statuses = {name: status for name in spec.pools if (status := _status(name, tick)) is not None}
    if len(statuses) < len(spec.pools) or d.target is None or not any(s.failed for s in statuses.values()):
        return ""
    sizes = {name: d.targets.get(name, status.desired) for name, status in statuses.items()}
    expected_by_pool = {name: _expected_replicas(status, sizes[name]) for name, status in statuses.items()}
    expected = sum(expected_by_pool.values())
    kept = {name: _kept(n, spec.pools[name]) for name, n in expected_by_pool.items()}
    may_scale_in = d.may_scale_in and not context.forbids("hold", "no_scale_in")
    available = spec.max_replicas - sum((kept if may_scale_in else sizes).values())
    needed = (
        d.target if d.capped_need is None else min(d.target, d.capped_need)
    )  # replicas that only a window retains are not replaced
    for name in d.targets if expected < needed else ():
        limit = _maximum_of(context, name, statuses[name])
        growth = quanta.growth(sizes[name], 1, min(limit - sizes[name], available), spec.pools[name].quantum)
        if growth and sizes[name] <= statuses[name].desired and _is_stable(context, name, tick):
            return f"{expected} of {needed} are there or on their way, and {name} stays at {sizes[name]}"
    return ""


def _kept(expected: int, pool: Pool) -> int:
    """Return the size of a pool without its failed replicas, as far as its minimum and its quantum allow it."""
    size: int = quanta.round_up(max(expected, pool.min_replicas), pool.quantum)
    return size


def _expected_replicas(status: PoolStatus, target: int) -> int:
    """Return the part of a pool's target that serves and stays, or may still come. Failed ones are removed first."""
    failed = max(0, status.failed - max(0, status.desired - target))
    return max(0, target - failed - status.interruption_pending)


def _maximum_of(context: TickContext, name: PoolName, status: PoolStatus) -> int:
    """Return the maximum size of a pool."""
    pool = context.spec.pools[name]
    limit = quanta.bounds(pool, context.spec.max_replicas)[1]
    reserved = status.reserved if pool.market == "reserved" else None
    return limit if reserved is None else min(limit, quanta.round_down(reserved, pool.quantum))


def _is_stable(context: TickContext, name: PoolName, tick: Tick) -> bool:
    """Return whether a pool, and others of its type, zone and market, had no trouble up to a tick."""
    pool = context.spec.pools[name]
    kind = pool.accelerator, pool.zone, pool.market
    same = {n for n, p in context.spec.pools.items() if (p.accelerator, p.zone, p.market) == kind}
    same_market = same if all(kind) else {name}
    current_statuses = {other: _status(other, tick) for other in same_market}
    if any(
        status is None or not _is_healthy(status, status, tick, other) for other, status in current_statuses.items()
    ):
        return False
    for recorded in reversed(context.past):
        if recorded.at < tick.at - CALM_S:
            break
        for other in same_market if recorded.at <= tick.at else ():
            earlier, later = _status(other, recorded.tick), current_statuses[other]
            if earlier is not None and later is not None and not _is_healthy(earlier, later, recorded.tick, other):
                return False
    return True


def _is_healthy(earlier: PoolStatus, later: PoolStatus, tick: Tick, name: PoolName) -> bool:
    """Return whether a pool had no trouble at a tick, and lost nothing since."""
    troubled = (
        earlier.shortfall is not None
        or earlier.failed
        or earlier.interruption_pending
        or name in tick.decision.abandoned
    )
    refused = any(o.pool == name and o.result in REFUSALS for o in tick.outcomes)
    lost = earlier.interrupted != later.interrupted or earlier.ready > later.ready
    return not (troubled or refused or lost)


def _status(name: PoolName, tick: Tick) -> PoolStatus | None:
    """Return a pool's fresh status at a tick, or None."""
    reading = tick.observation.pools.get(name)
    return reading.value if isinstance(reading, Fresh) else None
