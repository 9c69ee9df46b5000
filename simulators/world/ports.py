"""The daemon's ports over a simulated world: the same controller runs here and in a cluster.

A workload is written for live sources and pools. Here each source reads the world as its kind would (a queue's counts,
or the engines' scraped metrics), and each pool is the scenario's pool of the same name.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from policies.model import Absent, Fresh, PoolName, PoolStatus
from policies.model.names import BackendName, RouteName
from policies.model.route import RouteDecision, RouteStatus
from policies.model.route_spec import Route
from scaler.clouds.lock_queue import LockQueue
from scaler.config.load import Workload
from scaler.ports import Actuator, RouteActuator, Source
from scaler.registry import kind_of
from scaler.setup import Setup
from simulators.engine.models.service import PS_PER_S
from simulators.world import queue, telemetry
from simulators.world.infrastructure.node_lifecycle import Tier
from simulators.world.routing.gateway import Backends, Gateway
from simulators.world.routing.provider import SimulatedProvider
from simulators.world.world import World

QUEUES: Final = {"pubsub": "pubsub", "service_bus": "service_bus", "sqs": "sqs"}
"""Kinds of source that read a queue, and the queue service of each."""
ENGINES: Final = frozenset({"prometheus", "scrape"})
"""Kinds of source that read the engines' metrics."""


class SimulatedClock:
    """The clock of a world. A sleep runs the world."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> float:
        return self._world.now

    async def sleep_until(self, t: float) -> None:
        self._world.run_until(round((t - self._world.epoch_s) * PS_PER_S))

    def step_s(self) -> float:
        return 0.0


class QueueSource:
    """Source of a queue's counts, as its service reports them."""

    def __init__(self, world: World, names: Mapping[str, str]) -> None:
        self._world = world
        self._names = names

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        readings = self._world.queue_view.read(self._world.counts())
        return {quantity: readings[name] for quantity, name in self._names.items()}


class EngineSource:
    """Source of the engines' metrics, as last scraped."""

    def __init__(self, world: World, names: Mapping[str, str], slo_limits_s: Mapping[str, float]) -> None:
        self._world = world
        self._names = names
        self._slo_limits_s = slo_limits_s
        self._quantities = tuple(dict.fromkeys(names.values()))

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        readings = self._world.engines.read(self._quantities, self._slo_limits_s)
        return {quantity: readings[name] for quantity, name in self._names.items()}


class SimulatedPool:
    """Actuator of a pool of the world."""

    def __init__(self, world: World, name: PoolName) -> None:
        self._world = world
        self._name = name

    async def status(self) -> Fresh[PoolStatus]:
        return Fresh(self._world.status(self._name), self._world.now)

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        self._world.resize(self._name, replicas)


class LockedPool(SimulatedPool):
    """Actuator of a pool whose updates hold a lock.

    Pools with the same lock take turns, as those of the live adapters do.
    """

    def __init__(self, world: World, name: PoolName, queue: LockQueue) -> None:
        super().__init__(world, name)
        self._queue = queue
        self._asked = False

    async def status(self) -> Fresh[PoolStatus]:
        if not self._asked:
            self._queue.withdraw(self._name)
        self._asked = False
        return await super().status()

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        self._asked = True
        async with self._queue.turn(self._name):
            await super().resize(replicas, observed)


class SimulatedTier:
    """Actuator of a headroom tier of one of the world's pools.

    Its replicas are the tier's resting nodes.
    """

    def __init__(self, world: World, pool: PoolName, tier: Tier) -> None:
        self._world = world
        self._pool, self._tier = pool, tier

    async def status(self) -> Fresh[PoolStatus]:
        return Fresh(self._world.headroom_status(self._pool, self._tier), self._world.now)

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        self._world.resize_headroom(self._pool, self._tier, replicas)


class SimulatedRoute:
    """Actuator of the world's gateway."""

    def __init__(self, world: World, gateway: Gateway, route: Route) -> None:
        self._world = world
        self._gateway = gateway
        self._route = route

    async def status(self) -> Fresh[RouteStatus]:
        world = self._world
        return Fresh(self._gateway.status(world.now, self._route), world.now)

    async def apply(self, split: RouteDecision, observed: RouteStatus) -> None:
        self._gateway.apply(split)


