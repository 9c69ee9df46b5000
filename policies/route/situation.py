"""The state of a route in one tick, from which its split is decided."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from policies.history.ticks import AT, History
from policies.model import Decision, Fresh, Observation, PoolName, PoolStatus
from policies.model.names import BackendName, RouteName, WorkloadName
from policies.model.route import RouteDecision, RouteStatus
from policies.model.route_spec import Route
from policies.model.spec import WorkloadSpec
from policies.route import supply
from policies.route.demand import RouteDemand, demand_of, own_need, tokens_of
from policies.route.ejection import BackendHealth
from policies.route.members import HOME_FILL, MemberOffer, Neighbours, handed_requests, shares_of
from policies.route.preference import Distance, distance_of, latency_ranks
from policies.route.providers import Market, market_of, usd_per_request

DEMAND, RISE = "demand", "demand_rise"
"""Keys of a route's memory: the demand in the last tick, and its rise since the one before. Replica equivalents."""
RISE_NOISE: Final = 1.5
"""Minimum of a rise over two ticks that goes on, as a multiple of the noise of a count: 3 standard deviations."""
LASTING_DEMAND: Final = "lasting_demand"
"""Key of a route's memory: the demand without the noise of single ticks. Replica equivalents."""
LASTING_S: Final = 60.0
"""Time constant of the lasting demand. Seconds."""
STEP_NOISE: Final = 2.5
"""Minimum of a step of the lasting demand, as a multiple of the noise of a count: 5 standard deviations."""


def rank_key(provider: BackendName) -> str:
    """Return the key of a route's memory with the rank of a provider."""
    return f"{provider}.rank"


