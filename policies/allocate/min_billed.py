"""Replicas within their minimum billed time stay: to remove one earlier saves nothing.

A pool that keeps its replicas (`Pool.keeps_replicas`) holds all of them so.

Example: a unit that is billed by the hour (`min_billed_s: 3600`) is added at 12:00. The load falls at 12:10; the unit
stays until 13:00, and other pools shrink first.
"""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING

from policies.allocate import quantum
from policies.allocate.candidates import observed_supply
from policies.model import Absent, RuleId, Step
from policies.signals.demand import replica_equivalents

if TYPE_CHECKING:
    from collections.abc import Mapping

    from policies.model import PoolName
    from policies.recommend.context import RuleContext


def replicas(context: RuleContext) -> dict[PoolName, int]:
    """Return the replicas of each pool within its minimum billed time, or that it keeps.

    Pools without such a replica are left out. Replicas that the platform failed to provide, and abandoned ones, do not
    count: they may not be billed at all. None stays where together they exceed the workload's maximum.
    """
    billed: dict[PoolName, int] = {}
    for name, pool in context.spec.pools.items():
        reading = context.observation.pools[name]
        if not (pool.min_billed_s or pool.keeps_replicas()) or isinstance(reading, Absent):
            continue
        status, memory = reading.value, context.history.pool_memories.of(name)
        missing = status.desired - sum(observed_supply(pool, status, memory, context.now))
        added = status.desired if pool.keeps_replicas() else memory.added.within(context.now, pool.min_billed_s)
        paid = max(0, added - missing)
        whole = quantum.round_down(status.desired, pool.quantum)
        if kept := min(whole, quantum.round_up(paid, pool.quantum)):
            billed[name] = kept
    serving = sum(n for name, n in billed.items() if name in context.sizes)
    return billed if serving <= context.spec.max_replicas else {}


def with_minimums(context: RuleContext, billed: Mapping[PoolName, int]) -> RuleContext:
    """Return the context with the minimum of each pool raised to its `billed` replicas."""
    if not billed:
        return context
    pools = {
        name: dataclasses.replace(pool, min_replicas=max(pool.min_replicas, billed.get(name, 0)))
        for name, pool in context.spec.pools.items()
    }
    return dataclasses.replace(context, spec=dataclasses.replace(context.spec, pools=pools))


def step(
    context: RuleContext, billed: Mapping[PoolName, int], targets: Mapping[PoolName, int], size: int
) -> Step | None:
    """Return why the pools hold more than `size`: some of their replicas are already paid for."""
    total = replica_equivalents(context.spec, targets)
    kept = [name for name, n in billed.items() if name in context.sizes and targets[name] == n]
    if total <= size or not kept:
        return None
    reasons = []
    for name in kept:
        if context.spec.pools[name].keeps_replicas():
            reasons.append(f"{billed[name]} of {name} are kept, as they may not be available again")
            continue
        min_billed_s = context.spec.pools[name].min_billed_s
        left_s = context.history.pool_memories.of(name).added.remaining_s(context.now, min_billed_s)
        reasons.append(
            f"{billed[name]} of {name} are billed for at least {min_billed_s:g} s, {math.ceil(left_s)} s more: to"
            " remove them earlier saves nothing"
        )
    return Step(RuleId.MIN_BILLED, total, "; ".join(reasons))
