"""What holds whatever anybody wants: evidence for shrinking, minimum and maximum, and pools that are not ours now."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Final

from policies.allocate import quantum
from policies.model import Absent, Fresh, PoolName, PoolStatus, Reading, RuleId, Stale, Step
from policies.signals.demand import equivalents, replica_equivalents

if TYPE_CHECKING:
    from collections.abc import Mapping

    from policies.model.spec import Pool, WorkloadSpec
    from policies.recommend.context import RuleContext


EPSILON: Final = 1e-9
"""Rounding noise of a sum of replica equivalents."""


def keep_blind_size(size: int, s: RuleContext) -> Step | None:
    """Keep the size where evidence is missing, from any policy or of any pool's size.

    It stands after every rule that may lower a size (windows, steps, an override, the maximum), so that none of them
    looks at evidence: 10 run, one source is silent, the maximum is lowered to 8 and the override says 2: 10 stay.
    """
    if size >= s.current or s.may_scale_in:
        return None
    why = f"scale-in needs fresh evidence of everything; missing: {s.missing_evidence}"
    return Step(RuleId.EVIDENCE, s.current, why)


def keep_blind_pools(targets: Mapping[PoolName, int], s: RuleContext) -> tuple[dict[PoolName, int], Step] | None:
    """Lower no pool where evidence is missing, in exchange for another either: 4 and 2 do not become 3 and 3."""
    if s.may_scale_in or all(target >= s.desired[name] for name, target in targets.items()):
        return None
    kept = {name: max(target, s.desired[name]) for name, target in targets.items()}
    why = f"no pool shrinks without fresh evidence of everything; missing: {s.missing_evidence}"
    return kept, Step(RuleId.EVIDENCE, replica_equivalents(s.spec, {**s.desired, **kept}), why)


def keep_full_pools(targets: Mapping[PoolName, int], s: RuleContext) -> tuple[dict[PoolName, int], Step] | None:
    """Lower no pool while the ready replicas are full and others are not ready: spares and moves wait as well.

    Failed and abandoned replicas may go: they serve nothing, and their place may be needed in another pool. A pool of
    10 with 3 failed may go to 7 and no further.
    """
    if not s.full:
        return None
    least = {}
    for name in targets:
        reading = s.observation.pools[name]
        failed = 0 if isinstance(reading, Absent) else reading.value.failed
        least[name] = s.desired[name] - min(s.desired[name], max(failed, s.abandoned.get(name, 0)))
    if all(target >= least[name] for name, target in targets.items()):
        return None
    kept = {name: max(target, least[name]) for name, target in targets.items()}
    return kept, Step(RuleId.FULL_REPLICAS, replica_equivalents(s.spec, {**s.desired, **kept}), s.full)


def keep_unreplaced(targets: Mapping[PoolName, int], s: RuleContext) -> tuple[dict[PoolName, int], Step] | None:
    """Give back removals whose replacement another limit cut, the cheapest pools' first.

    One of pool b was to go for one of pool a, and the budget has no room for that: b keeps its own.
    """
    pools = s.spec.pools
    serving = {**s.sizes, **{name: size for name, size in targets.items() if name in s.sizes}}
    lacking = min(s.planned, equivalents(s.spec, s.sizes)) - equivalents(s.spec, serving)
    kept = dict(targets)
    removed = [name for name in targets if name in s.sizes and targets[name] < s.desired[name]]
    for name in sorted(removed, key=lambda n: pools[n].price_usd_per_hour or 0.0):
        if lacking <= EPSILON:
            break
        gone, pool = s.desired[name] - kept[name], pools[name]
        wanted = math.ceil(lacking / pool.work_per_replica - EPSILON)
        back = gone if gone <= wanted else quantum.growth(kept[name], wanted, gone, pool.quantum)
        kept[name] += back
        lacking -= back * pool.work_per_replica
    if kept == targets:
        return None
    return kept, Step(
        RuleId.UNREPLACED,
        replica_equivalents(s.spec, {**s.desired, **kept}),
        "what was to replace them is not allowed: these stay",
    )


def within_bounds(targets: Mapping[PoolName, int], s: RuleContext) -> tuple[dict[PoolName, int], Step] | None:
    """Cut growth beyond the maximum of a pool or of the workload, and removals below a pool's minimum.

    What is held outside of them may stay. The most expensive pools' growth goes first, among equals that of the pool
    listed last.
    """
    high = s.spec.max_replicas
    bounds = {name: quantum.bounds(s.spec.pools[name], high) for name in targets}
    kept = {
        name: max(min(target, max(s.desired[name], bounds[name][1])), min(s.desired[name], bounds[name][0]))
        for name, target in targets.items()
    }
    over = sum({**s.sizes, **{n: kept[n] for n in kept if n in s.sizes}}.values()) - max(high, sum(s.sizes.values()))
    grown = [n for n in reversed(kept) if n in s.sizes and kept[n] > s.desired[n]]
    for name in sorted(grown, key=lambda n: -(s.spec.pools[n].price_usd_per_hour or 0.0)) if over > 0 else ():
        size = max(s.desired[name], quantum.round_down(kept[name] - max(0, over), s.spec.pools[name].quantum))
        if over > 0:
            over -= kept[name] - size
            kept[name] = size
    if kept == targets:
        return None
    changed = ", ".join(f"{n} {kept[n]} in the place of {size}" for n, size in targets.items() if kept[n] != size)
    return kept, Step(
        RuleId.BOUNDS,
        replica_equivalents(s.spec, {**s.desired, **kept}),
        f"pools within their bounds, and at most {high} in all: {changed}",
    )


def with_override_bounds(spec: WorkloadSpec, now: float) -> WorkloadSpec:
    """The specification with the bounds that hold now: those of an override beyond them as long as it lasts."""
    override = spec.override
    if override is None or not override.beyond_bounds or not override.in_force(now):
        return spec
    low, high = min(spec.min_replicas, override.replicas), max(spec.max_replicas, override.replicas)
    return dataclasses.replace(spec, min_replicas=low, max_replicas=high)


def bound(size: int, s: RuleContext) -> Step | None:
    """Keep the size within the workload's own bounds."""
    low, high = s.spec.min_replicas, s.spec.max_replicas
    if size < low:
        return Step(RuleId.BOUNDS, low, f"at least {low}")
    if size > high:
        return Step(RuleId.BOUNDS, high, f"at most {high}")
    return None


def within(pool: Pool, replicas: int, held: int, cap: int) -> int:
    """The size nearest to `replicas` that the pool's own bounds and its quantum allow."""
    least, most = quantum.bounds(pool, cap)
    return max(least, min(quantum.fit(replicas, held, most, pool.quantum), most))


def unmanaged_pools(spec: WorkloadSpec, pools: Mapping[PoolName, Reading[PoolStatus]]) -> dict[PoolName, str]:
    """The pools that must keep their size this turn, and why."""
    reasons: dict[PoolName, str] = {}
    for name, pool in spec.pools.items():
        match pools[name]:
            case Fresh(PoolStatus(other_writer=str(other))) if pool.on_other_writer == "yield":
                reasons[name] = f"{name} yields to {other}"
            case Stale(_, _, age_s):
                reasons[name] = f"the size of {name} was last seen {age_s:.0f} s ago"
    return reasons
