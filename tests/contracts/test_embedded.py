"""Contracts of the embedded world's queue, engines and pool, with the faults of real services."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import ClassVar, Literal

import numpy as np

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.ports import Actuator, Clock, Source
from scaler.shared_resources import AdapterContext
from simulators.quickstart.embedded import open_embedded_source
from simulators.quickstart.kinds import EmbeddedPool, EmbeddedSource, Traffic
from simulators.world.faults import Fault, FaultInjector, FaultSettings, FaultyActuator, FaultySource
from simulators.world.traffic.trace import RequestTrace
from tests.contracts.actuator import ActuatorContract, ActuatorRig
from tests.contracts.source import SourceContract, SourceRig
from tests.factories import NOW
from tests.fakes import ManualClock

MAIN = PoolName("main")
QUIET = Traffic(mean_rps=0.0)
START_UP_S = 60.0
SCRAPE_S = 15.0


class FaultRig:
    """The faults of both rigs: the one in the list applies to every call."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self._faults: list[FaultSettings] = []
        self.injector = FaultInjector(self._faults, clock, NOW, np.random.default_rng(1))

    def inject(self, fault: Fault) -> None:
        self._faults[:] = [FaultSettings(fault=fault, share=1.0)]

    async def garble(self) -> None:
        self.inject("garble")

    async def hang(self) -> None:
        self.inject("hang")

    async def refuse(self) -> None:
        self.inject("unavailable")

    async def throttle(self) -> None:
        self.inject("throttled")

    async def forbid(self) -> None:
        self.inject("misconfigured")

    async def recover(self) -> None:
        self._faults.clear()


class EmbeddedSourceRig(FaultRig, SourceRig):
    """A world without its own traffic, and one pool, so that `answer` sets the reading."""

    offers: ClassVar[Literal["queue", "engines"]]

    async def open(self, context: AdapterContext) -> Source:
        pool = EmbeddedPool(initial_replicas=1, start_up_s=START_UP_S, start_up_sigma=0.0)
        self.pool = await open_pool(pool, context, WorkloadName("llm"), MAIN)
        source = await open_embedded_source(EmbeddedSource(offers=self.offers, traffic=QUIET), context)
        self.live = source.live
        return FaultySource(source, self.injector)

    async def resize(self, replicas: int) -> None:
        await self.pool.resize(replicas, (await self.pool.status()).value)

    async def finish(self) -> None:
        """Let the only replica serve all requests."""
        while (await self.live.present()).kernel.unfinished():
            self.clock.advance(SCRAPE_S)

    async def send(self, requests: int, output_tokens: int) -> None:
        """Send this many requests now."""
        world = await self.live.present()
        lengths = np.full(requests, output_tokens)
        world.offer(RequestTrace(np.zeros(requests), np.full(requests, 100), lengths), since_ps=world.now_ps)

    @abstractmethod
    async def answer(self, value: float) -> None: ...


class QueueRig(EmbeddedSourceRig):
    quantity = "visible"
    offers = "queue"

    async def answer(self, value: float) -> None:
        """Send this many messages without a replica to serve them."""
        await self.resize(1)
        await self.finish()
        await self.resize(0)
        await self.send(int(value), output_tokens=10)
        self.clock.advance(1.0)


class EnginesRig(EmbeddedSourceRig):
    quantity = "running"
    offers = "engines"

    async def answer(self, value: float) -> None:
        """Send this many requests that run for minutes, then scrape."""
        await self.finish()
        await self.send(int(value), output_tokens=20_000)
        self.clock.advance(SCRAPE_S + 1.0)


class EmbeddedSourceContract(SourceContract):
    make: ClassVar[type[EmbeddedSourceRig]]

    def clock(self) -> Clock:
        return self._clock

    def setup_method(self) -> None:
        self._clock = ManualClock(NOW)

    def rig(self) -> AbstractAsyncContextManager[SourceRig]:
        @asynccontextmanager
        async def make() -> AsyncIterator[SourceRig]:
            yield self.make(self._clock)

        return make()


class TestEmbeddedQueue(EmbeddedSourceContract):
    make = QueueRig


class TestEmbeddedEngines(EmbeddedSourceContract):
    make = EnginesRig


class EmbeddedPoolRig(FaultRig, ActuatorRig):
    async def open(self, context: AdapterContext) -> Actuator:
        pool = EmbeddedPool(initial_replicas=2, start_up_s=START_UP_S, start_up_sigma=0.0)
        self._pool = await open_pool(pool, context, WorkloadName("llm"), MAIN)
        return FaultyActuator(self._pool, self.injector)

    async def size(self) -> int:
        return (await self._pool.status()).value.desired

    async def set_size(self, replicas: int) -> None:
        await self._pool.resize(replicas, (await self._pool.status()).value)

    async def set_ready(self, replicas: int) -> None:
        await self.set_size(replicas)
        self.clock.advance(START_UP_S + 1.0)

    async def run_out(self) -> bool:
        self.inject("out_of_capacity")
        return True


class TestEmbeddedPool(ActuatorContract):
    def clock(self) -> Clock:
        return self._clock

    def setup_method(self) -> None:
        self._clock = ManualClock(NOW)

    def rig(self) -> AbstractAsyncContextManager[ActuatorRig]:
        @asynccontextmanager
        async def make() -> AsyncIterator[ActuatorRig]:
            yield EmbeddedPoolRig(self._clock)

        return make()
