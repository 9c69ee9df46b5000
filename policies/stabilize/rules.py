"""From a need to a steady size: tolerance, activation, windows and steps, all in seconds.

Each rule takes the size so far and returns a step with the next one, or None where it has no effect.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.allocate import quantum as quanta
from policies.history.ticks import ACTIVE, CAPPED_NEED, CURRENT, MAY_SCALE_IN, TARGET
from policies.model import RuleId, Step
from policies.signals.demand import EPSILON
from policies.stabilize.pending import keep_pending

if TYPE_CHECKING:
    from policies.recommend.context import RuleContext, SizeRule


def keep_while_full(size: int, context: RuleContext) -> Step | None:
    """Keep the size while the ready replicas are full and others are not ready."""
    if context.full_reason and size < context.current:
        return Step(RuleId.READINESS, context.current, context.full_reason)
    return None


def apply_tolerance(size: int, context: RuleContext) -> Step | None:
    """Keep the size while the need is near it, like the HPA: 0.1 keeps 10 for a need of 9 to 11."""
    need, current, tolerance = context.need, context.current, context.spec.tolerance
    if need is None or current in {0, size}:
        return None
    if abs(need / current - 1.0) <= tolerance + EPSILON:
        return Step(
            RuleId.TOLERANCE, current, f"the difference from {current} is within the tolerance of {tolerance:.0%}"
        )
    return None


def stay_awake(size: int, context: RuleContext) -> Step | None:
    """Keep one replica while there is work, and until `cooldown_s` has passed without any."""
    if context.need is None or size >= 1:
        return None
    if context.active:
        return Step(RuleId.ACTIVATION, 1, "a policy reports work: at least one replica")
    if context.spec.min_replicas > 0 or context.current == 0:
        return None
    why = _awake_reason(context)
    return Step(RuleId.COOLDOWN, 1, why) if why else None


def scale_to_zero(size: int, context: RuleContext) -> Step | None:
    """Scale to zero once no policy was active for `cooldown_s`, whatever need is left.

    It runs after tolerance and windows, so that neither keeps a replica for that need: 2 messages at 10 per replica
    need 0.2 replicas, which a window keeps as 1, and with an activation of 5 the size is 0. Steps still limit the pace.
    A forecast is not work: it sizes an active workload, and neither keeps one awake nor wakes it.
    """
    if size == 0 or context.need is None or context.active or context.spec.min_replicas > 0:
        return None
    if context.current == 0:
        return Step(RuleId.ACTIVATION, 0, "no policy reports work above its activation threshold: stay at zero")
    if _awake_reason(context):
        return None
    cooldown = f"{context.spec.cooldown_s:g} s (cooldown_s)"
    return Step(RuleId.COOLDOWN, 0, f"no policy reported work above its activation threshold for {cooldown}")


def _awake_reason(context: RuleContext) -> str:
    """Return why a workload without work must not go to zero yet; empty where it may."""
    cooldown_s = context.spec.cooldown_s
    since = context.now - cooldown_s
    if context.history.column(ACTIVE, since).any():
        return f"a policy reported work within the last {cooldown_s:g} s (cooldown_s)"
    if not context.may_scale_in or _has_evidence_gap(since, context):
        return f"fresh readings do not show an idle workload throughout the last {cooldown_s:g} s (cooldown_s)"
    return ""


def apply_scale_up_window(size: int, context: RuleContext) -> Step | None:
    """Grow to the smallest need in the scale-up window: from 5 to 6 for needs of 6, 8 and 7."""
    window_s = context.spec.scale_up.window_s
    if size <= context.current or window_s == 0:
        return None
    needs = context.history.column(CAPPED_NEED, context.now - window_s)
    lowest = max(context.current, int(np.fmin.reduce(needs, initial=size)))
    if lowest < size:
        return Step(RuleId.SCALE_UP_WINDOW, lowest, f"the smallest need in the last {window_s:g} s is {lowest}")
    return None


def apply_scale_down_window(size: int, context: RuleContext) -> Step | None:
    """Shrink to the largest need in the scale-down window, or not at all while it has gaps.

    Example: needs of 4, 6 and 5 shrink a size of 9 to 6.
    """
    window_s = context.spec.scale_down.window_s
    if size >= context.current or window_s == 0:
        return None
    since = context.now - window_s
    if _has_evidence_gap(since, context):
        return Step(
            RuleId.SCALE_DOWN_WINDOW,
            context.current,
            f"fresh readings do not cover the last {window_s:g} s: no scale-in",
        )
    needs = context.history.column(CAPPED_NEED, since)
    highest = min(context.current, int(np.fmax.reduce(needs, initial=size)))
    if highest > size:
        return Step(RuleId.SCALE_DOWN_WINDOW, highest, f"the largest need in the last {window_s:g} s is {highest}")
    return None


def limit_step(size: int, context: RuleContext) -> Step | None:
    """Limit the change per period to `max_replicas` or a share of its first size if larger.

    Example: 10 replicas at the start, at most 4 or a share of 0.5 fewer per 60 s: the size may fall to 5. Replicas that
    are ready are no growth: with 18 ready in the middle of a move between pools, a size of 10 may grow to 18 at once.
    """
    spec, current = context.spec, context.current
    if size == current:
        return None
    rule = spec.scale_up if size > current else spec.scale_down
    since = context.now - rule.period_s
    # The first tick of a process observes the size from before it, so its observed size counts too.
    observed = context.history.column(CURRENT, since + spec.interval_s)
    sizes = np.concatenate((context.history.column(TARGET, since), observed))
    if size > current:
        start = int(np.fmin.reduce(sizes, initial=current))
        limit = max(current, start + max(rule.max_replicas, math.ceil(start * rule.max_share)))
        reason = f"scale_up adds at most {limit - start} replicas in {rule.period_s:g} s"
        limit = max(limit, context.ready or 0)
        if size > limit:
            return Step(RuleId.STEP, limit, reason)
    else:
        start = int(np.fmax.reduce(sizes, initial=current))
        quantum = quanta.largest(spec.pools.values())
        limit = min(current, start - max(rule.max_replicas, quantum, math.ceil(start * rule.max_share)))
        if size < limit:
            reason = f"scale_down removes at most {start - limit} replicas in {rule.period_s:g} s"
            return Step(RuleId.STEP, limit, reason)
    return None


def _has_evidence_gap(since: float, context: RuleContext) -> bool:
    """Return whether full evidence is missing for over `max_evidence_gap_s` or 2.5 ticks."""
    allowed_s = max(context.spec.scale_down.max_evidence_gap_s, 2.5 * context.spec.interval_s)
    return context.history.longest_gap_s(MAY_SCALE_IN, since, context.now) > allowed_s


STABILIZE: Final[tuple[SizeRule, ...]] = (
    apply_tolerance,
    stay_awake,
    apply_scale_up_window,
    apply_scale_down_window,
    keep_pending,
    scale_to_zero,
    limit_step,
)
"""From a need to a steady size, in this order; each takes the size so far."""
OVER_BUDGET: Final[tuple[SizeRule, ...]] = (apply_scale_down_window, limit_step)
"""Scale-in of a policy that owns stabilization and exceeds a budget: its own windows do not apply to a budget."""
