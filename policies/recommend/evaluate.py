"""The recommendations of all policies in one tick, and the one that wins."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from policies.model import Recommendation
from policies.recommend import readiness
from policies.recommend.context import PolicyContext
from policies.recommend.need_bounds import bounded_recommendation, max_need

if TYPE_CHECKING:
    from policies.history.ticks import History
    from policies.model import Observation, PolicyName
    from policies.model.spec import WorkloadSpec


class Evaluated(NamedTuple):
    """The recommendations of one tick, in the order configured.

    `winner` has the largest need; None if no policy has a need. `demand` is the largest measured need, before headroom.
    `full` is the reason why the size may not fall (empty if it may). `need_without_latency` is the largest need without
    the replicas that are recommended because requests are late; None if there are none.
    """

    recommendations: tuple[Recommendation, ...]
    winner: Recommendation | None
    demand: float | None
    full: str
    need_without_latency: float | None


def evaluate(
    spec: WorkloadSpec, history: History, observation: Observation, ready: int | None, current: int | None
) -> Evaluated:
    """Evaluate the policies that measure demand, then the policies that shape it.

    Each need is limited to `max_need`, which bounds the cost of the later stages. `ready` and `current` are the ready
    and the requested capacity in replica equivalents, None if unknown.
    """
    context = PolicyContext(
        observation.at, observation.readings, ready, current, None, history, spec.min_replicas, observation.pools, spec
    )
    maximum = max_need(spec, current)
    measured = {
        name: bounded_recommendation(policy.recommend(name, context), maximum, history.memory(name))
        for name, policy in spec.policies.items()
        if not policy.post_demand
    }
    missing, full = readiness.not_ready(spec, history, observation, ready), ""
    if missing is not None:
        measured, full = readiness.with_lost_replicas(measured, missing, context, spec)
    winner = largest(measured.values())
    demand = None if winner is None else winner.need
    shaped = _shaped(context, spec, demand, maximum)
    recommendations = tuple({**measured, **shaped}[name] for name in spec.policies)
    need_without_latency = None
    if any(recommendation.latency_driven for recommendation in recommendations):
        need_without_latency = _need_without_latency(measured, context, spec, maximum)
    return Evaluated(recommendations, largest(recommendations), demand, full, need_without_latency)


def largest(recommendations: Iterable[Recommendation]) -> Recommendation | None:
    """Return the first recommendation with the largest need; None if none has a need."""
    winner, maximum = None, -math.inf
    for recommendation in recommendations:
        need = recommendation.need
        if need is not None and need > maximum:
            winner, maximum = recommendation, need
    return winner


def _shaped(
    context: PolicyContext, spec: WorkloadSpec, demand: float | None, maximum: float
) -> dict[PolicyName, Recommendation]:
    """Return the recommendations of the shaping policies for a demand."""
    shaping = dataclasses.replace(context, demand=demand)
    return {
        name: bounded_recommendation(policy.recommend(name, shaping), maximum, context.history.memory(name))
        for name, policy in spec.policies.items()
        if policy.post_demand
    }


def _need_without_latency(
    measured: Mapping[PolicyName, Recommendation], context: PolicyContext, spec: WorkloadSpec, maximum: float
) -> float:
    """Return the largest need without the replicas for late requests. The shaping policies shape the remaining demand.

    Example: 6 replicas are recommended, 2 of them for late requests, with a headroom of 20 %: 4 / (1 - 0.2) = 5.
    """
    measured_need = max(
        ((recommendation.need or 0.0) - (recommendation.latency_driven or 0.0) for recommendation in measured.values()),
        default=0.0,
    )
    shaped = _shaped(context, spec, measured_need, maximum)
    return max(measured_need, 0.0, *(recommendation.need or 0.0 for recommendation in shaped.values()))
