"""What must hold of what platforms give: whole quanta, quotas that are heeded, and no faith in what failed."""

from __future__ import annotations

from typing import Final

from policies.allocate import quantum as quanta
from policies.history.capacity_backoff import LONGEST_S, QUOTA_SHORTEST_S
from policies.history.pool_memory import REFUSALS
from policies.model import Fresh, PoolName, PoolStatus, Result, Tick
from policies.signals.demand import EPSILON
from tests.fuzz.worlds.turn import Turn

PATIENCE: Final = 3
"""Turns on end in which a workload may be short of what other pools could give."""
CALM_S: Final = 2 * LONGEST_S
"""Without trouble for so long, a pool has no shortage to be remembered."""


def targets_are_whole_quanta(turn: Turn) -> str | None:
    """What a pool is asked for is a multiple of its quantum, or the size found."""
    for name, found, target in turn.changes:
        quantum = turn.spec.pools[name].quantum
        if target != found and target % quantum:
            return f"{name} {found} -> {target}, and its replicas come and go by {quantum}"
    return None


def quotas_are_heeded(turn: Turn) -> str | None:
    """Where money decides, a pool that said it is short of a quota is asked for no more than its minimum for minutes.

    Unless the specification changes, which no world does, or its size is found above what was asked for: somebody
    raised it by hand, or so it seems after a write whose answer was lost.
    """
    if turn.simple or turn.by_hand():
        return None
    for name, found, target in turn.changes:
        pool = turn.spec.pools[name]
        least = max(found, quanta.round_up(pool.min_replicas, pool.quantum))
        if target > least and (said := short_of_quota(name, turn)):
            return f"{name} {found} -> {target}, and it said: {said}"
    return None


def short_of_quota(name: PoolName, turn: Turn) -> str:
    """What a pool said of a quota in the shortest wait before, unless it has been raised since; else empty."""
    later, since = turn.found[name], turn.now.at - QUOTA_SHORTEST_S
    for seen in turn.since(QUOTA_SHORTEST_S - EPSILON):
        status = _status(name, seen.tick)
        if status is None:
            continue
        outcomes = [o for o in seen.tick.outcomes if o.pool == name and o.after > o.before]
        asked = max([status.desired, *(o.after for o in outcomes if o.result is Result.ACCEPTED)])
        if later.desired > asked:
            return ""
        told = [o.reason for o in outcomes if o.result is Result.OUT_OF_QUOTA]
        if status.shortfall is not None and status.shortfall.quota and status.shortfall.at > since:
            told.append(status.shortfall.reason)
        if told:
            return told[0]
        later = status
    return ""


def failed_is_no_supply(turn: Turn) -> str | None:
    """Where money decides, what a platform said will not come is asked of other pools that have had no trouble.

    Else for some turns on end something failed, less than what is needed was there or on its way, and a pool that in
    its memory's longest time refused, lost and kept waiting nothing was not asked for what was missing.
    """
    if turn.simple or len(turn.past) < PATIENCE or _held_back(turn):
        return None
    ticks = [turn.tick, *(seen.tick for seen in turn.past[:-PATIENCE:-1])]
    missing = ""
    for tick in ticks:
        missing = _missing(turn, tick)
        if not missing:
            return None
    return missing


def _held_back(turn: Turn) -> bool:
    """Whether somebody else than the allocator may keep pools from growing."""
    budget = turn.spec.budget
    limited = budget.gpus is not None or budget.usd_per_hour is not None
    return limited or turn.spec.paused or turn.by_hand() is not None or turn.forbids("hold", "no_scale_out")


def _missing(turn: Turn, tick: Tick) -> str:
    """What is missing in a turn, and the pool that could give it; empty where nothing is, or nobody could."""
    d, spec = tick.decision, turn.spec
    found = {name: status for name in spec.pools if (status := _status(name, tick)) is not None}
    if len(found) < len(spec.pools) or d.target is None or not any(s.failed for s in found.values()):
        return ""
    sizes = {name: d.targets.get(name, status.desired) for name, status in found.items()}
    there = sum(_coming(status, sizes[name]) for name, status in found.items())
    room = spec.max_replicas - (there if d.may_scale_in else sum(sizes.values()))
    needed = (
        d.target if d.capped_need is None else min(d.target, d.capped_need)
    )  # what only a window keeps is not bought anew
    for name in d.targets if there < needed else ():
        limit = _most(turn, name, found[name])
        more = quanta.growth(sizes[name], 1, min(limit - sizes[name], room), spec.pools[name].quantum)
        if more and sizes[name] <= found[name].desired and _calm(turn, name, tick):
            return f"{there} of {needed} are there or on their way, and {name} stays at {sizes[name]}"
    return ""


def _coming(status: PoolStatus, target: int) -> int:
    """Of a pool's target, what serves and stays, or may still come: what failed is the first to be given up."""
    failed = max(0, status.failed - max(0, status.desired - target))
    return max(0, target - failed - status.interruption_pending)


def _most(turn: Turn, name: PoolName, status: PoolStatus) -> int:
    """The most that a pool may be asked for."""
    pool = turn.spec.pools[name]
    limit = quanta.bounds(pool, turn.spec.max_replicas)[1]
    reserved = status.reserved if pool.market == "reserved" else None
    return limit if reserved is None else min(limit, quanta.round_down(reserved, pool.quantum))


def _calm(turn: Turn, name: PoolName, tick: Tick) -> bool:
    """Whether nothing was refused, lost or late in a pool up to a turn, nor in others of its type, zone and market."""
    own = turn.spec.pools[name]
    kind = own.accelerator, own.zone, own.market
    same = {n for n, p in turn.spec.pools.items() if (p.accelerator, p.zone, p.market) == kind}
    alike = same if all(kind) else {name}
    now = {other: _status(other, tick) for other in alike}
    if any(status is None or not _sound(status, status, tick, other) for other, status in now.items()):
        return False
    for seen in reversed(turn.past):
        if seen.at < tick.at - CALM_S:
            break
        for other in alike if seen.at <= tick.at else ():
            then, later = _status(other, seen.tick), now[other]
            if then is not None and later is not None and not _sound(then, later, seen.tick, other):
                return False
    return True


def _sound(then: PoolStatus, later: PoolStatus, tick: Tick, name: PoolName) -> bool:
    """Whether a pool had no trouble in a turn, and lost nothing since."""
    troubled = then.shortfall is not None or then.failed or then.interruption_pending or name in tick.decision.abandoned
    refused = any(o.pool == name and o.result in REFUSALS for o in tick.outcomes)
    lost = then.interrupted != later.interrupted or then.ready > later.ready
    return not (troubled or refused or lost)


def _status(name: PoolName, tick: Tick) -> PoolStatus | None:
    """A pool as a turn saw it; None where it did not."""
    reading = tick.observation.pools.get(name)
    return reading.value if isinstance(reading, Fresh) else None
