"""Every policy's recommendation of one tick, and which of them wins."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from policies.model import Recommendation
from policies.recommend import readiness
from policies.recommend.context import PolicyContext
from policies.recommend.need_bounds import bounded, most_needed

if TYPE_CHECKING:
    from policies.history.ticks import History
    from policies.model import Observation, PolicyName
    from policies.model.spec import WorkloadSpec


class Evaluated(NamedTuple):
    """The recommendations of one tick, in the order configured.

    `winner` states the largest need; None where no policy states one. `demand` is the largest need that was measured,
    `full` says why the size may not fall (empty where it may), and `need_without_latency` is the largest need without
    replicas that are recommended because users wait; None where nothing is recommended for that reason.
    """

    recommendations: tuple[Recommendation, ...]
    winner: Recommendation | None
    demand: float | None
    full: str
    need_without_latency: float | None


def evaluate(
    spec: WorkloadSpec, history: History, seen: Observation, ready: int | None, current: int | None
) -> Evaluated:
    """Evaluate the policies that measure demand, then those that shape it.

    No need is larger than `most_needed`: the cost of what follows is bounded by the sizes configured and found.
    """
    context = PolicyContext(seen.at, seen.readings, ready, current, None, history, spec.min_replicas, seen.pools, spec)
    most = most_needed(spec, current)
    measured = {
        n: bounded(p.recommend(n, context), most, history.memory(n))
        for n, p in spec.policies.items()
        if not p.post_demand
    }
    missing, full = readiness.not_ready(spec, history, seen, ready), ""
    if missing is not None:
        measured, full = readiness.counted(measured, missing, context, spec)
    winner = largest(measured.values())
    demand = None if winner is None else winner.need
    shaped = _shaped(context, spec, demand, most)
    found = tuple({**measured, **shaped}[n] for n in spec.policies)
    without = None
    if any(r.latency_driven for r in found):
        without = _need_without_latency(measured, context, spec, most)
    return Evaluated(found, largest(found), demand, full, without)


def largest(recommendations: Iterable[Recommendation]) -> Recommendation | None:
    """Return the first of those that state the largest need; None where no policy states one."""
    winner, most = None, -math.inf
    for recommendation in recommendations:
        need = recommendation.need
        if need is not None and need > most:
            winner, most = recommendation, need
    return winner


def _shaped(
    context: PolicyContext, spec: WorkloadSpec, demand: float | None, most: float
) -> dict[PolicyName, Recommendation]:
    """Return what the shaping policies make of a demand."""
    shaping = dataclasses.replace(context, demand=demand)
    return {
        n: bounded(p.recommend(n, shaping), most, context.history.memory(n))
        for n, p in spec.policies.items()
        if p.post_demand
    }


def _need_without_latency(
    measured: Mapping[PolicyName, Recommendation], context: PolicyContext, spec: WorkloadSpec, most: float
) -> float:
    """Return the largest need without what is recommended because users wait; shaping policies shape that demand.

    Example: 6 replicas, of which 2 because users wait, and a headroom of 20 %: 4 are measured, and 5 needed.
    """
    calm = max(((r.need or 0.0) - (r.latency_driven or 0.0) for r in measured.values()), default=0.0)
    shaped = _shaped(context, spec, calm, most)
    return max(calm, 0.0, *(r.need or 0.0 for r in shaped.values()))
