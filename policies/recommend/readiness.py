"""Replicas that are not ready: what they carried still counts, and full ones that are left prove nothing.

A policy that measures replicas sees the load of those that are ready. When replicas are lost, the load that they
carried is not measured any more, so that the measured need drops although the traffic does not. Three rules:

1. A lost replica (ready within the last `COUNTS_S`, not removed by anybody, not ready now) counts as a full one, up to
   the need that was measured while it was ready. Example: 9 of 10 replicas were needed, 8 are lost, and the 2 left
   are used to half of the target: the need is ``min(9, 2 * 0.5 + 8) = 9`` and not 1.
2. While replicas are lost, or requested for `COUNTS_S` and not ready, and the ready ones are full (used to the target
   or beyond, or requests wait), the size does not fall, however long that lasts: a full replica shows that too few
   serve, not how many. Replicas that are starting are left to the scale-down window.
3. While none is ready, such a policy has no evidence: it may raise the size and not lower it.

Rule 1 ends when the replicas are ready again, after `COUNTS_S` (or the scale-down window, if that is longer), or when
a policy that reads a queue before the replicas sees no work. So a replica that never comes back delays scale-in by
that time, and then the ready ones decide, once a whole scale-down window has shown that they are not full.
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

COUNTS_S: Final = 900.0
"""A lost replica counts for this time: a GPU node is usually replaced within it or not at all. Seconds."""


class Filled(Protocol):
    """What a policy has whose signals come from the replicas themselves, as its method `filled`.

    Returns the use of the ready replicas as a share of the policy's target, infinity where requests wait; None where
    the load is counted before it reaches the replicas, so that lost ones hide nothing.
    """

    def __call__(self, name: PolicyName, context: PolicyContext, recommendation: Recommendation) -> float | None: ...


@dataclass(frozen=True, slots=True)
class NotReady:
    """The replicas of one tick that are requested and not ready.

    `replicas` of `requested` are not ready, and `recent` were requested within the last `COUNTS_S`, by count. The rest
    is in replica equivalents: `lost` were ready within that time and went without being removed, `before` is the
    largest demand measured while they were ready, and `size` is everything requested.
    """

    replicas: int
    requested: int
    recent: int
    lost: float
    before: float
    size: int

    @property
    def starting(self) -> bool:
        """Whether all of them were requested just now, so that none was lost or is overdue."""
        return self.lost <= 0.0 and self.replicas <= self.recent

    def __str__(self) -> str:
        return f"{self.replicas} of {self.requested} replicas are not ready"


def not_ready(spec: WorkloadSpec, history: History, seen: Observation, ready: int | None) -> NotReady | None:
    """Return the replicas that are requested and not ready; None where all are, or where that is not known.

    `ready` are the replica equivalents that are ready.
    """
    missing, requested, worth = 0, 0, 0.0
    for name, pool in spec.pools.items():
        reading = seen.pools[name]
        if pool.tier == "serving" and not isinstance(reading, Absent):
            requested += reading.value.desired
            worth += reading.value.desired * pool.work_per_replica
            missing += max(0, reading.value.desired - reading.value.ready)
    if ready is None or not missing:
        return None
    size, now = whole_replicas(worth), sum(r.value.desired for r in seen.pools.values() if not isinstance(r, Absent))
    were = history.column(READY, seen.at - max(COUNTS_S, spec.scale_down.window_s))
    held = history.column(HELD)[len(history) - were.size :]
    recent = int(now - np.fmin.reduce(held, initial=float(now)))
    if 0 < np.fmax.reduce(were, initial=0.0) <= ready:
        return NotReady(missing, requested, recent, 0.0, 0.0, size)
    expected = _expected(spec, np.append(were, float(ready)), np.append(held, float(now)))
    demand = history.column(DEMAND)[len(history) - were.size :][were >= expected]
    before = float(np.fmax.reduce(demand, initial=0.0))
    return NotReady(missing, requested, recent, max(0.0, expected - ready), before, size)


def _expected(spec: WorkloadSpec, were: NDArray[np.float64], held: NDArray[np.float64]) -> float:
    """Return the replicas that would be ready by now if none had been lost.

    `were` are the ready and `held` the requested ones, oldest first. A removal takes replicas that are not ready first,
    and these go on to count. Example: of 12 ready ones 10 are lost, and then the size is lowered to 11: 12 are still
    expected. Had all 12 been ready, 11 would be.
    """
    worth = max(1.0, *(pool.work_per_replica for pool in spec.pools.values()))
    known = ~np.isnan(were + held)
    were, held = np.minimum(were, held * worth)[known], held[known]
    pending = np.maximum(held[:-1] - were[:-1], 0.0)
    removed = np.cumsum(np.maximum(held[:-1] - held[1:] - pending, 0.0))
    total = removed[-1] if removed.size else 0.0
    return float(max(were[-1], np.max(were[1:] + removed, initial=0.0) - total, were[0] - total))


def counted(
    found: Mapping[PolicyName, Recommendation], missing: NotReady, context: PolicyContext, spec: WorkloadSpec
) -> tuple[dict[PolicyName, Recommendation], str]:
    """Return the recommendations with what lost replicas carried, and why the size may not fall.

    The reason is empty where the size may fall.
    """
    empty = any(_sees_no_work(spec.policies[name], recommendation) for name, recommendation in found.items())
    counted, full = {}, ""
    for name, recommendation in found.items():
        policy = spec.policies[name]
        filled: Filled | None = getattr(policy, "filled", None)
        share = None if filled is None else filled(name, context, recommendation)
        if share is None:
            counted[name] = recommendation
            continue
        counted[name] = (
            _without(recommendation, context)
            if empty
            else _with_lost(recommendation, missing, context, can_activate=policy.can_activate)
        )
        if share >= 1.0 and context.ready and not missing.starting:
            full = full or f"{missing}, and the ready ones are full by {name}: how many more are needed is not known"
    return counted, full


def _sees_no_work(policy: Any, recommendation: Recommendation) -> bool:
    """Return whether a policy that reads a queue before the replicas sees nothing in it."""
    upstream = "visible" in policy.needs() and not hasattr(policy, "filled")
    return upstream and recommendation.evidence is Evidence.FULL and recommendation.need == 0.0


def _without(recommendation: Recommendation, context: PolicyContext) -> Recommendation:
    """Return a recommendation while the queue before the replicas is empty: that none is ready then hides nothing."""
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
    """Return a recommendation that counts lost replicas, and is a lower bound while none is ready."""
    if recommendation.replicas is None:
        return recommendation
    words: list[str] = []
    replicas, evidence = recommendation.replicas, recommendation.evidence
    floor = min(missing.before, replicas + missing.lost, float(missing.size))
    if floor > replicas:
        words.append(f"{missing}: what they carried before counts, {replicas:.2f} without it")
        replicas = floor
    rests = can_activate and context.min_replicas == 0 and replicas == missing.before == 0.0
    if not context.ready and evidence is Evidence.FULL and not rests:
        evidence = Evidence.PARTIAL
        words.append(f"none of {missing.requested} replicas is ready: at least")
    if not words:
        return recommendation
    active = recommendation.active or replicas > recommendation.replicas
    return replace(
        recommendation,
        replicas=replicas,
        evidence=evidence,
        active=active,
        reason="; ".join((recommendation.reason, *words)),
    )


def unshared(context: PolicyContext) -> str:
    """Return why a mean share over the ready replicas says nothing; empty where it does."""
    if context.ready is None:
        return "the number of ready replicas is not known"
    if context.ready == 0 and context.desired:
        return f"none of {context.desired} replicas is ready, and a share is measured on ready ones"
    return ""


def filled_share(work: float | None, context: PolicyContext, source: str | None) -> float:
    """Return how full the ready replicas are by `work`, as a share of the target; infinity where requests wait.

    As many requests as ready replicas wait before it counts: an engine takes up one in its next step, and in a large
    fleet one always waits somewhere.
    """
    (signal,) = signal_names(source, ("waiting",))
    waiting = context.readings.get(signal)
    if not context.ready or (isinstance(waiting, Fresh) and waiting.value >= context.ready):
        return math.inf
    return (work or 0.0) / context.ready
