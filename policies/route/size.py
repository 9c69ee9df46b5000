"""The size that the whole demand of a route needs, while providers take a part of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from policies.history.ticks import History
from policies.model import Evidence, Fresh, Observation, PolicyName, Recommendation
from policies.model.names import RouteName
from policies.model.route import RouteStatus
from policies.model.route_spec import Route
from policies.model.spec import WorkloadSpec
from policies.recommend.evaluate import Evaluated, largest
from policies.recommend.need_bounds import max_need
from policies.route.demand import demand_of


def with_routed_demand(
    evaluated: Evaluated, spec: WorkloadSpec, history: History, observation: Observation, current: int | None
) -> Evaluated:
    """Return the recommendations with those of routes that send requests elsewhere.

    The engines see only their part of the demand. Example: 3 engines are full with 3.0 of a demand of 4.2, and a
    provider takes the rest. The policies measure 3.0, and the route recommends 4.2.
    """
    routed = [
        recommendation
        for name, route in spec.routes.items()
        if (recommendation := _recommendation(name, route, history, observation, evaluated.recommendations)) is not None
    ]
    if not routed:
        return evaluated
    maximum = max_need(spec, current)
    routed = [r if r.replicas is None else dataclasses.replace(r, replicas=min(r.replicas, maximum)) for r in routed]
    needs = [r.replicas for r in routed if r.replicas is not None]
    without_latency = evaluated.need_without_latency
    return evaluated._replace(
        recommendations=(*evaluated.recommendations, *routed),
        winner=largest([*([] if evaluated.winner is None else [evaluated.winner]), *routed]),
        demand=max((*needs, *(() if evaluated.demand is None else (evaluated.demand,))), default=None),
        need_without_latency=None if without_latency is None else max(without_latency, *needs),
    )


def _recommendation(
    name: RouteName,
    route: Route,
    history: History,
    observation: Observation,
    recommendations: Iterable[Recommendation],
) -> Recommendation | None:
    """Return the recommendation of a route; None where all its requests reach the pools."""
    reading, last, policy = observation.routes.get(name), history.routes.get(name), PolicyName(f"route {name}")
    if not isinstance(reading, Fresh):
        rejects = last is not None and last.retry_after_s is not None
        diverted = rejects or (last is not None and _external(route, RouteStatus(last.weights)) > 0.0)
        reason = "the gateway could not be read, and providers may take requests"
        return Recommendation(policy, None, Evidence.BLIND, True, reason) if diverted else None
    status = reading.value
    external = _external(route, status)
    if not external and not status.rejects:
        return None
    demand = demand_of(route, status, recommendations)
    if demand.replicas is None or demand.requests_per_s is None:
        return Recommendation(policy, None, Evidence.BLIND, True, f"the demand is unknown: {demand.missing}")
    elsewhere = "are rejected" if status.rejects else "go to providers"
    share = 1.0 if status.rejects else external
    reason = f"{demand.requests_per_s:.1f} requests/s need {demand.replicas:.1f} replicas; {share:.0%} {elsewhere}"
    return Recommendation(policy, demand.replicas, Evidence.FULL, demand.requests_per_s > 0.0, reason)


def _external(route: Route, status: RouteStatus) -> float:
    return sum(status.share(name) for name in route.providers)
