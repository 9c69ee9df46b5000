"""Replicas that are not ready: the load of lost ones counts, and full ones block scale-in.

A policy that measures replicas measures only those that are ready. When replicas are lost, their load is not measured
any more, so that the measured need drops although the traffic does not. Three rules:

1. A lost replica (ready within the last `LOST_S`, not removed, not ready now) counts as a full one, up to the need
   that was measured while it was ready. Example: 9 of 10 replicas were needed, 8 are lost, and the remaining 2 are used
   to half of the target: the need is ``min(9, 2 * 0.5 + 8) = 9`` and not 1.
2. While replicas are lost, or requested for `LOST_S` and not ready, and the ready ones are full (used to the target
   or beyond, or requests wait), the size does not fall, however long that lasts: a full replica shows that too few
   serve, not how many. Replicas that are starting are left to the scale-down window.
3. While none is ready, such a policy has no evidence: it may raise the size and not lower it.

Rule 1 ends when the replicas are ready again, after `LOST_S` (or the scale-down window, if that is longer), or when
a policy that reads a queue before the replicas measures no work. So a replica that never comes back delays scale-in by
that time. Then the ready ones decide, once they were not full for a whole scale-down window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from policies.history.ticks import DEMAND, DESIRED, READY, READY_REPLICAS
from policies.model import Absent, Evidence, Fresh, PolicyName, Recommendation
from policies.signals.demand import signal_names, whole_replicas

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from numpy.typing import NDArray

    from policies.history.ticks import History
    from policies.model import Observation
    from policies.model.spec import WorkloadSpec
    from policies.recommend.context import PolicyContext

LOST_S: Final = 900.0
"""A lost replica counts for this time: a GPU node is usually replaced within it or not at all. Seconds."""


class FilledMethod(Protocol):
    """The method `filled` of a policy whose signals come from the replicas themselves.

    It returns the use of the ready replicas as a share of the policy's target, infinity where requests wait; None where
    the load is counted before it reaches the replicas, so that lost replicas hide no load.
    """

    def __call__(self, name: PolicyName, context: PolicyContext, recommendation: Recommendation) -> float | None: ...


@dataclass(frozen=True, slots=True)
class NotReady:
    """The replicas of one tick that are requested and not ready.

    By count, `replicas` of `requested` are not ready, `recent` were requested within the last `LOST_S`, and
    `lost_replicas` were ready within that time, are not ready now and were not removed. In replica equivalents, `lost`
    is the capacity of those, `demand_before` the largest demand measured while they were ready, and `size` is
    everything requested. Capacity is rounded up: of 4 replicas of 0.5 each, the loss of one is no loss of capacity.
    """

    replicas: int
    requested: int
    recent: int
    lost_replicas: int
    lost: float
    demand_before: float
    size: int

    @property
    def starting(self) -> bool:
        """Whether all of them were requested within `LOST_S`, so that none was lost or is overdue."""
        return self.lost_replicas <= 0 and self.lost <= 0.0 and self.replicas <= self.recent

    def __str__(self) -> str:
        return f"{self.replicas} of {self.requested} replicas are not ready"


def not_ready(spec: WorkloadSpec, history: History, observation: Observation, ready: int | None) -> NotReady | None:
    """Return the replicas that are requested and not ready; None where all are, or unknown.

    `ready` is in replica equivalents.
    """
    missing, requested, work = 0, 0, 0.0
    for name, pool in spec.pools.items():
        reading = observation.pools[name]
        if pool.tier == "serving" and not isinstance(reading, Absent):
            requested += reading.value.desired
            work += reading.value.desired * pool.work_per_replica
            missing += max(0, reading.value.desired - reading.value.ready)
    if ready is None or not missing:
        return None
    statuses = [r.value for r in observation.pools.values() if not isinstance(r, Absent)]
    desired, ready_replicas = sum(s.desired for s in statuses), sum(s.ready for s in statuses)
    size = whole_replicas(work)
    since = observation.at - max(LOST_S, spec.scale_down.window_s)
    past_desired = history.column_to_now(DESIRED, since, desired)
    recent = int(desired - np.fmin.reduce(past_desired))
    past_replicas = history.column_to_now(READY_REPLICAS, since, ready_replicas)
    lost_replicas = 0
    if np.fmax.reduce(past_replicas) > ready_replicas:
        lost_replicas = int(_expected_ready(past_replicas, past_desired)) - ready_replicas
    past_ready = history.column(READY, since)
    if 0 < np.fmax.reduce(past_ready, initial=0.0) <= ready:
        return NotReady(missing, requested, recent, lost_replicas, 0.0, 0.0, size)
    max_work = max(1.0, *(pool.work_per_replica for pool in spec.pools.values()))
    expected = _expected_ready(history.column_to_now(READY, since, ready), past_desired, max_work)
    demand = history.column(DEMAND, since)[past_ready >= expected]
    demand_before = float(np.fmax.reduce(demand, initial=0.0))
    return NotReady(missing, requested, recent, lost_replicas, max(0.0, expected - ready), demand_before, size)


def _expected_ready(ready: NDArray[np.float64], desired: NDArray[np.float64], max_work: float = 1.0) -> float:
    """Return the replicas that would be ready if none had been lost, from values oldest first.

    A removal takes replicas that are not ready first, and lost ones among them still count. `max_work` is the largest
    capacity of one replica, in the unit of `ready`. Example: 10 of 12 ready replicas are lost, and then the size is
    lowered to 11: 12 are still expected. Had all 12 been ready, 11 would be.
    """
    ready = np.minimum(ready, desired * max_work)
    known = ~np.isnan(ready)
    ready, desired = ready[known], desired[known]
    pending = np.maximum(desired[:-1] - ready[:-1], 0.0)
    removed = np.maximum(desired[:-1] - desired[1:] - pending, 0.0).cumsum()
    total = removed[-1] if removed.size else 0.0
    return float(max(ready[-1], np.maximum.reduce(ready[1:] + removed, initial=0.0) - total, ready[0] - total))


def with_lost_replicas(
    measured: Mapping[PolicyName, Recommendation], missing: NotReady, context: PolicyContext, spec: WorkloadSpec
) -> tuple[dict[PolicyName, Recommendation], str]:
    """Return the recommendations with the load of lost replicas, and why the size may not fall."""
    is_queue_empty = any(_measures_empty_queue(spec.policies[name], r) for name, r in measured.items())
    corrected, full_reason = {}, ""
    for name, recommendation in measured.items():
        policy = spec.policies[name]
        filled: FilledMethod | None = getattr(policy, "filled", None)
        share = None if filled is None else filled(name, context, recommendation)
        if share is None:
            corrected[name] = recommendation
            continue
        if is_queue_empty:
            corrected[name] = _with_empty_queue(recommendation, context)
        else:
            corrected[name] = _with_lost(recommendation, missing, context, can_activate=policy.can_activate)
        if share >= 1.0 and context.ready and not missing.starting and not full_reason:
            full_reason = f"{missing} and the ready ones are full (policy {name}): the demand is unknown"
    return corrected, full_reason


def _measures_empty_queue(policy: Any, recommendation: Recommendation) -> bool:
    """Return whether a policy reads a queue before the replicas, and that queue is empty."""
    measures_nothing = recommendation.evidence is Evidence.FULL and recommendation.need == 0.0
    return measures_nothing and "visible" in policy.needs() and not hasattr(policy, "filled")


def _with_empty_queue(recommendation: Recommendation, context: PolicyContext) -> Recommendation:
    """Return a recommendation with full evidence, as the queue before the replicas is empty."""
    readings = (context.readings.get(signal) for signal in recommendation.used)
    are_fresh = all(isinstance(reading, Fresh) and not reading.missing for reading in readings)
    if context.ready or recommendation.evidence is not Evidence.BLIND or not are_fresh:
        return recommendation
    reason = f"{recommendation.reason}; the queue in front of the replicas is empty, so there is no demand"
    return replace(recommendation, evidence=Evidence.FULL, reason=reason)


def _with_lost(
    recommendation: Recommendation, missing: NotReady, context: PolicyContext, *, can_activate: bool
) -> Recommendation:
    """Return a recommendation with lost replicas: a lower bound while none is ready."""
    if recommendation.replicas is None:
        return recommendation
    reasons = [recommendation.reason]
    replicas, evidence = recommendation.replicas, recommendation.evidence
    floor = min(missing.demand_before, replicas + missing.lost, float(missing.size))
    if floor > replicas:
        reasons.append(f"{missing}: their last load counts; without it, {replicas:.2f} replicas are needed")
        replicas = floor
    is_idle = can_activate and context.min_replicas == 0 and replicas == missing.demand_before == 0.0
    if not context.ready and evidence is Evidence.FULL and not is_idle:
        evidence = Evidence.PARTIAL
        reasons.append(f"none of {missing.requested} replicas is ready, so this is a lower bound")
    if len(reasons) == 1:
        return recommendation
    active = recommendation.active or replicas > recommendation.replicas
    return replace(recommendation, replicas=replicas, evidence=evidence, active=active, reason="; ".join(reasons))


def share_unknown_reason(context: PolicyContext) -> str:
    """Return why a mean share over the ready replicas is meaningless; empty where it is not."""
    if context.ready is None:
        return "the number of ready replicas is unknown"
    if context.ready == 0 and context.desired:
        return f"none of {context.desired} replicas is ready, and only ready replicas report a share"
    return ""


def filled_share(work: float | None, context: PolicyContext, source: str | None) -> float:
    """Return the use of the ready replicas as a share of the target; infinite if requests wait.

    Waiting requests count only from one per ready replica on: an engine admits one in its next step, and among many
    replicas one always waits somewhere. Example: 6 replica equivalents of work on 8 ready replicas are 0.75.
    """
    (signal,) = signal_names(source, ("waiting",))
    waiting = context.readings.get(signal)
    if not context.ready or (isinstance(waiting, Fresh) and waiting.value >= context.ready):
        return math.inf
    return (work or 0.0) / context.ready
