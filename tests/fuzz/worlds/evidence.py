"""Invariants of evidence: the readings on which a size may be lowered or raised."""

from __future__ import annotations

import math

from policies.model import Absent, Fresh, RuleId, Stale
from policies.signals.demand import whole_replicas
from policies.signals.zero_suspicion import source_of
from tests.fuzz.worlds.tick_context import TickContext, missing_evidence


def no_scale_in_without_evidence(context: TickContext) -> str | None:
    """No workload and no pool scales in unless every configured signal and pool size is fresh and complete."""
    lowered = [name for name, size, target in context.changes if target < size]
    if not context.shrinks() and not lowered:
        return None
    missing = missing_evidence(context.spec, context.tick)
    if missing:
        d = context.decision
        return f"{d.current} -> {d.target} (lowered: {', '.join(lowered) or 'none'}), and {missing[0]}"
    if not context.decision.may_scale_in:
        return "lowered, and may_lower is false"
    return None


def false_zeros_lower_nothing(context: TickContext) -> str | None:
    """On false zeros, a size stays at the demand of each complete and true tick within the scale-down window.

    A throttled source that reports 0 looks like an idle one at first. The promise is that zeros lower nothing before
    they have lasted for a whole window. The window of a scale-in to zero is `cooldown_s`, also where another limit
    keeps a replica, and a tick without work allows it, whatever the forecast. Without a window there is no promise.
    """
    d = context.decision
    if not context.shrinks() or not context.now.injected_zeros or context.override_in_force():
        return None
    is_idle = any(step.rule is RuleId.COOLDOWN and not step.replicas for step in d.steps)
    window_s = context.spec.cooldown_s if is_idle else context.spec.scale_down.window_s
    for recorded in context.since(window_s):
        needed = recorded.decision.capped_need
        if recorded.injected_zeros or needed is None or missing_evidence(context.spec, recorded.tick):
            continue
        if is_idle and not recorded.decision.active:
            continue
        floor = min(needed, d.current or 0, context.maximum)
        if d.target is not None and d.target < floor:
            ago_s = context.now.at - recorded.at
            sources = ", ".join(context.now.injected_zeros)
            return f"{d.current} -> {d.target} on zeros of {sources}; {ago_s:g} s ago {needed} was true"
    return None


def growth_has_a_reason(context: TickContext) -> str | None:
    """A size grows at most to the largest recommendation, a minimum, one replica for work, or a whole quantum."""
    d = context.decision
    if not context.grows():
        return None
    needs = [r.need for r in d.recommendations if r.need is not None]
    override = context.override_in_force()
    reason = max(
        [context.minimum, int(d.active), *map(whole_replicas, needs), 0 if override is None else override.replicas]
    )
    if d.target is not None and d.target > reason + context.rounding:
        return f"{d.current} -> {d.target}, and nothing asks for more than {reason}"
    return None


def growth_has_evidence(context: TickContext) -> str | None:
    """A policy without a fresh reading of its signals makes no recommendation."""
    readings = context.tick.observation.readings
    for r in context.decision.recommendations:
        if r.need is not None and r.used and not any(isinstance(readings.get(s), Fresh) for s in r.used):
            return f"{r.policy} wants {r.need:g} and saw none of {', '.join(r.used)}"
    return None


def fresh_readings_are_valid(context: TickContext) -> str | None:
    """A fresh reading is finite, not negative, and no older than its source allows; a stale reading has an age."""
    ages = {
        f"{name}.{quantity}": age_s
        for name, source in context.spec.sources.items()
        for quantity, age_s in source.quantities().items()
    }
    for signal, reading in context.tick.observation.readings.items():
        match reading:
            case Fresh(value, measured_at) if not (math.isfinite(value) and value >= 0):
                return f"{signal} = {value} measured at {measured_at}"
            case Fresh(_, measured_at) if context.now.at - measured_at > ages[signal]:
                return f"{signal} is {context.now.at - measured_at:g} s old, and stale after {ages[signal]:g} s"
            case Stale(_, _, age_s) if not age_s >= 0:
                return f"{signal} is {age_s} s old"
            case Absent(reason) if not reason:
                return f"{signal} is absent, and nobody says why"
    return None


def errors_have_no_fresh_reading(context: TickContext) -> str | None:
    """A source or pool with an error at this tick has no fresh reading."""
    recorded = context.tick.observation
    for source, error in recorded.source_errors.items():
        fresh = [s for s, r in recorded.readings.items() if source_of(s) == source and isinstance(r, Fresh)]
        if fresh or not error:
            return f"{source} failed ({error or 'without a word'}), and {', '.join(fresh)} are fresh"
    for pool, error in recorded.pool_errors.items():
        if isinstance(recorded.pools[pool], Fresh) or not error:
            return f"{pool} failed ({error or 'without a word'}), and its size is fresh"
    return None
