"""The recommendations of all policies in one tick, and the winner."""

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

    - `winner`: the recommendation with the largest need; None where no policy states one.
    - `demand`: the largest need of the policies that measure demand.
    - `full_reason`: why the size may not fall, because the ready replicas are full; empty where it may.
    - `need_without_latency`: the largest need without replicas that are recommended because users wait; None where none
      are.
    """

    recommendations: tuple[Recommendation, ...]
    winner: Recommendation | None
    demand: float | None
    full_reason: str
    need_without_latency: float | None


def evaluate(
    spec: WorkloadSpec, history: History, observation: Observation, ready: int | None, current: int | None
) -> Evaluated:
    """Evaluate the policies that measure demand, then those that shape it.

    No need exceeds `max_need`, so that the configured and observed sizes bound the cost of the stages that follow.
    """
    at, readings, pools = observation.at, observation.readings, observation.pools
    budget, slo = observation.error_budget, spec.slo
    if budget is not None:
        budget = None if slo is None else budget.under(slo.share, slo.limits_s, slo.window_s)
    context = PolicyContext(at, readings, ready, current, None, history, spec.min_replicas, pools, spec, budget)
    maximum = max_need(spec, current)
    measured = {
        n: bounded_recommendation(p.recommend(n, context), maximum, history.memory(n))
        for n, p in spec.policies.items()
        if not p.post_demand
    }
    missing, full_reason = readiness.not_ready(spec, history, observation, ready), ""
    if missing is not None:
        measured, full_reason = readiness.with_lost_replicas(measured, missing, context, spec)
    winner = largest(measured.values())
    demand = None if winner is None else winner.need
    by_policy = {**measured, **_shaped(context, spec, demand, maximum)}
    recommendations = tuple(by_policy[n] for n in spec.policies)
    without_latency = None
    if any(r.latency_driven for r in recommendations):
        without_latency = _need_without_latency(measured, context, spec, maximum)
    return Evaluated(recommendations, largest(recommendations), demand, full_reason, without_latency)


def largest(recommendations: Iterable[Recommendation]) -> Recommendation | None:
    """Return the first recommendation with the largest need; None where no policy states one."""
    winner, maximum = None, -math.inf
    for recommendation in recommendations:
        need = recommendation.need
        if need is not None and need > maximum:
            winner, maximum = recommendation, need
    return winner


def _shaped(
    context: PolicyContext, spec: WorkloadSpec, demand: float | None, maximum: float
) -> dict[PolicyName, Recommendation]:
    """Return the recommendations of the post-demand policies for a demand."""
    policies = {n: p for n, p in spec.policies.items() if p.post_demand}
    if not policies:
        return {}
    post_demand = dataclasses.replace(context, demand=demand)
    return {
        n: bounded_recommendation(p.recommend(n, post_demand), maximum, context.history.memory(n))
        for n, p in policies.items()
    }


def _need_without_latency(
    measured: Mapping[PolicyName, Recommendation], context: PolicyContext, spec: WorkloadSpec, maximum: float
) -> float:
    """Return the largest need without replicas that are recommended because users wait.

    Example: 6 replicas, of which 2 because users wait, and a headroom of 20 %: 4 are measured, and 5 needed.
    """
    demand = max(((r.need or 0.0) - (r.latency_driven or 0.0) for r in measured.values()), default=0.0)
    shaped = _shaped(context, spec, demand, maximum)
    return max(demand, 0.0, *(r.need or 0.0 for r in shaped.values()))
