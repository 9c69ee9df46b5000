"""The quickstart's cloud: the simulator's world behind the daemon's own ports, in real time or faster.

Sources and pools of one world's name meet in one `simulators.quickstart.live_world.LiveWorld`: measured engines behind
a queue or a gateway, traffic without end, replicas that take their time to start.
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
    """Open a side of an embedded world."""
    live = await _live(context, spec.world, spec.seed)
    live.read(queued=spec.offers == "queue", traffic=spec.traffic)
    return EmbeddedReader(spec, live, context.promised_s)


async def open_embedded_pool(
    spec: EmbeddedPool, context: Context, workload: WorkloadName, pool: PoolName
) -> EmbeddedResizer:
    """Open a pool. Raises `Misconfigured` where the world has begun without it, or with another of its name."""
    live = await _live(context, spec.world, spec.seed)
    live.add(pool, spec.offer, spec.initial_replicas)
    return EmbeddedResizer(live, pool)


async def _live(context: Context, name: str, seed: int) -> LiveWorld:
    @asynccontextmanager
    async def begin() -> AsyncIterator[LiveWorld]:
        await asyncio.to_thread(warm_up)
        yield LiveWorld(name, context.clock, seed)

    return await context.shared(("embedded", name), begin)


class EmbeddedReader:
    """The source's port."""

    def __init__(self, spec: EmbeddedSource, live: LiveWorld, promised_s: Mapping[str, float]) -> None:
        self.live = live
        self._promised_s = promised_s
        self._spec = spec

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        """Return what the queue's service, or the last scrape, tells.

        A lower bound while the world turns requests away.
        """
        self.live.follow(self._spec.traffic)
        world = await self.live.present()
        found = self._look(world)
        if not self.live.full:
            return found
        return {
            q: dataclasses.replace(r, missing=self.live.full) if isinstance(r, Fresh) else r for q, r in found.items()
        }

    def _look(self, world: World) -> dict[str, Fresh[float] | Absent]:
        if self._spec.offers == "engines":
            return world.engines.read(ENGINES, self._promised_s)
        told = world.queue_view.read(world.counts())
        return {quantity: told[quantity] for quantity in QUEUE}


class EmbeddedResizer:
    """The actuator's port."""

    def __init__(self, live: LiveWorld, pool: PoolName) -> None:
        self.live = live
        self._pool = pool

    async def status(self) -> Fresh[PoolStatus]:
        world = await self.live.present()
        return Fresh(world.status(self._pool), world.now)

    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        (await self.live.present()).resize(self._pool, replicas)
