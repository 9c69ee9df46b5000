"""Actuator contract of vLLM engines with sleep mode."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.config.kinds.engines import VllmSleep
from scaler.ports import Actuator
from scaler.shared_resources import AdapterContext
from tests.contracts.actuator import ActuatorContract, ActuatorRig
from tests.servers.sleeping_engines import SleepingEngines, sleeping_engines

pytestmark = pytest.mark.slow

ENGINES = 9


class SleepRig(ActuatorRig):
    def __init__(self, engines: SleepingEngines) -> None:
        self._engines = engines

    async def open(self, context: AdapterContext) -> Actuator:
        spec = VllmSleep(urls=self._engines.urls, max_replicas=ENGINES)
        return await open_pool(spec, context, WorkloadName("llm"), PoolName("engines"))

    async def size(self) -> int:
        return self._engines.awake

    async def set_size(self, replicas: int) -> None:
        for number in range(ENGINES):
            self._engines.engine(number).asleep = number >= replicas

    async def set_ready(self, replicas: int) -> None:
        for number in range(ENGINES):
            self._engines.engine(number).healthy = number < replicas

    async def hang(self) -> None:
        self._engines.fault = "hang"

    async def refuse(self) -> None:
        self._engines.fault = "refuse"

    async def throttle(self) -> None:
        self._engines.fault = "throttle"

    async def forbid(self) -> None:
        self._engines.fault = "forbid"

    async def garble(self) -> None:
        self._engines.fault = "garble"

    async def cut_short(self) -> bool:
        self._engines.fault = "cut"
        return True

    async def lose_response(self) -> bool:
        self._engines.fault = "lose"
        return True

    async def writes(self) -> int:
        """Number of writes of the engine with the most."""
        return max(engine.control_calls.count("/wake_up") for engine in self._engines.engines.values())

    async def run_out(self) -> bool:
        """Remove seven of the sleeping engines, so that there is no capacity left."""
        for number in range(2, ENGINES):
            self._engines.engine(number).down = True
        return True

    async def recover(self) -> None:
        self._engines.fault = ""


@asynccontextmanager
async def rig() -> AsyncIterator[ActuatorRig]:
    async with sleeping_engines(ENGINES) as engines:
        sleep_rig = SleepRig(engines)
        await sleep_rig.set_size(2)
        await sleep_rig.set_ready(2)
        yield sleep_rig


class TestVllmSleep(ActuatorContract):
    def rig(self) -> AbstractAsyncContextManager[ActuatorRig]:
        return rig()
