"""The size that the whole demand of a route needs, while others take a part of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

from policies.history.ticks import History
from policies.model import Evidence, Fresh, Observation, PolicyName, Recommendation
from policies.model.names import RouteName
from policies.model.route import RouteDecision, RouteStatus
from policies.model.route_spec import Route
from policies.model.spec import WorkloadSpec
from policies.recommend.evaluate import Evaluated, largest
from policies.recommend.need_bounds import max_need
from policies.route.demand import demand_of
from policies.route.members import shifted_key
from policies.route.supply import max_supply


def with_routed_demand(
    evaluated: Evaluated, spec: WorkloadSpec, history: History, observation: Observation, current: int | None
) -> Evaluated:
    """Return the recommendations with those of routes that send requests elsewhere.

    The engines see only their part of the demand. Example: 3 engines are full with 3.0 of a demand of 4.2, and a
    provider takes the rest. The policies measure 3.0, and the route recommends 4.2.
    """
    routed = [
        recommendation
        for name in spec.routes
        if (recommendation := _recommendation(name, spec, history, observation, evaluated.recommendations)) is not None
    ]
    return with_recommendations(evaluated, routed, max_need(spec, current)) if routed else evaluated


def with_recommendations(evaluated: Evaluated, added: Iterable[Recommendation], maximum: float) -> Evaluated:
    """Return the recommendations with further ones, of at most `maximum` replicas each."""
    routed = [r if r.replicas is None else dataclasses.replace(r, replicas=min(r.replicas, maximum)) for r in added]
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
    spec: WorkloadSpec,
    history: History,
    observation: Observation,
    recommendations: Iterable[Recommendation],
) -> Recommendation | None:
    """Return the recommendation of a route; None where no requests are to come back."""
    route = spec.routes[name]
    reading, last, policy = observation.routes.get(name), history.routes.get(name), PolicyName(f"route {name}")
    if not isinstance(reading, Fresh):
        rejects = last is not None and last.retry_after_s is not None
        diverted = rejects or (last is not None and _outside(route, RouteStatus(last.weights)) > 0.0)
        reason = "the gateway could not be read, and others may take requests"
        return Recommendation(policy, None, Evidence.BLIND, True, reason) if diverted else None
    status = reading.value
    outside = _outside(route, status)
    if not outside and not status.rejects:
        return None
    demand = demand_of(route, status, recommendations)
    if demand.replicas is None or demand.requests_per_s is None:
        return Recommendation(policy, None, Evidence.BLIND, True, f"the demand is unknown: {demand.missing}")
    handed = 0.0
    if route.workloads and last is not None and demand.requests_per_s > 0.0:
        if unread := _unread_members(route, status, observation):
            reason = f"{unread} takes requests, and its state is unknown"
            return Recommendation(policy, None, Evidence.BLIND, True, reason)
        maximum = max_supply(spec, history, observation)
        shortage = 1.0 if maximum is None else max(0.0, 1.0 - maximum / demand.replicas)
        handed = _handed_share(route, status, last, demand.requests_per_s, shortage)
    if outside - handed < route.min_change / 2 and not status.rejects:
        return None
    elsewhere = "are rejected" if status.rejects else f"go to {_others(route)}"
    share, stays = 1.0 if status.rejects else outside - handed, f", {handed:.0%} stay there" if handed else ""
    replicas = demand.replicas * (1.0 - handed)
    reason = (
        f"{demand.requests_per_s:.1f} requests/s need {demand.replicas:.1f} replicas; {share:.0%} {elsewhere}{stays}"
    )
    return Recommendation(policy, replicas, Evidence.FULL, demand.requests_per_s > 0.0, reason)


def _outside(route: Route, status: RouteStatus) -> float:
    """Return the share of the requests that other workloads and providers get."""
    return sum(status.share(name) for name in (*route.providers, *route.workloads))


def _others(route: Route) -> str:
    """Return who may get requests instead of the pools."""
    kinds = {"other workloads": route.workloads, "providers": route.providers}
    return " and ".join(kind for kind, backends in kinds.items() if backends)


def _unread_members(route: Route, status: RouteStatus, observation: Observation) -> str:
    """Return the workloads that get requests and whose state is not known; empty for none."""
    used = [workload for name, workload in route.workloads.items() if status.share(name) > 0.0]
    return ", ".join(workload for workload in used if not isinstance(observation.members.get(workload), Fresh))


def _handed_share(
    route: Route, status: RouteStatus, last: RouteDecision, requests_per_s: float, shortage: float
) -> float:
    """Return the share of the requests for which other workloads have replicas.

    `shortage` is the share that the own pools cannot carry now. Only a lower price lets more of them stay elsewhere.
    """
    stay = {
        name: min(status.share(name), last.handed.get(workload, 0.0) / requests_per_s)
        for name, workload in route.workloads.items()
    }
    cheaper = sum(share for name, share in stay.items() if last.memory.get(shifted_key(name)))
    return cheaper + min(sum(stay.values()) - cheaper, shortage)