def setup(world: World, workload: Workload, pools: Mapping[PoolName, PoolName], names: Mapping[str, str]) -> Setup:
    """Return a workload's adapters in a world.

    `pools` and `names` map its pools and quantities to the world's.
    """
    sources: dict[str, Source] = {}
    for name, spec in workload.spec.sources.items():
        world_names = {q: names.get(q, q) for q in spec.quantities()}
        if kind_of("source", spec) in QUEUES:
            sources[name] = QueueSource(world, world_names)
        else:
            sources[name] = EngineSource(world, world_names, workload.spec.slo_limits_s)
    actuators: dict[PoolName, Actuator] = {}
    queues: dict[str, LockQueue] = {}
    for name, pool in workload.spec.pools.items():
        updates = world.pools[pools[name]].offer.updates
        if pool.tier == "serving" and updates is not None:
            lock = updates.lock or f"pool {pools[name]}"
            queue = queues.setdefault(lock, LockQueue(SimulatedClock(world), lock))
            actuators[name] = LockedPool(world, pools[name], queue)
        elif pool.tier == "serving":
            actuators[name] = SimulatedPool(world, pools[name])
        else:
            actuators[name] = SimulatedTier(world, pools[name], Tier(pool.tier))
    routes: dict[RouteName, RouteActuator] = {}
    if world.gateway is not None:
        routes = {name: SimulatedRoute(world, world.gateway, route) for name, route in workload.spec.routes.items()}
    return Setup(workload, sources, actuators, ports_may_wait=False, routes=routes)


def backends(
    workload: Workload, pools: Mapping[PoolName, PoolName], providers: Mapping[BackendName, SimulatedProvider]
) -> Backends | None:
    """Return the backends of a workload's route in a world; None without a route."""
    for route in workload.spec.routes.values():
        names = {name: backend.pool for name, backend in route.backends.items()}
        routed = {name: pools[pool] for name, pool in names.items() if pool is not None}
        used = {name: provider for name, provider in providers.items() if name in names}
        return Backends(routed, used, route.zero_replicas == "hold", route.workloads)
    return None


def unsupported_routes(
    workload: Workload, providers: Iterable[BackendName], *, has_queue: bool
) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Yield what no world provides of a workload's routes.

    Each is (key, rule broken, hint).
    """
    routes, known = workload.spec.routes, set(providers)
    if len(routes) > 1:
        yield ("routes",), f"has {len(routes)} routes, but a simulated workload has one gateway", "keep one of them"
    if routes and has_queue:
        yield ("routes",), "splits requests, but the scenario's queue holds them", "remove the queue or the routes"
    for name, route in routes.items():
        for backend in route.providers:
            if backend not in known:
                rule = f"{backend} is not a provider of the scenario"
                hint = f"add {backend} to providers of the scenario, with its prices"
                yield ("routes", name, "backends", backend), rule, hint


def unsupported_readings(workload: Workload, names: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Yield the sources and readings of a workload that no world provides.

    Each is (key, rule broken, hint).
    """
    for name, spec in workload.spec.sources.items():
        kind = kind_of("source", spec)
        if kind not in QUEUES and kind not in ENGINES:
            known = ", ".join(sorted((*QUEUES, *ENGINES)))
            yield ("sources", name, "kind"), f"{kind} cannot be simulated", f"the simulated kinds are {known}"
            continue
        provided = queue.QUANTITIES if kind in QUEUES else tuple(telemetry.QUANTITIES)
        for quantity in spec.quantities():
            name_in_world = names.get(quantity, quantity)
            if name_in_world not in provided:
                shown = quantity if name_in_world == quantity else f"{name_in_world} (for {quantity})"
                rule = f"the simulator does not provide {shown}; it provides {', '.join(provided)}"
                yield ("sources", name), rule, "map it to one of these in quantities of the scenario"
