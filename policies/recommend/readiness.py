"""Replicas that are not ready: their load still counts, and full remaining replicas do not prove a smaller need.

A policy that measures replicas sees only the load of the ready ones. When replicas are lost, their load is no longer
measured, so the measured need drops although the traffic does not. Three rules:

1. A lost replica (ready within the last `LOST_REPLICA_S`, not removed, not ready now) counts as a full one, up to the
   need that was measured while it was ready. Example: 9 of 10 replicas were needed, 8 are lost, and the other 2 are
   filled to half of the target: the need is ``min(9, 2 * 0.5 + 8) = 9`` and not 1.
2. While replicas are lost, or were requested `LOST_REPLICA_S` ago and are not ready, and the ready ones are full (at
   the target or above it, or requests wait), the size does not fall. A full replica shows that too few serve, but not
   how many more are needed. For replicas that are starting, the scale-down window suffices.
3. While no replica is ready, such a policy has no evidence: it may raise the size but not lower it.

Rule 1 ends when the replicas are ready again, after `LOST_REPLICA_S` (or the scale-down window, if that is longer), or
when a policy that reads a queue before the replicas sees no work. So a replica that never returns delays scale-in by
that time. Then the ready replicas decide, once they were not full for a whole scale-down window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from policies.history.ticks import DEMAND, HELD, READY
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

LOST_REPLICA_S: Final = 900.0
"""A lost replica counts for this time: a GPU node is usually replaced within it or not at all. Seconds."""


class Filled(Protocol):
    """The method `filled` of a policy whose signals come from the replicas.

    It returns the load of the ready replicas as a share of the policy's target: 0.5 at half of the target, infinity if
    requests wait. It returns None if the policy reads the load before the replicas, so that lost replicas hide nothing.
    """

    def __call__(self, name: PolicyName, context: PolicyContext, recommendation: Recommendation) -> float | None: ...


@dataclass(frozen=True, slots=True)
class NotReady:
    """The replicas of one tick that are requested and not ready.

    `replicas` of `requested` replicas are not ready, and `recent` were requested within the last `LOST_REPLICA_S`. In
    replica equivalents: `lost` were ready within that time and are not ready now, although they were not removed;
    `before` is the largest demand measured while they were ready; `size` is the requested size.
    """

    replicas: int
    requested: int
    recent: int
    lost: float
    before: float
    size: int

    @property
    def starting(self) -> bool:
        """Whether all of them were requested recently, so that none was lost and none is overdue."""
        return self.lost <= 0.0 and self.replicas <= self.recent

    def __str__(self) -> str:
        return f"{self.replicas} of {self.requested} replicas are not ready"


def not_ready(spec: WorkloadSpec, history: History, observation: Observation, ready: int | None) -> NotReady | None:
    """Return the replicas that are requested and not ready; None if all are ready, or if that is unknown.

    `ready` is the ready capacity in replica equivalents.
    """
    missing, requested, equivalents = 0, 0, 0.0
    for name, pool in spec.pools.items():
        reading = observation.pools[name]
        if pool.tier == "serving" and not isinstance(reading, Absent):
            requested += reading.value.desired
            equivalents += reading.value.desired * pool.work_per_replica
            missing += max(0, reading.value.desired - reading.value.ready)
    if ready is None or not missing:
        return None
    size, requested_now = (
        whole_replicas(equivalents),
        sum(r.value.desired for r in observation.pools.values() if not isinstance(r, Absent)),
    )
    ready_before = history.column(READY, observation.at - max(LOST_REPLICA_S, spec.scale_down.window_s))
    requested_before = history.column(HELD)[len(history) - ready_before.size :]
    recent = int(requested_now - np.fmin.reduce(requested_before, initial=float(requested_now)))
    if 0 < np.fmax.reduce(ready_before, initial=0.0) <= ready:
        return NotReady(missing, requested, recent, 0.0, 0.0, size)
    expected = _expected(spec, np.append(ready_before, float(ready)), np.append(requested_before, float(requested_now)))
    demand = history.column(DEMAND)[len(history) - ready_before.size :][ready_before >= expected]
    before = float(np.fmax.reduce(demand, initial=0.0))
    return NotReady(missing, requested, recent, max(0.0, expected - ready), before, size)


def _expected(spec: WorkloadSpec, ready_before: NDArray[np.float64], requested_before: NDArray[np.float64]) -> float:
    """Return the replicas that would be ready now if none had been lost.

    `ready_before` and `requested_before` are the ready and requested replicas of each tick, oldest first. A scale-in
    removes replicas that are not ready first, and these still count. Example: 10 of 12 ready replicas are lost, then
    the size is lowered to 11. Still 12 are expected. If all 12 had been ready, 11 would be expected.
    """
    equivalents = max(1.0, *(pool.work_per_replica for pool in spec.pools.values()))
    known = ~np.isnan(ready_before + requested_before)
    ready_before, requested_before = (
        np.minimum(ready_before, requested_before * equivalents)[known],
        requested_before[known],
    )
    pending = np.maximum(requested_before[:-1] - ready_before[:-1], 0.0)
    removed = np.cumsum(np.maximum(requested_before[:-1] - requested_before[1:] - pending, 0.0))
    total = removed[-1] if removed.size else 0.0
    return float(
        max(ready_before[-1], np.max(ready_before[1:] + removed, initial=0.0) - total, ready_before[0] - total)
    )


def with_lost_replicas(
    recommendations: Mapping[PolicyName, Recommendation], missing: NotReady, context: PolicyContext, spec: WorkloadSpec
) -> tuple[dict[PolicyName, Recommendation], str]:
    """Return the recommendations with the load of lost replicas, and why the size may not fall (empty if it may)."""
    empty = any(_sees_no_work(spec.policies[name], recommendation) for name, recommendation in recommendations.items())
    counted, full = {}, ""
    for name, recommendation in recommendations.items():
        policy = spec.policies[name]
        filled: Filled | None = getattr(policy, "filled", None)
        share = None if filled is None else filled(name, context, recommendation)
        if share is None:
            counted[name] = recommendation
            continue
        counted[name] = (
            _with_empty_queue(recommendation, context)
            if empty
            else _with_lost(recommendation, missing, context, can_activate=policy.can_activate)
        )
        if share >= 1.0 and context.ready and not missing.starting:
            full = full or f"{missing}, and the ready ones are full by {name}: how many more are needed is not known"
    return counted, full


def _sees_no_work(policy: Any, recommendation: Recommendation) -> bool:
    """Return whether the policy reads a queue before the replicas, and the queue is empty."""
    upstream = "visible" in policy.needs() and not hasattr(policy, "filled")
    return upstream and recommendation.evidence is Evidence.FULL and recommendation.need == 0.0


def _with_empty_queue(recommendation: Recommendation, context: PolicyContext) -> Recommendation:
    """Return a recommendation while the queue before the replicas is empty, so that lost replicas hide no load."""
    readings = (context.readings.get(signal) for signal in recommendation.used)
    whole_and_fresh = all(isinstance(reading, Fresh) and not reading.missing for reading in readings)
    if context.ready or recommendation.evidence is not Evidence.BLIND or not whole_and_fresh:
        return recommendation
    return replace(
        recommendation, evidence=Evidence.FULL, reason=f"{recommendation.reason}; but the queue before them is empty"
    )


def _with_lost(
    recommendation: Recommendation, missing: NotReady, context: PolicyContext, *, can_activate: bool
) -> Recommendation:
    """Return a recommendation that counts lost replicas, and that is a lower bound while none is ready.

    Example: a policy measures 1.0 replica on 2 ready ones, 8 are lost, 9.0 were needed before, and the size is 10. The
    result is min(9.0, 1.0 + 8, 10) = 9.0.
    """
    if recommendation.replicas is None:
        return recommendation
    notes: list[str] = []
    replicas, evidence = recommendation.replicas, recommendation.evidence
    minimum = min(missing.before, replicas + missing.lost, float(missing.size))
    if minimum > replicas:
        notes.append(f"{missing}: what they carried before counts, {replicas:.2f} without it")
        replicas = minimum
    may_rest = can_activate and context.min_replicas == 0 and replicas == missing.before == 0.0
    if not context.ready and evidence is Evidence.FULL and not may_rest:
        evidence = Evidence.PARTIAL
        notes.append(f"none of {missing.requested} replicas is ready: at least")
    if not notes:
        return recommendation
    active = recommendation.active or replicas > recommendation.replicas
    return replace(
        recommendation,
        replicas=replicas,
        evidence=evidence,
        active=active,
        reason="; ".join((recommendation.reason, *notes)),
    )


def share_unknown_reason(context: PolicyContext) -> str:
    """Return why a mean share over the ready replicas is unknown; empty if it is known."""
    if context.ready is None:
        return "the number of ready replicas is not known"
    if context.ready == 0 and context.desired:
        return f"none of {context.desired} replicas is ready, and a share is measured on ready ones"
    return ""


def filled_share(work: float | None, context: PolicyContext, source: str | None) -> float:
    """Return how full the ready replicas are by `work`, as a share of the target; infinity if requests wait.

    Waiting requests count from one per ready replica, since an engine admits one in its next step, and in a large fleet
    some request always waits. Example: a work of 1.5 on 2 ready replicas is 0.75; with 2 requests waiting, infinity.
    """
    (signal,) = signal_names(source, ("waiting",))
    waiting = context.readings.get(signal)
    if not context.ready or (isinstance(waiting, Fresh) and waiting.value >= context.ready):
        return math.inf
    return (work or 0.0) / context.ready
