"""Limits that always hold: evidence for scale-in, bounds, and pools that keep their size."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Final

from policies.allocate import quantum
from policies.model import Absent, Fresh, PoolName, PoolStatus, Reading, RuleId, Stale, Step
from policies.signals.demand import equivalents, replica_equivalents

if TYPE_CHECKING:
    from collections.abc import Mapping

    from policies.model.pool import Pool
    from policies.model.spec import WorkloadSpec
    from policies.recommend.context import RuleContext


EPSILON: Final = 1e-9
"""Rounding noise of a sum of replica equivalents."""


def keep_blind_size(size: int, context: RuleContext) -> Step | None:
    """Keep the size where evidence is missing, from any policy or of any pool's size.

    It runs after every rule that may lower a size (windows, steps, an override, the maximum), so none of them checks
    evidence. Example: 10 run, one source is silent, the maximum is lowered to 8 and the override is 2: 10 stay.
    """
    if size >= context.current or context.may_scale_in:
        return None
    why = f"scale-in needs fresh readings of every policy and pool; missing: {context.missing_evidence}"
    return Step(RuleId.EVIDENCE, context.current, why)


def keep_blind_pools(targets: Mapping[PoolName, int], context: RuleContext) -> tuple[dict[PoolName, int], Step] | None:
    """Lower no pool where evidence is missing: 4 and 2 do not become 3 and 3 either."""
    desired = context.desired
    if context.may_scale_in or all(target >= desired[name] for name, target in targets.items()):
        return None
    allowed = {name: max(target, desired[name]) for name, target in targets.items()}
    why = f"no pool shrinks without fresh readings of every policy and pool; missing: {context.missing_evidence}"
    return allowed, Step(RuleId.EVIDENCE, _total(allowed, context), why)


def keep_full_pools(targets: Mapping[PoolName, int], context: RuleContext) -> tuple[dict[PoolName, int], Step] | None:
    """Lower no pool while the ready replicas are full and others are not ready.

    Failed and abandoned replicas may go: they do not serve, and another pool may need their part of the maximum. A pool
    of 10 with 3 failed may go to 7 and no further.
    """
    if not context.full_reason:
        return None
    minimums = {}
    for name in targets:
        reading, desired = context.observation.pools[name], context.desired[name]
        failed = 0 if isinstance(reading, Absent) else reading.value.failed
        minimums[name] = desired - min(desired, max(failed, context.abandoned.get(name, 0)))
    if all(target >= minimums[name] for name, target in targets.items()):
        return None
    allowed = {name: max(target, minimums[name]) for name, target in targets.items()}
    return allowed, Step(RuleId.FULL_REPLICAS, _total(allowed, context), context.full_reason)


def keep_unreplaced(targets: Mapping[PoolName, int], context: RuleContext) -> tuple[dict[PoolName, int], Step] | None:
    """Cancel removals whose replacement another limit cut, the cheapest pools' first.

    Example: a is to grow from 1 to 2 and b to go from 1 to 0. The budget does not allow the second replica of a, so b
    keeps its own.
    """
    pools, desired = context.spec.pools, context.desired
    serving = {**context.sizes, **{name: size for name, size in targets.items() if name in context.sizes}}
    missing = min(context.planned, equivalents(context.spec, context.sizes)) - equivalents(context.spec, serving)
    allowed = dict(targets)
    lowered = [name for name in targets if name in context.sizes and targets[name] < desired[name]]
    for name in sorted(lowered, key=lambda n: pools[n].price_usd_per_hour or 0.0):
        if missing <= EPSILON:
            break
        removed, pool = desired[name] - allowed[name], pools[name]
        needed = math.ceil(missing / pool.work_per_replica - EPSILON)
        restored = removed if removed <= needed else quantum.growth(allowed[name], needed, removed, pool.quantum)
        allowed[name] += restored
        missing -= restored * pool.work_per_replica
    if allowed == targets:
        return None
    why = "another limit cut the replacements, so the replicas stay"
    return allowed, Step(RuleId.UNREPLACED, _total(allowed, context), why)


def within_bounds(targets: Mapping[PoolName, int], context: RuleContext) -> tuple[dict[PoolName, int], Step] | None:
    """Cut growth beyond a pool's or the workload's maximum, and removals below a minimum.

    A size outside of the bounds may stay. Growth of the most expensive pools is cut first, among equals that of the
    pool listed last. Example: a and b go from 2 to 4 each with a maximum of 6: b, listed last, is cut to 2.
    """
    pools, desired, maximum = context.spec.pools, context.desired, context.spec.max_replicas
    bounds = {name: quantum.bounds(pools[name], maximum) for name in targets}
    allowed = {
        name: max(min(target, max(desired[name], bounds[name][1])), min(desired[name], bounds[name][0]))
        for name, target in targets.items()
    }
    held = {name: desired[name] for name in context.sizes}
    serving = {**held, **{n: allowed[n] for n in allowed if n in held}}
    excess = sum(serving.values()) - max(maximum, sum(held.values()))
    grown = [n for n in reversed(allowed) if n in context.sizes and allowed[n] > desired[n]]
    for name in sorted(grown, key=lambda n: -(pools[n].price_usd_per_hour or 0.0)) if excess > 0 else ():
        if excess > 0:
            size = max(desired[name], quantum.round_down(allowed[name] - excess, pools[name].quantum))
            excess -= allowed[name] - size
            allowed[name] = size
    if allowed == targets:
        return None
    changed = ", ".join(f"{n} {allowed[n]} instead of {size}" for n, size in targets.items() if allowed[n] != size)
    why = f"the pools' bounds and max_replicas {maximum} allow {changed}"
    return allowed, Step(RuleId.BOUNDS, _total(allowed, context), why)


def with_override_bounds(spec: WorkloadSpec, now: float) -> WorkloadSpec:
    """Return the specification with its bounds widened by an override beyond them.

    Example: with bounds of 1 to 10, an override to 15 makes the maximum 15 until it ends.
    """
    override = spec.override
    if override is None or not override.beyond_bounds or not override.in_force(now):
        return spec
    minimum, maximum = min(spec.min_replicas, override.replicas), max(spec.max_replicas, override.replicas)
    return dataclasses.replace(spec, min_replicas=minimum, max_replicas=maximum)


def bound(size: int, context: RuleContext) -> Step | None:
    """Keep the size within the workload's own bounds."""
    minimum, maximum = context.spec.min_replicas, context.spec.max_replicas
    if size < minimum:
        return Step(RuleId.BOUNDS, minimum, f"min_replicas is {minimum}")
    if size > maximum:
        return Step(RuleId.BOUNDS, maximum, f"max_replicas is {maximum}")
    return None


def within(pool: Pool, replicas: int, current: int, max_replicas: int) -> int:
    """Return the size nearest to `replicas` that the pool's own bounds and its quantum allow."""
    minimum, maximum = quantum.bounds(pool, max_replicas)
    return max(minimum, min(quantum.fit(replicas, current, maximum, pool.quantum), maximum))


def unmanaged_pools(spec: WorkloadSpec, pools: Mapping[PoolName, Reading[PoolStatus]]) -> dict[PoolName, str]:
    """Return the pools that must keep their size in this tick, and why."""
    reasons: dict[PoolName, str] = {}
    for name, pool in spec.pools.items():
        reading = pools[name]
        if isinstance(reading, Stale):
            reasons[name] = f"{name} keeps its size, which was last read {reading.age_s:.0f} s ago"
        elif isinstance(reading, Fresh) and reading.value.other_writer is not None and pool.on_other_writer == "yield":
            reasons[name] = f"{name} is not resized (on_other_writer: yield): {reading.value.other_writer}"
    return reasons


def _total(targets: Mapping[PoolName, int], context: RuleContext) -> int:
    """Return the size of the workload with these targets."""
    return replica_equivalents(context.spec, {**context.desired, **targets})
