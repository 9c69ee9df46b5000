"""The supply of the pools in replica equivalents, and the split of a size over them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from policies.allocate import candidates, cost_allocation, headroom, min_billed, quantum
from policies.allocate.in_order import allocate
from policies.allocate.transition import remaining_abandoned
from policies.guard.bounds import unmanaged_pools, within
from policies.history.ticks import TARGET
from policies.model import Absent, Fresh, PoolName, PoolStatus, Reading, RuleId, Step
from policies.signals.demand import replica_equivalents, whole_replicas

if TYPE_CHECKING:
    from collections.abc import Mapping, Set

    from policies.history.ticks import History
    from policies.model import Observation
    from policies.model.spec import WorkloadSpec
    from policies.recommend.context import RuleContext


@dataclass(frozen=True, slots=True)
class ServingSupply:
    """The serving pools' sizes, and the current and ready supply in replica equivalents.

    `current` and `ready` are None while a serving pool's size is not known.
    """

    sizes: dict[PoolName, int]
    current: int | None
    ready: int | None


@dataclass(frozen=True, slots=True)
class Allocation:
    """Sizes to request from the pools.

    `target` is the allocated size in replica equivalents, `abandoned` the requests that no longer count as supply.
    `headroom` are the sizes of the headroom tiers, which stay apart until the guard has run.
    """

    steps: tuple[Step, ...]
    target: int | None
    targets: dict[PoolName, int]
    abandoned: Mapping[PoolName, int] = field(default_factory=dict)
    headroom: Mapping[PoolName, int] = field(default_factory=dict)

    def corrected(self, context: RuleContext, steps: tuple[Step, ...], allowed: dict[PoolName, int]) -> Allocation:
        """Return the allocation with the targets that the guard allows, by the rules in `steps`.

        Growth that the guard cuts counts as a spare first. Example: a size of 4 is placed as 6 replicas with 2 spares,
        and the guard allows 5 of them: the target stays 4.
        """
        if not steps or self.target is None:
            return self
        spec = context.spec
        more = max(0, replica_equivalents(spec, allowed) - replica_equivalents(spec, self.targets))
        target = min(self.target + more, replica_equivalents(spec, {**context.sizes, **allowed}))
        return replace(self, steps=(*self.steps, *steps), target=target, targets=allowed, headroom={})


def serving_supply(spec: WorkloadSpec, history: History, observation: Observation) -> ServingSupply:
    """Return the observed supply.

    Where cost decides, replicas beyond the last target are spares.

    One replica counts in any case, or a window without growth would remove the last one as a spare. Example: the last
    target was 4, and 6 replicas include 2 spares: the current size is 4.
    """
    pools = candidates.serving_pools(spec)
    statuses = {n: r.value for n in pools if not isinstance(r := observation.pools[n], Absent)}
    sizes = {n: status.desired for n, status in statuses.items()}
    if len(sizes) < len(pools):
        return ServingSupply(sizes, None, None)
    ready = whole_replicas(sum(status.ready * pools[n].work_per_replica for n, status in statuses.items()))
    current = replica_equivalents(spec, sizes)
    if candidates.differ_in_cost(spec):
        last_target = history.column(TARGET)[-1:]
        if last_target.size and last_target[0] >= 0:  # NaN where no size was known
            current = min(current, max(1, int(last_target[0])))
    return ServingSupply(sizes, current, ready)


def place(context: RuleContext, size: int, split: Mapping[PoolName, int] | None) -> Allocation:
    """Return the size of each pool for `size` replica equivalents.

    A policy's own `split` comes first. Pools that do not differ in cost are filled in the order listed, others by cost.
    No pool goes below the replicas within their minimum billed time.
    """
    billed = min_billed.replicas(context)
    context = min_billed.with_minimums(context, billed)
    spec, sizes = context.spec, context.sizes
    steps: tuple[Step, ...] = ()
    unmanaged = unmanaged_pools(spec, context.observation.pools)
    abandoned: Mapping[PoolName, int] = {}
    targets: dict[PoolName, int] = {}
    if spec.paused:
        target = context.current
    elif split is not None:
        minimums = dict.fromkeys(sizes, 0) if context.may_scale_in else sizes
        shares = {name: max(minimums[name], split.get(name, 0)) for name in sizes if name not in unmanaged}
        targets = {name: within(spec.pools[name], n, sizes[name], spec.max_replicas) for name, n in shares.items()}
        target = replica_equivalents(spec, {**sizes, **targets})
    elif candidates.differ_in_cost(spec):
        need, work = context.need, float(size)
        if need is not None and whole_replicas(need) == size and candidates.differ_in_capacity(spec):
            work = need
        placed = cost_allocation.place(work, context, unmanaged.keys())
        targets, abandoned, steps = placed.targets, placed.abandoned, placed.steps
        target = min(size, replica_equivalents(spec, {**sizes, **targets}))
    else:
        targets, steps = _in_order(context, size, unmanaged.keys())
        target = sum({**sizes, **targets}.values())
    if unmanaged:
        steps = (*steps, Step(RuleId.UNMANAGED_POOLS, target, "; ".join(unmanaged.values())))
    elif step := min_billed.step(context, billed, {**sizes, **targets}, size):
        steps = (*steps, step)
    elif target != size:
        steps = (*steps, Step(RuleId.POOL_BOUNDS, target, f"the pools' own bounds allow {target} instead of {size}"))
    tiers: dict[PoolName, int] = {}
    if not spec.paused:
        tiers, tier_steps = headroom.size_tiers(context, max(float(target), float(size)), unmanaged.keys())
        steps = (*steps, *tier_steps)
    return Allocation(steps, target, targets, abandoned, tiers)


def _in_order(
    context: RuleContext, size: int, unmanaged: Set[PoolName]
) -> tuple[dict[PoolName, int], tuple[Step, ...]]:
    """Return the sizes in the order listed, without growth in pools that have a shortage.

    A pool with a shortage keeps the replicas that serve or may still arrive, and the next pools take the others. Where
    every pool has a shortage or its maximum size, all are requested, except for a few minutes after a quota error.

    Example: a holds 3, of which 1 failed, and b holds 0. A size of 4 makes a 2 and b 2.
    """
    spec, now, memories = context.spec, context.now, context.history.pool_memories
    pools = candidates.serving_pools(spec)
    unlimited = allocate(size, context.sizes, pools, unmanaged, spec.max_replicas)
    unavailable = {
        n: why
        for n in pools
        if (why := candidates.unavailable_reason(n, pools, context.observation.pools, memories, now))
    }
    has_no_alternative = bool(unavailable) and not any(
        context.sizes[n] < quantum.bounds(pools[n], spec.max_replicas)[1]
        for n in pools.keys() - unmanaged - unavailable.keys()
    )
    if has_no_alternative:
        unavailable = {n: why for n, why in unavailable.items() if memories.of(n).backoff.is_recent_quota_error(now)}
    if not unavailable:
        return unlimited, ()
    sizes, limited_pools = dict(context.sizes), dict(pools)
    for name in unavailable.keys() - unmanaged:
        reading, pool = context.observation.pools[name], pools[name]
        if isinstance(reading, Fresh) and context.may_scale_in and not has_no_alternative:
            sizes[name] -= quantum.removal(sizes[name], reading.value.failed, pool.quantum)
        limited_pools[name] = replace(pool, max_replicas=max(sizes[name], pool.min_replicas))
    targets = allocate(size, sizes, limited_pools, unmanaged, spec.max_replicas)
    if targets == unlimited:
        return unlimited, ()
    total = sum({**context.sizes, **targets}.values())
    reason = "; ".join(f"{n}: {why}" for n, why in unavailable.items())
    return targets, (Step(RuleId.SHORTAGE, total, reason),)


def cost_usd_per_hour(
    spec: WorkloadSpec,
    statuses: Mapping[PoolName, Reading[PoolStatus]],
    targets: Mapping[PoolName, int],
    abandoned: Mapping[PoolName, int],
) -> float | None:
    """Return the cost of the pools at their targets, or at their sizes without a target.

    None where a size or a price is not known. Abandoned requests that remain cost nothing: 5 replicas at 2 USD/h, of
    which 1 is abandoned, cost 8 USD/h.
    """
    total = 0.0
    for name, pool in spec.pools.items():
        price, reading = pool.price_usd_per_hour, statuses[name]
        desired = None if isinstance(reading, Absent) else reading.value.desired
        replicas = targets.get(name, desired)
        if replicas is None:
            return None
        if desired is not None:
            replicas = max(0, replicas - remaining_abandoned(abandoned.get(name, 0), desired, replicas))
        if replicas and price is None:
            return None
        total += replicas * (price or 0.0)
    return total
