"""The actuator's contract over vLLM engines that sleep."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.config.kinds.engines import VllmSleep
from scaler.ports import Actuator
from scaler.shared_resources import Opening
from tests.contracts.actuator import ActuatorContract, ActuatorRig
from tests.servers.sleeping_engines import SleepingEngines, sleeping_engines

ENGINES = 9


class SleepRig(ActuatorRig):
    def __init__(self, there: SleepingEngines) -> None:
        self._there = there

    async def open(self, context: Opening) -> Actuator:
        spec = VllmSleep(urls=self._there.urls, max_replicas=ENGINES)
        return await open_pool(spec, context, WorkloadName("llm"), PoolName("engines"))

    async def size(self) -> int:
        return self._there.awake

    async def set_size(self, replicas: int) -> None:
        for number in range(ENGINES):
            self._there.engine(number).asleep = number >= replicas

    async def set_ready(self, replicas: int) -> None:
        for number in range(ENGINES):
            self._there.engine(number).healthy = number < replicas

    async def hang(self) -> None:
        self._there.fault = "hang"

    async def refuse(self) -> None:
        self._there.fault = "refuse"

    async def throttle(self) -> None:
        self._there.fault = "throttle"

    async def forbid(self) -> None:
        self._there.fault = "forbid"

    async def garble(self) -> None:
        self._there.fault = "garble"

    async def cut_short(self) -> bool:
        self._there.fault = "cut"
        return True

    async def lose_answer(self) -> bool:
        self._there.fault = "lose"
        return True

    async def writes(self) -> int:
        """Of the engine that was told most often."""
        return max(engine.told.count("/wake_up") for engine in self._there.engines.values())

    async def run_out(self) -> bool:
        """There are no more engines: seven of those that sleep are gone."""
        for number in range(2, ENGINES):
            self._there.engine(number).down = True
        return True

    async def recover(self) -> None:
        self._there.fault = ""


@asynccontextmanager
async def rig() -> AsyncIterator[ActuatorRig]:
    async with sleeping_engines(ENGINES) as there:
        made = SleepRig(there)
        await made.set_size(2)
        await made.set_ready(2)
        yield made


class TestVllmSleep(ActuatorContract):
    def rig(self) -> AbstractAsyncContextManager[ActuatorRig]:
        return rig()
