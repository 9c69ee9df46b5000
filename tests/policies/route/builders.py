"""A workload with a route, and a gateway that applies each decided split, tick by tick."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from policies.history.ticks import History
from policies.model import Absent, Decision, Fresh, Observation, PoolName, PoolStatus, Reading, WorkloadName
from policies.model.names import BackendName, RouteName
from policies.model.pool import Pool
from policies.model.route import BackendTraffic, RouteStatus
from policies.model.route_spec import Backend, Overflow, Provider, Route
from policies.model.spec import WorkloadSpec
from policies.pipeline import decide
from policies.recommend.peers.static import Static
from tests.factories import NOW, spec, tick_of

CHAT = RouteName("chat")
GPUS, OPENAI, DEEPINFRA = BackendName("gpus"), BackendName("openai"), BackendName("deepinfra")
CHEAP = Provider(usd_per_million_input_tokens=0.1, usd_per_million_output_tokens=0.4)
EXPENSIVE = Provider(usd_per_million_input_tokens=0.2, usd_per_million_output_tokens=0.8)
INTERVAL_S = 15.0


def route(
    providers: Mapping[BackendName, Provider] | None = None, route_class: type[Route] = Route, **settings: Any
) -> Route:
    """Return a route over the pool `main`. A replica carries 2 requests/s of 1,000 prompt and 500 output tokens."""
    providers = {OPENAI: CHEAP} if providers is None else providers
    defaults: dict[str, Any] = {
        "backends": {GPUS: Backend(pool=PoolName("main"))} | {n: Backend(provider=p) for n, p in providers.items()},
        "allow_external": True,
        "overflow": Overflow(max_usd_per_hour=1000.0),
        "requests_per_replica_per_s": 2.0,
        "input_tokens_per_request": 1000.0,
        "output_tokens_per_request": 500.0,
    }
    return route_class(**{**defaults, **settings})


class UnableToReject(Route):
    """A route whose gateway cannot answer 503 with Retry-After."""

    can_reject = False


def unable_to_reject(providers: Mapping[BackendName, Provider] | None = None, **settings: Any) -> Route:
    """Return such a route, else as `route` does."""
    return route(providers, UnableToReject, **settings)


def workload(settings: Route, replicas: int = 5, pools: Mapping[str, Pool] | None = None) -> WorkloadSpec:
    return spec({"size": Static(replicas=replicas)}, pools, routes={CHAT: settings}, min_replicas=0)


@dataclass
class Gateway:
    """A gateway before pools: each tick reads it, decides, and applies the split to the next requests."""

    spec: WorkloadSpec
    at: float = NOW
    status: RouteStatus = field(default_factory=lambda: RouteStatus({}))
    history: History = field(default_factory=History)

    def tick(
        self,
        requests_per_s: float | None,
        ready: int | Mapping[str, int] | Absent,
        *,
        desired: int | None = None,
        errors: Mapping[BackendName, float] | None = None,
        latencies_s: Mapping[BackendName, float] | None = None,
        reading: Reading[RouteStatus] | None = None,
        seconds: float = INTERVAL_S,
    ) -> Decision:
        """Run a tick in which the gateway received so many requests since the last one; None: it did not count."""
        self.at += seconds
        status = self.status
        if requests_per_s is not None:
            requests = requests_per_s * seconds
            shares = {name: status.share(name) for name in self.spec.routes[CHAT].backends}
            failed, late = errors or {}, latencies_s or {}
            traffic = {
                n: BackendTraffic(requests * s, requests * s * failed.get(n, 0.0), late.get(n) if s else None)
                for n, s in shares.items()
            }
            rejected = 0.0 if status.weights else requests
            status = dataclasses.replace(status, traffic=traffic, over_s=seconds, rejected=rejected)
        pools: dict[PoolName, Reading[PoolStatus]] = {
            PoolName(n): r if isinstance(r, Absent) else Fresh(PoolStatus(desired or r, r), self.at)
            for n, r in (ready.items() if isinstance(ready, Mapping) else (("main", ready),))
        }
        routes = {CHAT: Fresh(status, self.at) if reading is None else reading}
        observation = Observation(WorkloadName("llm"), self.at, {}, pools, routes=routes)
        decision = decide(self.spec, self.history, observation)
        self.history.append(tick_of(observation, decision))
        split = decision.routes[CHAT]
        if not split.is_kept:
            self.status = RouteStatus(split.weights, rejects=not split.weights)
        return decision

    def shares(self) -> dict[str, float]:
        """Return the applied share of each backend that gets requests."""
        return {name: w / 10_000 for name, w in self.status.weights.items() if w}


UNREAD = Absent("connection refused")
