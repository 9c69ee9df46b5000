"""The quickstart's embedded world behind both ports, with the weather that an in-process world can have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from policies.model import PoolName, WorkloadName
from scaler.ports import Actuator, Clock, Source
from scaler.resources import Opening
from simulators.embedded import EmbeddedPool, EmbeddedSource, Traffic, World
from simulators.faults import FaultyActuator, FaultySource, Weather
from tests.contracts.actuator import ActuatorContract, ActuatorRig
from tests.contracts.source import SourceContract, SourceRig
from tests.factories import NOW
from tests.fakes import ManualClock

MAIN = PoolName("main")


class FaultRig:
    """The faults of both rigs."""

    def __init__(self) -> None:
        self.weather = Weather()

    async def garble(self) -> None:
        self.weather.fault = "garble"

    async def hang(self) -> None:
        self.weather.fault = "hang"

    async def refuse(self) -> None:
        self.weather.fault = "unavailable"

    async def throttle(self) -> None:
        self.weather.fault = "throttled"

    async def forbid(self) -> None:
        self.weather.fault = "misconfigured"

    async def recover(self) -> None:
        self.weather.fault = None


class EmbeddedSourceRig(FaultRig, SourceRig):
    quantity = "visible"

    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    async def open(self, context: Opening) -> Source:
        reader = await EmbeddedSource(traffic=Traffic(mean_rps=0.0)).open(context)
        self._world: World = reader.world
        return FaultySource(reader, self.weather)

    async def answer(self, value: float) -> None:
        self._world.enqueue(int(value) - int(self._world.queue()["visible"]))


class TestEmbeddedSource(SourceContract):
    def clock(self) -> Clock:
        return self._clock

    def setup_method(self) -> None:
        self._clock = ManualClock(NOW)

    def rig(self) -> AbstractAsyncContextManager[SourceRig]:
        @asynccontextmanager
        async def make() -> AsyncIterator[SourceRig]:
            yield EmbeddedSourceRig(self._clock)

        return make()


class EmbeddedPoolRig(FaultRig, ActuatorRig):
    def __init__(self, clock: ManualClock) -> None:
        super().__init__()
        self._clock = clock

    async def open(self, context: Opening) -> Actuator:
        resizer = await EmbeddedPool(initial_replicas=2, start_up_s=1e6).open(context, WorkloadName("llm"), MAIN)
        self._fleet = resizer.fleet
        return FaultyActuator(resizer, self.weather)

    async def size(self) -> int:
        return len(self._fleet.ready_at)

    async def set_size(self, replicas: int) -> None:
        del self._fleet.ready_at[replicas:]

    async def run_out(self) -> bool:
        self.weather.fault = "out_of_capacity"
        return True

    async def set_ready(self, replicas: int) -> None:
        self._fleet.ready_at[:replicas] = [0.0] * replicas


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
