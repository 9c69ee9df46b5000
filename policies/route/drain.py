"""The order of a scale-in to zero: weight 0, then drain, then size."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from policies.allocate import allocator
from policies.model import Decision, Fresh, Observation, PoolName, RuleId, Step
from policies.model.names import RouteName
from policies.model.route import RouteDecision, RouteStatus
from policies.model.route_spec import Route
from policies.model.spec import WorkloadSpec
from policies.route.situation import Situation
from policies.signals.demand import replica_equivalents


def drain_key(pool: PoolName) -> str:
    """Return the key of a route's memory with the remaining drain time of a pool. Seconds."""
    return f"pool {pool}.drain_s"


def _drain_s(route: Route, status: RouteStatus) -> float:
    """Return the time from a weight of 0 to the end of the last request. Seconds.

    Example: 60 s for requests to end, after 30 s in which clients still resolve a name to the pool, are 90 s.
    """
    return route.drain_s + status.settle_s


def drain_memory(situation: Situation) -> dict[str, float]:
    """Return the remaining drain time of each pool that is resized to 0.

    It runs from the write of a weight of 0, which a later tick must show. A gateway that holds requests keeps the
    weight of its last pool, and no drain is needed.
    """
    if situation.route.zero_replicas == "hold" and not situation.ready:
        return {}
    remaining: dict[str, float] = {}
    drain_s = _drain_s(situation.route, situation.status)
    for name in situation.emptied:
        key = drain_key(situation.pools[name])
        before_s = situation.memory.get(key, drain_s)
        is_used = situation.status.weights.get(name, 0) > 0
        waited_s = situation.elapsed_s if key in situation.memory else 0.0
        remaining[key] = drain_s if is_used else max(0.0, before_s - waited_s)
    return remaining


def with_drained_pools(
    spec: WorkloadSpec, observation: Observation, decision: Decision, routes: Mapping[RouteName, RouteDecision]
) -> Decision:
    """Return the decision in which a pool keeps its size until it is drained.

    No route may send it requests, and `drain_s` must have passed since the last ones.
    """
    kept: dict[PoolName, int] = {}
    steps: list[Step] = []
    for name, route in spec.routes.items():
        for pool in (b.pool for b in route.backends.values() if b.pool is not None):
            reading = observation.pools.get(pool)
            if decision.targets.get(pool) != 0 or not isinstance(reading, Fresh) or not reading.value.desired:
                continue
            status = observation.routes.get(name)
            drain_s = _drain_s(route, status.value) if isinstance(status, Fresh) else route.drain_s
            remaining_s = routes[name].memory.get(drain_key(pool), 0.0) if isinstance(status, Fresh) else drain_s
            if remaining_s > 0.0:
                kept[pool] = reading.value.desired
                reason = f"pool {pool} keeps {reading.value.desired} until route {name} has sent it nothing for"
                size = None if decision.target is None else float(decision.target)
                steps.append(Step(RuleId.ROUTE_DRAIN, size, f"{reason} {drain_s:.0f} s"))
    if not kept:
        return decision
    targets = {**decision.targets, **kept}
    target = None if decision.target is None else decision.target + replica_equivalents(spec, kept)
    cost = allocator.cost_usd_per_hour(spec, observation.pools, targets, decision.abandoned)
    return dataclasses.replace(
        decision, targets=targets, target=target, cost_usd_per_hour=cost, steps=(*decision.steps, *steps)
    )
