"""Two workloads of a group, each with its own users, gateway and pool, in a world of flows.

Engines report the requests that they get, averaged over 60 s. A requested replica serves after 60 s, if the platform
has one.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from policies.history.ticks import History
from policies.model import (
    Decision,
    Fresh,
    Observation,
    PolicyName,
    PoolName,
    PoolStatus,
    Shortfall,
    SignalName,
    WorkloadName,
)
from policies.model.names import BackendName, RouteName
from policies.model.pool import Pool
from policies.model.route import BackendTraffic, RouteStatus
from policies.model.route_spec import Backend, Route
from policies.model.spec import ScaleDown, WorkloadSpec
from policies.pipeline import decide
from policies.recommend.threshold import Metric
from policies.route.group import member_status
from scaler.group_board import GroupBoard
from tests.factories import FREE_UP, NOW, tick_of

EU, US = WorkloadName("eu"), WorkloadName("us")
GPUS, OTHER = BackendName("gpus"), BackendName("other")
MAIN, FRONT = PoolName("main"), RouteName("front")
INTERVAL_S = 15.0
START_TICKS = 4
PER_REPLICA = 2.0
"""Requests per second that a replica carries."""


def member(name: WorkloadName, other: WorkloadName, **settings: Any) -> WorkloadSpec:
    """Return a member whose route also names the other one. `pools_price` is the price of a replica."""
    route = Route(
        backends={GPUS: Backend(pool=MAIN), OTHER: Backend(workload=other)},
        requests_per_replica_per_s=PER_REPLICA,
        **settings.pop("route", {}),
    )
    load = {PolicyName("load"): Metric(source="engines", quantity="requests_per_s", target=PER_REPLICA)}
    defaults: dict[str, Any] = {
        "policies": load,
        "max_replicas": 20,
        "scale_up": FREE_UP,
        "scale_down": ScaleDown(window_s=120.0),
    }
    return WorkloadSpec(
        workload=name,
        group="llama",
        sources={},
        pools={MAIN: Pool(price_usd_per_hour=settings.pop("pools_price", None))},
        routes={FRONT: route},
        **{**defaults, **settings},
    )


@dataclass
class Member:
    """A member with its world."""

    spec: WorkloadSpec
    desired: int = 1
    starting: deque[int] = field(default_factory=lambda: deque([0] * START_TICKS))
    ready: int = 1
    stock: int = 1000
    refused_at: float = 0.0
    users: float = 0.0
    loads: deque[float] = field(default_factory=lambda: deque(maxlen=4))
    status: RouteStatus = field(default_factory=lambda: RouteStatus({GPUS: 10_000}))
    history: History = field(default_factory=History)
    decision: Decision | None = None
    is_silent: bool = False

    @property
    def name(self) -> WorkloadName:
        return WorkloadName(self.spec.workload)

    @property
    def share(self) -> float:
        """The share of its users' requests that the other member gets."""
        return self.status.share(OTHER)

    def advance(self, at: float) -> None:
        """Let replicas become ready, as far as the platform has them, and drop those that are no longer desired."""
        granted = min(self.desired, self.stock)
        self.starting.append(max(0, granted - self.ready - sum(self.starting)))
        self.ready = min(granted, self.ready + self.starting.popleft())
        if self.desired > self.stock and not self.refused_at:
            self.refused_at = at
        if self.desired <= self.stock:
            self.refused_at = 0.0

    def pool(self) -> PoolStatus:
        failed = max(0, self.desired - self.stock)
        shortfall = Shortfall(self.refused_at, "no capacity") if failed else None
        return PoolStatus(self.desired, self.ready, failed=failed, shortfall=shortfall)


@dataclass
class Group:
    """Two members and the board between them. `late` are the requests per second beyond ready capacity, by tick."""

    eu: Member
    us: Member
    at: float = NOW
    board: GroupBoard = field(default_factory=GroupBoard)
    late: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        for each in (self.eu, self.us):
            self.board.register(each.name, each.spec)

    def run(self, ticks: int, eu: float, us: float) -> None:
        """Run ticks in which the users of both members send so many requests per second."""
        self.eu.users, self.us.users = eu, us
        for _ in range(ticks):
            self.at += INTERVAL_S
            loads = self._loads()
            self.late.append(sum(max(0.0, load - m.ready * PER_REPLICA) for m, load in loads))
            for m, load in loads:
                m.loads.append(load)
                m.advance(self.at)
            for m in (self.eu, self.us):
                if not m.is_silent:
                    self._tick(m)

    def observation(self, name: WorkloadName) -> Observation:
        """Return an empty observation of now."""
        return Observation(name, self.at, {}, {})

    def set_price(self, name: WorkloadName, price: float) -> None:
        """Change the price of a member's replicas."""
        m = self.eu if name == EU else self.us
        m.spec = dataclasses.replace(m.spec, pools={MAIN: Pool(price_usd_per_hour=price)})

    def _loads(self) -> list[tuple[Member, float]]:
        to_us, to_eu = self.eu.users * self.eu.share, self.us.users * self.us.share
        return [(self.eu, self.eu.users - to_us + to_eu), (self.us, self.us.users - to_eu + to_us)]

    def _tick(self, m: Member) -> None:
        requests = m.users * INTERVAL_S
        traffic = {name: BackendTraffic(requests * m.status.share(name)) for name in (GPUS, OTHER)}
        status = RouteStatus(m.status.weights, traffic, INTERVAL_S)
        load = Fresh(sum(m.loads) / len(m.loads), self.at)
        observation = Observation(
            m.name,
            self.at,
            {SignalName("engines.requests_per_s"): load},
            {MAIN: Fresh(m.pool(), self.at)},
            routes={FRONT: Fresh(status, self.at)},
        )
        observation = self.board.with_members(m.name, observation)
        m.decision = decide(m.spec, m.history, observation)
        self.board.publish(m.name, member_status(m.spec, m.history, observation, m.decision), self.at)
        m.history.append(tick_of(observation, m.decision))
        m.desired = m.decision.targets.get(MAIN, m.desired)
        split = m.decision.routes[FRONT]
        if not split.is_kept:
            m.status = RouteStatus(split.weights)


def group(eu: Mapping[str, Any] | None = None, us: Mapping[str, Any] | None = None) -> Group:
    """Return a group of two members with these settings."""
    return Group(Member(member(EU, US, **(eu or {}))), Member(member(US, EU, **(us or {}))))
