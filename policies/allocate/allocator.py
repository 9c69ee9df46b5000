"""Where a size meets the pools: what is there in replicas' worth, and what to ask of each pool."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from policies.allocate import candidates, cost_allocation, headroom, quantum
from policies.allocate.in_order import allocate
from policies.allocate.transition import still_pending
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
    """The serving pools as found: their sizes, and what they hold and serve in replicas' worth.

    `current` and `ready` are None while a serving pool's size is not known.
    """

    sizes: dict[PoolName, int]
    current: int | None
    ready: int | None


@dataclass(frozen=True, slots=True)
class Allocation:
    """What to ask of the pools. `target` is the size as placed; `resting` are the tiers' sizes, apart from it until the
    guard has had its word."""

    steps: tuple[Step, ...]
    target: int | None
    targets: dict[PoolName, int]
    abandoned: Mapping[PoolName, int] = field(default_factory=dict)
    headroom: Mapping[PoolName, int] = field(default_factory=dict)

    def corrected(self, s: RuleContext, rules: tuple[Step, ...], allowed: dict[PoolName, int]) -> Allocation:
        """What the guard leaves of it, by these rules: growth that it cuts was spare first."""
        if not rules or self.target is None:
            return self
        more = max(0, replica_equivalents(s.spec, allowed) - replica_equivalents(s.spec, self.targets))
        target = min(self.target + more, replica_equivalents(s.spec, {**s.sizes, **allowed}))
        return replace(self, steps=(*self.steps, *rules), target=target, targets=allowed, headroom={})


def serving_supply(spec: WorkloadSpec, history: History, seen: Observation) -> ServingSupply:
    """What is there. Where money decides, what the allocator held beyond the last size is no size: it is spare.

    Of replicas that are there one counts in any case: a window without growth must not take the last for a spare.
    """
    pools = candidates.serving(spec)
    read = {n: r.value for n in pools if not isinstance(r := seen.pools[n], Absent)}
    sizes = {n: status.desired for n, status in read.items()}
    if len(sizes) < len(pools):
        return ServingSupply(sizes, None, None)
    ready = whole_replicas(sum(status.ready * pools[n].work_per_replica for n, status in read.items()))
    held = replica_equivalents(spec, sizes)
    last = history.column(TARGET)[-1:]
    if candidates.differ_in_cost(spec) and last.size and last[0] >= 0:  # not a number where no size was known
        held = min(held, max(1, int(last[0])))
    return ServingSupply(sizes, held, ready)


def place(s: RuleContext, steps: tuple[Step, ...], size: int, split: Mapping[PoolName, int] | None) -> Allocation:
    """The size shared out: by `split` where a policy does that itself, in the order listed where pools differ in
    nothing, else by money; and what the pools cannot take."""
    spec, sizes = s.spec, s.sizes
    kept = unmanaged_pools(spec, s.observation.pools)
    written_off: Mapping[PoolName, int] = {}
    pools: dict[PoolName, int] = {}
    if spec.paused:
        target = s.current
    elif split is not None:
        least = dict.fromkeys(sizes, 0) if s.may_scale_in else sizes
        wanted = {name: max(least[name], split.get(name, 0)) for name in sizes if name not in kept}
        pools = {name: within(spec.pools[name], n, sizes[name], spec.max_replicas) for name, n in wanted.items()}
        target = replica_equivalents(spec, {**sizes, **pools})
    elif candidates.differ_in_cost(spec):
        exact = s.need is not None and whole_replicas(s.need) == size and candidates.differ_in_capacity(spec)
        work = s.need if exact and s.need is not None else float(size)
        placed = cost_allocation.place(work, s, kept.keys())
        pools, written_off = placed.targets, placed.abandoned
        steps = (*steps, *placed.steps)
        target = min(size, replica_equivalents(spec, {**sizes, **pools}))
    else:
        pools, why = _in_order(s, size, kept.keys())
        steps = (*steps, *why)
        target = sum({**sizes, **pools}.values())
    if kept:
        steps = (*steps, Step(RuleId.UNMANAGED_POOLS, target, "; ".join(kept.values())))
    elif target != size:
        steps = (*steps, Step(RuleId.POOL_BOUNDS, target, f"the pools' own bounds make {target} of {size}"))
    resting: dict[PoolName, int] = {}
    if not spec.paused:
        resting, why = headroom.rest(s, max(float(target), float(size)), kept.keys())
        steps = (*steps, *why)
    return Allocation(steps, target, pools, written_off, resting)


def _in_order(s: RuleContext, size: int, kept: Set[PoolName]) -> tuple[dict[PoolName, int], tuple[Step, ...]]:
    """The order listed, but for pools that are known to give no more while others may: these keep what serves there or
    may still come, and the next ones take the rest. Where none may give more, all are asked whatever is remembered, but
    only every few minutes after a quota error."""
    spec, pools = s.spec, candidates.serving(s.spec)
    asked = allocate(size, s.sizes, pools, kept, spec.max_replicas)
    shut = {
        n: why
        for n in pools
        if (why := candidates.unavailable_reason(n, pools, s.observation.pools, s.history.pool_memories, s.now))
    }
    alone = not pools.keys() - kept - shut.keys()
    if alone:
        shut = {n: why for n, why in shut.items() if s.history.pool_memories.of(n).backoff.fresh_quota(s.now)}
    if not shut:
        return asked, ()
    sizes, closed = dict(s.sizes), dict(pools)
    for name in shut.keys() - kept:
        reading, pool = s.observation.pools[name], pools[name]
        if isinstance(reading, Fresh) and s.may_scale_in and not alone:
            sizes[name] -= quantum.removal(sizes[name], reading.value.failed, pool.quantum)
        closed[name] = replace(pool, max_replicas=max(sizes[name], pool.min_replicas))
    given = allocate(size, sizes, closed, kept, spec.max_replicas)
    if given == asked:
        return asked, ()
    total = sum({**s.sizes, **given}.values())
    return given, (Step(RuleId.SHORTAGE, total, "; ".join(f"{n}: {why}" for n, why in shut.items())),)


def cost_usd_per_hour(
    spec: WorkloadSpec,
    seen: Mapping[PoolName, Reading[PoolStatus]],
    targets: Mapping[PoolName, int],
    written_off: Mapping[PoolName, int],
) -> float | None:
    """What the pools cost at their targets, the others as found; None where a size or the price of one is not known.

    What was written off, and is not given back, costs nothing while it waits.
    """
    total = 0.0
    for name, pool in spec.pools.items():
        price, reading = pool.price_usd_per_hour, seen[name]
        asked = None if isinstance(reading, Absent) else reading.value.desired
        n = targets.get(name, asked)
        if n is None:
            return None
        if asked is not None:
            n = max(0, n - still_pending(written_off.get(name, 0), asked, n))
        if n and price is None:
            return None
        total += n * (price or 0.0)
    return total
