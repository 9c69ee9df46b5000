"""Invariants of sizes: bounds, steps, windows, pools of other writers."""

from __future__ import annotations

import math

from policies.allocate import quantum
from policies.model import Fresh, Stale
from policies.model.spec import ScaleDown, ScaleUp
from policies.signals.demand import EPSILON
from tests.fuzz.worlds.supply import short_of_quota
from tests.fuzz.worlds.tick_context import TickContext, missing_evidence


def within_the_workloads_bounds(context: TickContext) -> str | None:
    """The decided size is within the workload's bounds, or no further outside than the observed size."""
    d, spec = context.decision, context.spec
    if d.target is None or d.current is None:
        return None
    low, high = min(spec.min_replicas, d.current), max(spec.max_replicas, d.current)
    if not low <= d.target <= high:
        return f"{d.current} -> {d.target}, and the bounds are {spec.min_replicas} to {spec.max_replicas}"
    sizes = {name: status.desired for name, status in context.statuses.items()}
    before, after = sum(sizes.values()), sum({**sizes, **d.targets}.values())
    if after > max(before, spec.max_replicas):
        return f"the pools grow from {before} to {after}, and the maximum is {spec.max_replicas}"
    return None


def within_the_pools_bounds(context: TickContext) -> str | None:
    """Each pool's target is within the pool's own bounds, or no further outside than the observed size."""
    for name, size, target in context.changes:
        pool = context.spec.pools[name]
        maximum = context.spec.max_replicas if pool.max_replicas is None else pool.max_replicas
        if not min(pool.min_replicas, size) <= target <= max(maximum, size):
            return f"{name} {size} -> {target}, and its bounds are {pool.min_replicas} to {maximum}"
    return None


def only_own_pools_are_resized(context: TickContext) -> str | None:
    """No pool is resized whose size is not fresh or that another writer sizes, and none while paused."""
    if context.spec.paused and (context.decision.targets or context.decision.target != context.decision.current):
        return f"paused, and {context.decision.current} -> {context.decision.target}"
    return targets_of_own_pools(context)


def targets_of_own_pools(context: TickContext) -> str | None:
    """Only pools whose size is fresh and that no other writer sizes have a target."""
    for name in context.decision.targets:
        reading = context.tick.observation.pools[name]
        if not isinstance(reading, Fresh):
            return f"{name} has a target, and its size is {reading}"
        if reading.value.other_writer and context.spec.pools[name].on_other_writer == "yield":
            return f"{name} has a target, and {reading.value.other_writer} sizes it"
    return None


def growth_by_steps(context: TickContext) -> str | None:
    """In any scale-up period, within an interval, a size grows at most by the step in whole quanta or to a minimum."""
    d = context.decision
    if not context.grows() or d.current is None or d.target is None or context.override_in_force():
        return None
    start = min([d.current, *_sizes_in_period(context, context.spec.scale_up)])
    maximum = max(start + _step(start, context.spec.scale_up), d.current, context.minimum) + context.rounding
    if d.target > maximum:
        return f"{d.current} -> {d.target}; {start} within {context.spec.scale_up.period_s:g} s allow {maximum}"
    return None


def shrinking_by_steps(context: TickContext) -> str | None:
    """In any scale-down period, within an interval, a size shrinks at most by the step, a quantum or to the maximum."""
    d = context.decision
    if not context.shrinks() or d.current is None or d.target is None or context.override_in_force():
        return None
    start = max([d.current, *_sizes_in_period(context, context.spec.scale_down)])
    step = max(_step(start, context.spec.scale_down), quantum.largest(context.spec.pools.values()))
    minimum = min(start - step, d.current, context.maximum)
    if d.target < minimum:
        return f"{d.current} -> {d.target}; {start} within {context.spec.scale_down.period_s:g} s allow {minimum}"
    return None


def _step(start: int, rule: ScaleUp | ScaleDown) -> int:
    return max(rule.max_replicas, math.ceil(start * rule.max_share))


def _sizes_in_period(context: TickContext, rule: ScaleUp | ScaleDown) -> list[int]:
    """Return the sizes decided and observed in the period. The first tick's observation is the size before it."""
    period_start = context.now.at - rule.period_s + context.spec.interval_s
    recorded = list(context.since(rule.period_s))
    sizes = [s.decision.target for s in recorded] + [s.decision.current for s in recorded if s.at >= period_start]
    return [size for size in sizes if size is not None]


def growth_window(context: TickContext) -> str | None:
    """A size grows at most to the minimum demand in the scale-up window, to a minimum, a quantum or one replica."""
    d, window_s = context.decision, context.spec.scale_up.window_s
    known = [s.decision.capped_need for s in context.since(window_s) if s.decision.capped_need is not None]
    if not context.grows() or window_s == 0 or not known or context.override_in_force():
        return None
    maximum = max(min(known), context.minimum, 1) + context.rounding
    if d.target is not None and d.target > maximum:
        return (
            f"{d.current} -> {d.target}, and in the last {window_s:g} s no more than {min(known)} was wanted throughout"
        )
    return None


