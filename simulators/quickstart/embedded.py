"""The quickstart's cloud: a simulated world behind the daemon's own ports.

It runs in real time or faster. Sources and pools with the same world name share one
`simulators.quickstart.live_world.LiveWorld`: measured engines behind a queue or a gateway, endless traffic, replicas
with realistic start times.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from policies.model import Absent, Fresh, PoolName, PoolStatus, WorkloadName
from scaler.ports import Context
from simulators.quickstart.kinds import ENGINES, QUEUE, EmbeddedPool, EmbeddedSource
from simulators.quickstart.live_world import LiveWorld, warm_up
from simulators.world.world import World


async def open_embedded_source(spec: EmbeddedSource, context: Context) -> EmbeddedReader:
    """Open a source of an embedded world."""
    live = await _shared_world(context, spec.world, spec.seed)
    live.read(queued=spec.offers == "queue", traffic=spec.traffic)
    return EmbeddedReader(spec, live, context.slo_limits_s)


async def open_embedded_pool(
    spec: EmbeddedPool, context: Context, workload: WorkloadName, pool: PoolName
) -> EmbeddedActuator:
    """Open a pool.

    Raises `Misconfigured` if the world has started without it, or with another of its name.
    """
    live = await _shared_world(context, spec.world, spec.seed)
    live.add(pool, spec.offer, spec.initial_replicas)
    return EmbeddedActuator(live, pool)


async def _shared_world(context: Context, name: str, seed: int) -> LiveWorld:
    @asynccontextmanager
    async def begin() -> AsyncIterator[LiveWorld]:
        await asyncio.to_thread(warm_up)
        yield LiveWorld(name, context.clock, seed)

    return await context.shared(("embedded", name), begin)


class EmbeddedReader:
    """Source of an embedded world."""

    def __init__(self, spec: EmbeddedSource, live: LiveWorld, slo_limits_s: Mapping[str, float]) -> None:
        self.live = live
        self._slo_limits_s = slo_limits_s
        self._spec = spec

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        """Return readings of the queue's service or of the last scrape.

        While requests are rejected, the readings are lower bounds.
        """
        self.live.follow(self._spec.traffic)
        world = await self.live.present()
        readings = self._readings(world)
        if not self.live.full:
            return readings
        return {
            q: dataclasses.replace(r, missing=self.live.full) if isinstance(r, Fresh) else r
            for q, r in readings.items()
        }

    def _readings(self, world: World) -> dict[str, Fresh[float] | Absent]:
        if self._spec.offers == "engines":
            return world.engines.read(ENGINES, self._slo_limits_s)
        readings = world.queue_view.read(world.counts())
        return {quantity: readings[quantity] for quantity in QUEUE}


class EmbeddedActuator:
    """Actuator of a pool of an embedded world."""

    def __init__(self, live: LiveWorld, pool: PoolName) -> None:
        self.live = live
        self._pool = pool

    async def status(self) -> Fresh[PoolStatus]:
        world = await self.live.present()
        return Fresh(world.status(self._pool), world.now)

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        (await self.live.present()).resize(self._pool, replicas)
