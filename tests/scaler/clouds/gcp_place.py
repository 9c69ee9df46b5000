"""A simulated Google Cloud project, and adapters opened on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.model import PoolName, PoolStatus, WorkloadName
from scaler.adapters import open_pool
from scaler.clock import SystemClock
from scaler.ports import Actuator
from scaler.shared_resources import AdapterContext, Resources
from tests.contracts.actuator import settled
from tests.factories import DEADLINE_S
from tests.servers.gcp import PROJECT, Gcp, gcp
from tests.servers.gcp_compute import Mig
from tests.servers.spoiling import hasty

ZONES = ("us-central1-a", "us-central1-b", "us-central1-c")
ENDPOINT = f"projects/{PROJECT}/locations/us-central1/endpoints/123"
LOCATION = f"projects/{PROJECT}/locations/us-central1"
CLUSTER = f"projects/{PROJECT}/locations/us-central1/clusters/serving"


class Shifted:
    """The system clock with an offset."""

    def __init__(self) -> None:
        self._clock = SystemClock()
        self.ahead_s = 0.0

    def now(self) -> float:
        return self._clock.now() + self.ahead_s

    async def sleep_until(self, t: float) -> None:
        await self._clock.sleep_until(t - self.ahead_s)

    def step_s(self) -> float:
        return self._clock.step_s()


@dataclass
class GcpEnvironment:
    cloud: Gcp
    context: AdapterContext
    clock: Shifted

    async def pool(self, spec: Any) -> Actuator:
        opened: Actuator = await open_pool(spec, self.context, WorkloadName("llm"), PoolName("gpus"))
        return opened

    def mig(self, name: str = "vllm", location: str = ZONES[0], size: int = 2) -> Mig:
        """Create a group with `size` running machines."""
        zones = (location,) if location.count("-") == 2 else ZONES
        mig = self.cloud.compute.add(Mig(PROJECT, location, name, zones))
        mig.resize(size)
        mig.boot()
        return mig


@asynccontextmanager
async def gcp_environment(folder: Path, *, at_once: bool = False) -> AsyncIterator[GcpEnvironment]:
    """Open an empty project. `at_once`: retries do not pause."""
    clock = Shifted()
    async with gcp(folder) as cloud, Resources() as resources:
        if at_once:
            hasty(resources)
        cloud.vertex.now = cloud.run.now = clock.now
        yield GcpEnvironment(cloud, AdapterContext(resources, clock, DEADLINE_S), clock)


async def read_status(actuator: Actuator, until: Callable[[PoolStatus], bool] = lambda _: True) -> PoolStatus:
    return await settled(actuator, until)