@dataclass(frozen=True)
class Situation:
    """One route in one tick.

    It has the settings and the state of the route, its pools, and the sizes as decided.

    `last` is the split of the last tick, and `elapsed_s` the time since it.
    """

    spec: WorkloadSpec
    route: Route
    status: RouteStatus
    observation: Observation
    decision: Decision
    history: History
    last: RouteDecision | None
    elapsed_s: float

    @property
    def memory(self) -> Mapping[str, float]:
        """The memory of the last tick."""
        return {} if self.last is None else self.last.memory

    @cached_property
    def pools(self) -> Mapping[BackendName, PoolName]:
        return {name: b.pool for name, b in self.route.backends.items() if b.pool is not None}

    @cached_property
    def providers(self) -> frozenset[BackendName]:
        return frozenset(self.route.providers)

    @cached_property
    def health(self) -> Mapping[BackendName, BackendHealth]:
        status = self.status
        return {
            name: BackendHealth.from_memory(name, self.memory).after(
                status.traffic.get(name),
                self.elapsed_s,
                self.route,
                is_unhealthy=name in status.unhealthy,
                max_latency_s=self.max_latency_s if name in self.providers else None,
            )
            for name in self.route.backends
        }

    @property
    def max_latency_s(self) -> float | None:
        """The limit of a provider's latency; None for no limit.

        A pool has none: its latency rises with its load, which is the size's task.
        """
        slo = self.spec.slo
        return self.route.max_latency_s or (None if slo is None else slo.limits_s.get(self.route.latency_term))

    @cached_property
    def demand(self) -> RouteDemand:
        return demand_of(self.route, self.status, self.decision.recommendations)

    @cached_property
    def expected_demand(self) -> float | None:
        """The demand until the next tick, in replica equivalents; None where it is not known.

        A rise over two ticks goes on by the smaller of them, since the split acts in the tick after the measurement. A
        step is no rise over two ticks. Example: 1.7, 2.1 and 2.8 are followed by 3.2.
        """
        demand, rise = self.demand.replicas, self.rise
        steady_rise = min(rise, self.memory.get(RISE, 0.0))
        if demand is None or steady_rise <= RISE_NOISE * self.demand.noise * demand:
            return demand
        return demand + steady_rise

    @cached_property
    def rise(self) -> float:
        """The rise of the demand since the last tick; 0 where it is not known. Replica equivalents."""
        demand, before = self.demand.replicas, self.memory.get(DEMAND)
        return 0.0 if demand is None or before is None else demand - before

    @cached_property
    def lasting_demand(self) -> float | None:
        """The expected demand without the noise of single ticks; None where it is not known.

        In replica equivalents. It is a moving average that follows a step at once. Example: with a noise of 10 %, 4.0
        so far and 4.4 now are 4.0 + 15 / 60 * 0.4 = 4.1 after 15 s. A step to 6.0 is 2.0, which exceeds
        2.5 * 10 % * sqrt(4.0 * 6.0) = 1.2.
        """
        expected, before = self.expected_demand, self.memory.get(LASTING_DEMAND)
        if expected is None or before is None or expected != self.demand.replicas:
            return expected
        if abs(expected - before) > STEP_NOISE * self.demand.noise * math.sqrt(before * expected):
            return expected
        return before + min(1.0, self.elapsed_s / LASTING_S) * (expected - before)

    @cached_property
    def tokens(self) -> Mapping[str, float]:
        return tokens_of(self.route, self.spec, self.observation, self.memory, self.elapsed_s)

    @cached_property
    def market(self) -> Market:
        return market_of(self.route, self.demand.requests_per_s or 0.0, self.tokens, self.health, self.ranks)

    @cached_property
    def ranks(self) -> Mapping[BackendName, int]:
        """The rank of each provider, the preferred one first. Empty where only prices count."""
        if self.route.prefer == "locality":
            return {name: self.distance(name) for name in self.providers}
        if self.route.prefer == "cost":
            return {}
        before = {name: int(self.memory[key]) for name in self.providers if (key := rank_key(name)) in self.memory}
        usd = usd_per_request(self.route, self.tokens)
        latencies_s = {name: self.health[name].latency_s for name in usd}
        return latency_ranks(usd, latencies_s, self.max_latency_s or math.inf, before) if usd else before

    def region(self, name: BackendName) -> str | None:
        """Return the region of a backend; None where it is not known."""
        if name in self.route.workloads:
            status = self.neighbours.status(name)
            return None if status is None else status.region
        pool, provider = self.pools.get(name), self.route.backends[name].provider
        place = provider if pool is None else self.spec.pools[pool]
        region: str | None = None if place is None else place.region
        return region

    def distance(self, name: BackendName) -> Distance:
        """Return the distance of a backend. Without prefer: locality, all are near."""
        home = self.route.region if self.route.prefer == "locality" else None
        return Distance.NEAR if home is None else distance_of(home, self.region(name))

    @property
    def unread_pools(self) -> str:
        """The pools whose readiness is not known; empty for none."""
        unread = [p for p in self.pools.values() if not isinstance(self.observation.pools.get(p), Fresh)]
        return ", ".join(unread)

    def pool(self, name: BackendName) -> PoolStatus | None:
        """Return the status of the pool behind a backend; None where it was not read."""
        reading = self.observation.pools.get(self.pools[name])
        return reading.value if isinstance(reading, Fresh) else None

    @cached_property
    def emptied(self) -> frozenset[BackendName]:
        """The backends whose pool is resized to 0 in this tick."""
        return frozenset(
            name
            for name, pool in self.pools.items()
            if self.decision.targets.get(pool) == 0 and (status := self.pool(name)) is not None and status.desired > 0
        )

    @cached_property
    def ready(self) -> Mapping[BackendName, float]:
        """The ready capacity of each pool that has some and stays. Replica equivalents."""
        statuses = {name: self.pool(name) for name in self.pools if name not in self.emptied}
        return {
            name: status.ready * float(self.spec.pools[self.pools[name]].work_per_replica)
            for name, status in statuses.items()
            if status is not None and status.ready > 0
        }

    @cached_property
    def usable(self) -> Mapping[BackendName, float]:
        """The ready capacity without ejected pools, which give slowly more after their return."""
        usable = {name: ready * self.health[name].factor(self.route) for name, ready in self.ready.items()}
        return {name: capacity for name, capacity in usable.items() if capacity > 0.0}

    @property
    def capacity(self) -> Mapping[BackendName, float]:
        """The capacity by which pools share requests.

        Where all pools are ejected, every ready one counts.
        """
        return self.usable or self.ready

    @cached_property
    def by_distance(self) -> Mapping[Distance, Mapping[BackendName, float]]:
        """The capacity by distance, the nearest first. Distances without any are left out."""
        capacities: dict[Distance, dict[BackendName, float]] = {}
        for name in sorted(self.capacity, key=self.distance):
            capacities.setdefault(self.distance(name), {})[name] = self.capacity[name]
        return capacities

    @cached_property
    def applied(self) -> Mapping[BackendName, float]:
        """The share of each backend that the gateway applies now."""
        return {name: self.status.share(name) for name in {**self.route.backends, **self.status.weights}}

    @property
    def external(self) -> float:
        """The share that providers get now."""
        return sum(share for name, share in self.applied.items() if name in self.providers)

    @property
    def outside(self) -> float:
        """The share that does not reach the own pools now."""
        elsewhere = self.providers | self.route.workloads.keys()
        return sum(share for name, share in self.applied.items() if name in elsewhere)

    # --- other workloads of the group

    @cached_property
    def neighbours(self) -> Neighbours:
        route, rate = self.route, self.demand.requests_per_s or 0.0
        usd_per_hour = supply.next_usd_per_hour(self.spec, self.history, self.observation)
        service_s = self.demand.service_s
        return Neighbours(
            route,
            self.observation.members,
            None if usd_per_hour is None or service_s is None else usd_per_hour * service_s / 3600.0,
            {name: rate * self.status.share(name) for name in route.workloads},
            {name: self.health[name].factor(route) for name in route.workloads},
            self.memory,
            self.elapsed_s,
        )

    @cached_property
    def members(self) -> tuple[MemberOffer, ...]:
        """The other members that the route names, the preferred ones first."""
        workloads = self.route.workloads
        return self.neighbours.offers({name: self.distance(name) for name in workloads}) if workloads else ()

    @cached_property
    def proven_supply(self) -> float | None:
        """The capacity that the own pools can have; None where it is unknown. Replica equivalents."""
        return supply.proven_supply(self.spec, self.history, self.observation)

    @cached_property
    def shortage(self) -> float:
        """The demand that the own pools cannot carry; 0 where it is unknown. Replica equivalents."""
        demand, maximum = self.lasting_demand, self.proven_supply
        return 0.0 if demand is None or maximum is None else max(0.0, demand - maximum)

    @cached_property
    def handed(self) -> Mapping[WorkloadName, float]:
        """The requests per second that each other member is to have replicas for.

        They include what the own policies forecast beyond the own pools.
        """
        demand, service_s = self.lasting_demand, self.demand.service_s
        last = {} if self.last is None else self.last.handed
        if not self.members or self.spec.paused or demand is None or service_s is None or self.proven_supply is None:
            return last
        need = own_need(self.spec, self.decision.recommendations) or 0.0
        shortage = max(self.shortage, need - self.proven_supply, 0.0)
        movable = max(0.0, demand - HOME_FILL * self.spec.min_replicas)
        return handed_requests(self.members, shortage / service_s, movable / service_s, last)

    def member_shares(self, wanted: float) -> dict[BackendName, float]:
        """Return the share of each other member, for a `wanted` share of all requests."""
        return shares_of(self.members, self.demand.requests_per_s, wanted)

    @property
    def handed_share(self) -> float:
        """The share of all requests that other members are to carry now."""
        rate, service_s = self.demand.requests_per_s, self.demand.service_s
        if not rate or not service_s:
            return 0.0
        cheaper = sum(self.handed.get(offer.workload, 0.0) for offer in self.members if offer.is_cheaper)
        short = min(sum(self.handed.values()) - cheaper, self.shortage / service_s)
        return min(1.0, (cheaper + short) / rate)


def situation_of(
    spec: WorkloadSpec, history: History, observation: Observation, decision: Decision, name: RouteName
) -> Situation | None:
    """Return the state of a route; None where its gateway could not be read."""
    reading, last = observation.routes.get(name), history.routes.get(name)
    if not isinstance(reading, Fresh):
        return None
    times = history.column(AT)
    elapsed_s = max(0.0, observation.at - float(times[-1])) if len(times) else 0.0
    return Situation(spec, spec.routes[name], reading.value, observation, decision, history, last, elapsed_s)
