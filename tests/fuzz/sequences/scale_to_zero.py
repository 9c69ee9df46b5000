"""Laws of scale to zero: its conditions, and that it happens once they hold."""

from __future__ import annotations

from typing import Any, Final

from policies.model import Tick
from policies.signals.zero_suspicion import MAX_SUSPICION_S
from tests.fuzz.sequences.judged import Judged, fresh
from tests.fuzz.sequences.policies import ENGINES
from tests.fuzz.worlds import settings
from tests.fuzz.worlds.tick_context import missing_evidence

SLACK: Final = 4
"""Tolerance in intervals: for a step, the edge of a window and the age of a reading."""
LOADS: Final = ("running", "waiting", "requests_per_s", "prompt_tokens_per_s", "generation_tokens_per_s")


def zero_is_earned(judged: Judged) -> str | None:
    """A workload goes to zero only if its minimum allows it and a whole cooldown was observed without work, or if the
    pools' own maximums allow no other size.
    """
    return None if judged.is_peer or judged.must_empty else settings.zero_is_earned(judged.context)


def rest_comes(judged: Judged) -> str | None:
    """Below every activation throughout cooldown, windows and suspicion of false zeros, the last replica goes."""
    context, spec = judged.context, judged.context.spec
    bound = spec.min_replicas or any(pool.min_replicas for pool in spec.pools.values()) or len(spec.pools) > 1
    limited = context.forbids("hold", "no_scale_in") or spec.blast_radius.share < 1.0 or spec.paused
    if (
        bound
        or limited
        or judged.is_peer
        or judged.by_owner
        or (context.decision.current, context.decision.target) != (1, 1)
    ):
        return None
    if any(status.other_writer for status in judged.statuses(judged.tick).values()):
        return None
    hold_s = max((getattr(policy, "demand_hold_s", 0.0) for policy in spec.policies.values()), default=0.0)
    span_s = max(spec.cooldown_s, spec.scale_down.window_s, spec.scale_down.period_s, MAX_SUSPICION_S, hold_s)
    span_s += SLACK * spec.interval_s
    idle_s = _idle_s(judged)
    if idle_s < span_s:
        return None
    return f"it stays at 1 after {idle_s:g} s below activation, all of it seen: {context.decision.reason}"


def _idle_s(judged: Judged) -> float:
    """Return the time for which no policy had work, observed without a gap of more than two intervals. Seconds."""
    spec, now, since = judged.context.spec, judged.tick.at, judged.tick.at
    for tick in (judged.tick, *judged.earlier()):
        gap = since - tick.at > 2.0 * spec.interval_s
        if gap or missing_evidence(spec, tick) or not all(_idle(judged, tick, n, p) for n, p in spec.policies.items()):
            break
        since = tick.at
    return now - since


def _idle(judged: Judged, tick: Tick, name: str, policy: Any) -> bool:
    """Return whether a policy's readings are at or below its activation."""
    match judged.kinds[name]:
        case "queue_depth":
            values = [fresh(tick, f"{policy.source}.{quantity}") for quantity in policy.count]
            return None not in values and sum(v for v in values if v is not None) <= policy.activation
        case "concurrency":
            values = [fresh(tick, f"{policy.source}.{quantity}") for quantity in ("running", "waiting")]
            return None not in values and sum(v for v in values if v is not None) <= policy.activation
        case "gpu_utilization" | "kv_cache_usage" | "metric":
            value = fresh(tick, f"{policy.source}.{policy.needs()[0]}")
            return value is not None and value <= policy.activation
        case "predictive":
            signals = [f"{ENGINES}.{quantity}" for quantity in LOADS]
            signals += [f"{policy.queue}.visible"] if policy.queue is not None else []
            return all(fresh(tick, signal) == 0.0 for signal in signals)
        case "schedule":
            recommendation = next((r for r in tick.decision.recommendations if r.policy == name), None)
            return recommendation is not None and not recommendation.active
        case "headroom":
            return True
    return False
