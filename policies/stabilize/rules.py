"""From a need to a steady size: tolerance, activation, windows and steps, all in seconds.

Each rule takes the size so far and gives the next one with its reason, or nothing where it has no effect.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.allocate import quantum as quanta
from policies.history.ticks import ACTIVE, CURRENT, MAY_LOWER, TARGET, WANTED
from policies.model import RuleId, Step
from policies.signals.demand import EPSILON
from policies.stabilize.pending import keep_pending

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from policies.recommend.context import RuleContext, SizeRule


def keep_while_full(size: int, s: RuleContext) -> Step | None:
    """Keep the size while the ready replicas are full and others are not ready."""
    return Step(RuleId.READINESS, s.current, s.full) if s.full and size < s.current else None


def apply_tolerance(size: int, s: RuleContext) -> Step | None:
    """Return the HPA's dead band: a need so near the present size that changing it would only be churn."""
    if s.need is None or s.current in {0, size}:
        return None
    if abs(s.need / s.current - 1.0) <= s.spec.tolerance + EPSILON:
        return Step(RuleId.TOLERANCE, s.current, f"{s.need:.2f} is within {s.spec.tolerance:.0%} of {s.current}")
    return None


def stay_awake(size: int, s: RuleContext) -> Step | None:
    """At least one replica while there is work, and until `cooldown_s` has provably passed without any."""
    if s.need is None or size >= 1:
        return None
    if s.active:
        return Step(RuleId.ACTIVATION, 1, "there is work: at least one replica")
    if s.spec.min_replicas > 0 or s.current == 0:
        return None
    why = _why_awake(s)
    return Step(RuleId.COOLDOWN, 1, why) if why else None


def rest(size: int, s: RuleContext) -> Step | None:
    """Zero once no policy is active and `cooldown_s` has provably passed so, whatever need is left below activation.

    It comes after tolerance and windows, so that neither keeps a replica for that need: 2 messages at 10 per replica
    need 0.2 replicas, which a window keeps as 1, and with an activation of 5 the size is 0. Steps still limit the pace.
    A forecast is no work: it sizes a workload that works, and neither keeps one awake nor wakes it.
    """
    if size == 0 or s.need is None or s.active or s.spec.min_replicas > 0:
        return None
    if s.current == 0:
        return Step(RuleId.ACTIVATION, 0, "no work above the activation threshold: stay at zero")
    if _why_awake(s):
        return None
    return Step(RuleId.COOLDOWN, 0, f"no work above the activation threshold for {s.spec.cooldown_s:g} s")


def _why_awake(s: RuleContext) -> str:
    """Why a workload without work now may not go to zero yet; empty where it may."""
    cooldown_s = s.spec.cooldown_s
    since = s.now - cooldown_s
    if s.history.column(ACTIVE, since).any():
        return f"there was work in the last {cooldown_s:g} s"
    if not s.may_scale_in or _has_evidence_gap(since, s):
        return f"not seen to be idle throughout the last {cooldown_s:g} s"
    return ""


def apply_scale_up_window(size: int, s: RuleContext) -> Step | None:
    """Return the smallest need in the scale-up window, where one is configured."""
    window_s = s.spec.scale_up.window_s
    if size <= s.current or window_s == 0:
        return None
    seen = _known(s.history.column(WANTED, s.now - window_s))
    lowest = max(s.current, min(size, int(np.min(seen)))) if seen.size else size
    if lowest < size:
        return Step(RuleId.SCALE_UP_WINDOW, lowest, f"the smallest need in the last {window_s:g} s is {lowest}")
    return None


def apply_scale_down_window(size: int, s: RuleContext) -> Step | None:
    """Return the largest need in the scale-down window, and no less than the present size while the window has gaps."""
    window_s = s.spec.scale_down.window_s
    if size >= s.current or window_s == 0:
        return None
    since = s.now - window_s
    if _has_evidence_gap(since, s):
        return Step(RuleId.SCALE_DOWN_WINDOW, s.current, f"the last {window_s:g} s were not seen throughout")
    seen = _known(s.history.column(WANTED, since))
    highest = min(s.current, max(size, int(np.max(seen)))) if seen.size else size
    if highest > size:
        return Step(RuleId.SCALE_DOWN_WINDOW, highest, f"the largest need in the last {window_s:g} s is {highest}")
    return None


def limit_step(size: int, s: RuleContext) -> Step | None:
    """So many replicas, or such a share of the size, per period; from the size at the period's start."""
    if size == s.current:
        return None
    rule = s.spec.scale_up if size > s.current else s.spec.scale_down
    since = s.now - rule.period_s
    found = s.history.column(CURRENT, since + s.spec.interval_s)  # the first turn of a life found what came before it
    decided = _known(np.append(s.history.column(TARGET, since), found))
    if size > s.current:
        start = min(s.current, int(np.min(decided))) if decided.size else s.current
        limit = max(s.current, start + max(rule.max_replicas, math.ceil(start * rule.max_share)))
        if size > limit:
            return Step(RuleId.STEP, limit, f"at most {limit - start} more in {rule.period_s:g} s")
    else:
        start = max(s.current, int(np.max(decided))) if decided.size else s.current
        quantum = quanta.largest(s.spec.pools.values())
        limit = min(s.current, start - max(rule.max_replicas, quantum, math.ceil(start * rule.max_share)))
        if size < limit:
            return Step(RuleId.STEP, limit, f"at most {start - limit} fewer in {rule.period_s:g} s")
    return None


def _known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return values[~np.isnan(values)]


def _has_evidence_gap(since: float, s: RuleContext) -> bool:
    """Return whether [since, now] has a stretch without full evidence that is too long to vouch for the whole."""
    allowed_s = max(s.spec.scale_down.max_evidence_gap_s, 2.5 * s.spec.interval_s)
    return s.history.longest_gap_s(MAY_LOWER, since, s.now) > allowed_s


STABILIZE: Final[tuple[SizeRule, ...]] = (
    apply_tolerance,
    stay_awake,
    apply_scale_up_window,
    apply_scale_down_window,
    keep_pending,
    rest,
    limit_step,
)
"""From a need to a steady size, in this order: each takes the size so far."""
GIVE_WAY: Final[tuple[SizeRule, ...]] = (apply_scale_down_window, limit_step)
"""The way down for a policy that owns stabilization and is over a budget: its own windows know of none."""
