"""What must hold of evidence: what a size may be lowered and raised on."""

from __future__ import annotations

import math

from policies.model import Absent, Fresh, Stale
from policies.signals.demand import whole_replicas
from policies.signals.zero_suspicion import source_of
from tests.fuzz.worlds.turn import Turn, lacking


def blind_never_scales_down(turn: Turn) -> str | None:
    """No scale-in, of the workload or of any pool, unless every configured signal and pool is seen fresh and whole."""
    lower = [name for name, found, target in turn.changes if target < found]
    if not turn.shrinks() and not lower:
        return None
    missing = lacking(turn.spec, turn.tick)
    if missing:
        d = turn.decision
        return f"{d.current} -> {d.target} (lowered: {', '.join(lower) or 'none'}), and {missing[0]}"
    if not turn.decision.may_scale_in:
        return "lowered, and may_lower is false"
    return None


def lies_are_outlasted(turn: Turn) -> str | None:
    """While a turn within the scale-down window saw everything and nobody lied, the size stays at what that one wanted.

    A source that says 0 because it is throttled cannot be told from an idle one at first. What is promised is that it
    has to say so for a whole window: zeros for a shorter time lower nothing. Without a window nothing is promised.
    """
    d = turn.decision
    if not turn.shrinks() or not turn.now.lies or turn.by_hand():
        return None
    for seen in turn.since(turn.spec.scale_down.window_s):
        wanted = seen.decision.capped_need
        if seen.lies or wanted is None or lacking(turn.spec, seen.tick):
            continue
        floor = min(wanted, d.current or 0, turn.spec.max_replicas)
        if d.target is not None and d.target < floor:
            ago_s = turn.now.at - seen.at
            return (
                f"{d.current} -> {d.target} on zeros of {', '.join(turn.now.lies)}; {ago_s:g} s ago {wanted} was true"
            )
    return None


def growth_has_a_reason(turn: Turn) -> str | None:
    """A size grows no further than the largest need stated, a minimum, one where there is work, or a quantum."""
    d = turn.decision
    if not turn.grows():
        return None
    needs = [r.need for r in d.recommendations if r.need is not None]
    given = turn.by_hand()
    reason = max([turn.least, int(d.active), *map(whole_replicas, needs), 0 if given is None else given.replicas])
    if d.target is not None and d.target > reason + turn.rounding:
        return f"{d.current} -> {d.target}, and nothing asks for more than {reason}"
    return None


def growth_has_evidence(turn: Turn) -> str | None:
    """A policy that reads signals and saw none of them fresh states no need."""
    readings = turn.tick.observation.readings
    for r in turn.decision.recommendations:
        if r.need is not None and r.used and not any(isinstance(readings.get(s), Fresh) for s in r.used):
            return f"{r.policy} wants {r.need:g} and saw none of {', '.join(r.used)}"
    return None


def fresh_is_fresh(turn: Turn) -> str | None:
    """What is called fresh is finite, not negative, and no older than its source allows; what is stale has an age."""
    ages = {
        f"{name}.{quantity}": age_s
        for name, source in turn.spec.sources.items()
        for quantity, age_s in source.quantities().items()
    }
    for signal, reading in turn.tick.observation.readings.items():
        match reading:
            case Fresh(value, measured_at) if not (math.isfinite(value) and value >= 0):
                return f"{signal} = {value} measured at {measured_at}"
            case Fresh(_, measured_at) if turn.now.at - measured_at > ages[signal]:
                return f"{signal} is {turn.now.at - measured_at:g} s old, and stale after {ages[signal]:g} s"
            case Stale(_, _, age_s) if not age_s >= 0:
                return f"{signal} is {age_s} s old"
            case Absent(reason) if not reason:
                return f"{signal} is absent, and nobody says why"
    return None


def failures_are_told(turn: Turn) -> str | None:
    """A source or pool that gave an error this turn has no fresh reading."""
    seen = turn.tick.observation
    for source, error in seen.source_errors.items():
        fresh = [s for s, r in seen.readings.items() if source_of(s) == source and isinstance(r, Fresh)]
        if fresh or not error:
            return f"{source} failed ({error or 'without a word'}), and {', '.join(fresh)} are fresh"
    for pool, error in seen.pool_errors.items():
        if isinstance(seen.pools[pool], Fresh) or not error:
            return f"{pool} failed ({error or 'without a word'}), and its size is fresh"
    return None
