"""The law of lost readiness: a drop of demand together with a drop of ready replicas is no evidence for scale-in.

It applies to the project's own policies. Other autoscalers' rules are implemented as they are.
"""

from __future__ import annotations

import math
from typing import Any, Final

from policies.model import Evidence, PolicyName, PoolName, Tick
from policies.recommend.predictive.memory import PredictiveMemory
from tests.fuzz.sequences.judged import Judged, fresh
from tests.fuzz.sequences.policies import ENGINES

SHARE_KINDS: Final = {"gpu_utilization": "utilization", "kv_cache_usage": "kv_cache_usage"}
TOTAL_KINDS: Final = ("concurrency", "predictive", "metric")
"""Kinds that may read totals of the engines."""
SAME: Final = 0.98
"""Minimum share of the earlier load per replica at which a remaining replica carries as much as before."""


def saturated_survivors_hold(judged: Judged) -> str | None:
    """While replicas that were ready are not, and those that are ready are at their target or have requests waiting,
    the size does not fall but by replicas that failed or are abandoned, which count for nothing. Engines that work on a
    queue with a far deadline are always full.
    """
    if (
        not _applies(judged)
        or _describe_loss(judged) is None
        or judged.after >= judged.before - _failed_replicas(judged)
    ):
        return None
    for name, policy in judged.context.spec.policies.items():
        if full := _saturated(judged, name, policy):
            return f"{judged.before} -> {judged.after}, {_describe_loss(judged)}, and {full}"
    return None


def _failed_replicas(judged: Judged) -> int:
    """Return the number of failed or abandoned replicas, which may move to another pool."""
    abandoned = judged.tick.decision.abandoned
    statuses = judged.statuses(judged.tick)
    return sum(max(status.failed, abandoned.get(PoolName(name), 0)) for name, status in statuses.items())


def _saturated(judged: Judged, name: PolicyName, policy: Any) -> str:
    """Describe the reading of a policy by which the ready replicas are saturated; empty if they are not."""
    kind = judged.kinds[str(name)]
    quantity = SHARE_KINDS.get(kind) or (policy.quantity if kind == "metric" and policy.across == "mean" else None)
    if quantity is not None and policy.source == ENGINES:
        value = judged.reading(f"{ENGINES}.{quantity}")
        return f"{quantity} is {value:g}" if value is not None and value >= policy.target else ""
    if kind == "concurrency" or (kind == "predictive" and not _queue_decides(judged, name, policy)):
        waiting = judged.reading(f"{ENGINES}.waiting")
        noise = max(
            1, _ready(judged, judged.tick), judged.tick.decision.ready or 0
        )  # in replicas or replica equivalents
        return f"{waiting:g} requests wait" if waiting is not None and waiting >= noise else ""
    return ""


def none_ready_is_blind(judged: Judged) -> str | None:
    """If no replica is ready, means over the ready replicas do not lower the size."""
    if not _applies(judged) or _ready(judged, judged.tick):
        return None
    for name, policy in judged.context.spec.policies.items():
        kind = judged.kinds[str(name)]
        if kind in SHARE_KINDS or (kind == "metric" and policy.across == "mean"):
            return f"{judged.before} -> {judged.after}, none is ready, and {name} reads a mean over the ready ones"
    return None


