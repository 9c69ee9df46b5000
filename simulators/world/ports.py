"""The daemon's ports over a world: the same controller runs here and in a cluster.

A workload is written for live sources and pools. Here each source is seen as its kind would show this world (a queue's
counts, or the engines' metrics as scraped), and each pool is the one of the same name in the scenario.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from policies.model import Absent, Fresh, PoolName, PoolStatus
from policies.recommend.predictive.latency_model import slo_limits_s
from scaler.config.load import Workload
from scaler.controller import Setup
from scaler.ports import Actuator, Source
from scaler.registry import kind_of
from simulators.engine.models.service import PS_PER_S
from simulators.world import queue, telemetry
from simulators.world.infrastructure.node_lifecycle import Tier
from simulators.world.world import World

QUEUES: Final = {"pubsub": "pubsub", "service_bus": "service_bus", "sqs": "sqs"}
"""Kinds of source that read a queue, and the service whose counts they show."""
ENGINES: Final = frozenset({"prometheus", "scrape"})
"""Kinds of source that read the engines' metrics."""


class SimulatedClock:
    """A world's time. To sleep is to let the world run."""

    def __init__(self, world: World) -> None:
        self._world = world

    def now(self) -> float:
        return self._world.now

    async def sleep_until(self, t: float) -> None:
        self._world.run_until(round((t - self._world.epoch_s) * PS_PER_S))

    def step_s(self) -> float:
        return 0.0


class QueueSource:
    """A queue's counts, as its service shows them."""

    def __init__(self, world: World, names: Mapping[str, str]) -> None:
        self._world = world
        self._names = names

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        found = self._world.view.read(self._world.counts())
        return {quantity: found[name] for quantity, name in self._names.items()}


class EngineSource:
    """The engines' metrics, as last scraped."""

    def __init__(self, world: World, names: Mapping[str, str], slo_limits_s: Mapping[str, float]) -> None:
        self._world = world
        self._names = names
        self._promised_s = slo_limits_s
        self._asked = tuple(dict.fromkeys(names.values()))

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        found = self._world.engines.read(self._asked, self._promised_s)
        return {quantity: found[name] for quantity, name in self._names.items()}


class SimulatedPool:
    """A pool of the world."""

    def __init__(self, world: World, name: PoolName) -> None:
        self._world = world
        self._name = name

    async def status(self) -> Fresh[PoolStatus]:
        return Fresh(self._world.status(self._name), self._world.now)

    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        self._world.resize(self._name, replicas)


class SimulatedTier:
    """A tier of headroom of one of the world's pools: its replicas are nodes at rest."""

    def __init__(self, world: World, pool: PoolName, tier: Tier) -> None:
        self._world = world
        self._pool, self._tier = pool, tier

    async def status(self) -> Fresh[PoolStatus]:
        return Fresh(self._world.resting(self._pool, self._tier), self._world.now)

    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        self._world.rest(self._pool, self._tier, replicas)


def setup(world: World, workload: Workload, pools: Mapping[PoolName, PoolName], names: Mapping[str, str]) -> Setup:
    """Return a workload's adapters in a world.

    `pools` maps its pools to the world's, `names` its quantities likewise.
    """
    sources: dict[str, Source] = {}
    for name, spec in workload.spec.sources.items():
        told = {q: names.get(q, q) for q in spec.quantities()}
        if kind_of("source", spec) in QUEUES:
            sources[name] = QueueSource(world, told)
        else:
            sources[name] = EngineSource(world, told, slo_limits_s(workload.spec))
    actuators: dict[PoolName, Actuator] = {}
    for name, pool in workload.spec.pools.items():
        if pool.tier == "serving":
            actuators[name] = SimulatedPool(world, pools[name])
        else:
            actuators[name] = SimulatedTier(world, pools[name], Tier(pool.tier))
    return Setup(workload, sources, actuators, ports_may_wait=False)


def untold(workload: Workload, names: Mapping[str, str]) -> Iterator[tuple[tuple[str, ...], str, str]]:
    """Yield the readings of a workload that no world provides, as (key, rule broken, hint)."""
    for name, spec in workload.spec.sources.items():
        kind = kind_of("source", spec)
        if kind not in QUEUES and kind not in ENGINES:
            known = ", ".join(sorted((*QUEUES, *ENGINES)))
            yield ("sources", name, "kind"), f"{kind} has no simulated counterpart", f"those that have: {known}"
            continue
        told = queue.QUANTITIES if kind in QUEUES else tuple(telemetry.QUANTITIES)
        for quantity in spec.quantities():
            found = names.get(quantity, quantity)
            if found not in told:
                what = quantity if found == quantity else f"{found} (for {quantity})"
                rule = f"the simulator does not tell {what}; it tells {', '.join(told)}"
                yield ("sources", name), rule, "map it to one of these under the scenario's quantities"