def scale_down_window(context: TickContext) -> str | None:
    """A size shrinks at most to the maximum demand in the scale-down window, and only if all of it was observed.

    An idle workload is an exception: demand below the activation keeps no replica then.
    """
    d, window_s = context.decision, context.spec.scale_down.window_s
    if (
        not context.shrinks()
        or d.target is None
        or d.current is None
        or context.override_in_force()
        or _may_go_to_zero(context)
    ):
        return None
    needed = [s.decision.capped_need for s in context.since(window_s)] if window_s else []
    needed.append(d.capped_need)
    highest = min(max((n for n in needed if n is not None), default=0), d.current, context.maximum)
    if d.target < highest:
        return f"{d.current} -> {d.target}, and {highest} was wanted in the last {window_s:g} s"
    if window_s and d.target < min(d.current, context.maximum) and not _has_full_evidence(context, window_s):
        return f"{d.current} -> {d.target}, and the last {window_s:g} s were not seen throughout"
    return None


def tolerance(context: TickContext) -> str | None:
    """Demand within the tolerance of the observed size changes nothing, except for bounds and scale to zero."""
    d = context.decision
    needs = [r.need for r in d.recommendations if r.need is not None]
    if (
        not d.current
        or d.target in {None, d.current, 0}
        or not needs
        or d.capped_need is None
        or context.override_in_force()
    ):
        return None
    need = min(max(needs), d.capped_need)
    inside = abs(need / d.current - 1) <= context.spec.tolerance + EPSILON
    if inside and not _may_go_to_zero(context) and context.minimum <= d.current <= context.maximum:
        return f"{d.current} -> {d.target} for a need of {need:g}, with a tolerance of {context.spec.tolerance:g}"
    return None


def work_keeps_a_replica(context: TickContext) -> str | None:
    """While there is work, the last replica stays."""
    d = context.decision
    if d.active and d.current and d.target == 0 and not context.override_in_force():
        return f"{d.current} -> 0, and there is work"
    return None


def work_starts_a_replica(context: TickContext) -> str | None:
    """Work without a replica requests one after the scale-up window, if the operator's limits allow it.

    After a quota error a pool is not resized for minutes, whatever waits. A pool that cannot be read may hold the
    replica of a write without a response, which counts against the maximum.
    """
    d = context.decision
    memories, pools = context.history.pool_memories, context.tick.observation.pools
    if any(isinstance(reading, Stale) and memories.of(name).possible > 0 for name, reading in pools.items()):
        return None
    budget = context.spec.budget
    limited = budget.gpus is not None or budget.usd_per_hour is not None or context.forbids("hold", "no_scale_out")
    if not d.active or d.target != 0 or context.spec.paused or context.override_in_force() or limited:
        return None
    if not all(s.decision.active for s in context.since(context.spec.scale_up.window_s)):
        return None
    can_grow = [n for n in d.targets if context.spec.pools[n].max_replicas != 0 and not short_of_quota(n, context)]
    if can_grow:
        return f"there is work, and {', '.join(can_grow)} stay at 0: {d.reason}"
    return None


def zero_is_earned(context: TickContext) -> str | None:
    """A workload goes to zero only if its minimum allows it and a whole cooldown was observed without work.

    An exception are pools that may have no replica at all.
    """
    d, cooldown_s = context.decision, context.spec.cooldown_s
    if d.target != 0 or not d.current or context.override_in_force() or not context.maximum:
        return None
    if context.spec.min_replicas > 0:
        return f"{d.current} -> 0, and the minimum is {context.spec.min_replicas}"
    busy = [s.at for s in context.since(cooldown_s) if s.decision.active]
    if busy:
        return f"{d.current} -> 0, and there was work {context.now.at - busy[0]:g} s ago"
    if not _has_full_evidence(context, cooldown_s):
        return f"{d.current} -> 0, and the last {cooldown_s:g} s were not seen throughout"
    return None


def rest_comes(context: TickContext) -> str | None:
    """The last replica goes if zero is allowed and a whole cooldown was observed without work, whatever demand is left.

    At zero, nothing is requested before there is work.
    """
    d, spec = context.decision, context.spec
    minimum = spec.min_replicas or any(p.min_replicas for p in spec.pools.values())
    if d.target is None or minimum or spec.paused or context.override_in_force():
        return None
    if d.current == 0 and d.target and d.demand is not None and not d.active:
        return f"it leaves zero for {d.target}, and there is no work: {d.reason}"
    if (d.current, d.target) != (1, 1) or context.forbids("hold", "no_scale_in") or spec.blast_radius.share < 1.0:
        return None
    if not _may_go_to_zero(context) or missing_evidence(spec, context.tick) or _recently_shrank(context):
        return None
    return f"it stays at 1, and there was no work for {spec.cooldown_s:g} s: {d.reason}"


def _recently_shrank(context: TickContext) -> bool:
    """Return whether the size was larger within the scale-down period."""
    return max(_sizes_in_period(context, context.spec.scale_down), default=1) > 1


def _may_go_to_zero(context: TickContext) -> bool:
    """Return whether zero is allowed and a whole cooldown was observed without work. No demand counts then."""
    cooldown_s = context.spec.cooldown_s
    quiet = not context.decision.active and not any(s.decision.active for s in context.since(cooldown_s))
    return quiet and context.spec.min_replicas == 0 and _has_full_evidence(context, cooldown_s)


def _has_full_evidence(context: TickContext, window_s: float) -> bool:
    """Return whether no part of [now - window_s, now] without full evidence is longer than allowed."""
    allowed_s = max(context.spec.scale_down.max_evidence_gap_s, 2.5 * context.spec.interval_s)
    since, later = context.now.at - window_s, context.now.at
    for recorded in reversed(context.past):
        if not missing_evidence(context.spec, recorded.tick):
            if later - recorded.at > allowed_s:
                return False
            later = recorded.at
            if later <= since:
                return True
    return False