def lost_replicas_count(judged: Judged) -> str | None:
    """Totals of the engines that fall with the ready replicas, each of which carries what it did, lower no size below
    what was needed before under the same configuration and within its maximum, in replica equivalents, unless a queue
    decides in their place. A decided size that does not fall may lose replicas beyond it that are not ready.
    """
    earlier_tick = _tick_before_loss(judged) if _applies(judged) else None
    if earlier_tick is None or earlier_tick.spec != judged.tick.spec or _loses_spares_only(judged):
        return None
    target = judged.context.decision.target
    for name, policy in judged.context.spec.policies.items():
        kind = judged.kinds[str(name)]
        reads_total = kind in TOTAL_KINDS and not (kind == "metric" and policy.across == "mean")
        if (
            not reads_total
            or policy.source != ENGINES
            or (kind == "predictive" and _queue_decides(judged, name, policy))
        ):
            continue
        quantity = policy.quantity if kind == "metric" else "running"
        signal = f"{ENGINES}.{quantity}"
        value, ready = judged.reading(signal), _ready(judged, judged.tick)
        earlier_value, earlier_ready = fresh(earlier_tick, signal), _ready(judged, earlier_tick)
        needed = min(_measured_demand(earlier_tick, str(name)), judged.context.spec.max_replicas)
        if not (value and earlier_value and ready and earlier_ready) or (target or 0) >= math.floor(needed):
            continue
        if value / ready >= SAME * earlier_value / earlier_ready:
            earlier_load = f"{quantity} {earlier_value:g} over {earlier_ready} ready"
            comparison = f"{earlier_load} was as much for each as {value:g} over {ready}"
            return f"{judged.before} -> {judged.after}, {needed:.2f} were needed before, and {comparison}"
    return None


def _loses_spares_only(judged: Judged) -> bool:
    """Return whether the decided size does not fall, and every pool keeps its ready replicas."""
    decision, statuses = judged.context.decision, judged.context.statuses
    keeps_ready = all(decision.targets.get(n, statuses[n].desired) >= statuses[n].ready for n in judged.serving)
    return keeps_ready and (decision.target or 0) >= (decision.current or 0)


def _queue_decides(judged: Judged, name: PolicyName, policy: Any) -> bool:
    """Return whether a replica requested now serves before a message sent now is due: then only the queue counts."""
    if policy.queue is None or judged.reading(f"{policy.queue}.visible") is None:
        return False
    history, spec = judged.context.history, judged.context.spec
    serving = {pool: settings for pool, settings in spec.pools.items() if settings.tier == "serving"}
    memories = history.pool_memories
    leads_s = [memories.of(pool).lead_times.usual_s(settings.lead_time_s) for pool, settings in serving.items()]
    left_s = policy.queue_deadline_s - PredictiveMemory(history.memory(name)).response_time_s
    return bool(left_s > max(leads_s) + spec.interval_s + policy.backlog_clear_s)


def _measured_demand(tick: Tick, policy: str) -> float:
    """Return a policy's demand at a tick from the measured load, without forecast; 0 without a measurement."""
    config = next((r for r in tick.decision.recommendations if r.policy == policy), None)
    if config is None or config.need is None:
        return 0.0
    return config.need if config.work is None else min(config.need, config.work)


def _applies(judged: Judged) -> bool:
    """Return whether one of the project's own policies lowered the size (not an operator's limit or a move between
    pools), while no queue reports that the traffic is gone."""
    idle = any(
        judged.kinds[str(r.policy)] == "queue_depth" and r.need == 0.0 and r.evidence is Evidence.FULL
        for r in judged.tick.decision.recommendations
    )
    return judged.lowered and not judged.is_peer and not judged.by_owner and not idle


def _describe_loss(judged: Judged) -> str | None:
    """Describe the replicas lost without a request of ours; None if there are none."""
    before = _tick_before_loss(judged)
    return None if before is None else f"{_ready(judged, before)} were ready and {_ready(judged, judged.tick)} are"


def _tick_before_loss(judged: Judged) -> Tick | None:
    """Return the latest tick with more ready replicas, if since then no size was lowered and no replica became ready
    again; else None."""
    ready = _ready(judged, judged.tick)
    sizes = _sizes(judged, judged.tick)
    for tick in judged.earlier():
        earlier, later = _sizes(judged, tick), sizes
        if earlier.keys() != later.keys() or any(earlier[name] > later[name] for name in later):
            return None
        sizes = earlier
        if _ready(judged, tick) > ready:
            return tick
        if _ready(judged, tick) < ready:
            return None
    return None


def _ready(judged: Judged, tick: Tick) -> int:
    return sum(status.ready for status in judged.statuses(tick).values())


def _sizes(judged: Judged, tick: Tick) -> dict[str, int]:
    return {name: status.desired for name, status in judged.statuses(tick).items()}
