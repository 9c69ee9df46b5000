"""A simulated Azure subscription and Service Bus namespace, and adapters opened on them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.model import PoolName, PoolStatus, WorkloadName
from scaler.adapters import open_pool
from scaler.config.kinds.azure_managed_pools import AzureMlDeployment, AzureOpenAiPtu
from scaler.config.kinds.azure_pools import AksAgentPool, Vmss, VmssStandbyPool
from scaler.ports import Clock, PortError
from scaler.shared_resources import AdapterContext, Resources
from tests.contracts.actuator import attempt
from tests.factories import DEADLINE_S
from tests.servers.azure import Azure, Events, azure, scheduled_events
from tests.servers.azure_compute import NODES, ScaleSet
from tests.servers.azure_managed import AgentPool
from tests.servers.spoiling import Ahead, hasty

LLM = WorkloadName("llm")
GPUS = PoolName("gpus")


@dataclass
class AzureEnvironment:
    """One subscription and a context to open adapters in."""

    cloud: Azure
    context: AdapterContext
    resources: Resources
    clock: Ahead
    events: Events

    async def vmss(self, name: str = "h100", **more: Any) -> Any:
        spec = Vmss(resource_group="llm", name=name, account=self.cloud.account(), **more)
        return await open_pool(spec, self.context, LLM, GPUS)

    async def aks(self, agent_pool: str = "h100", **more: Any) -> Any:
        account = self.cloud.account()
        spec = AksAgentPool(resource_group="llm", cluster="llm", agent_pool=agent_pool, account=account, **more)
        return await open_pool(spec, self.context, LLM, GPUS)

    async def standby(self) -> Any:
        account = self.cloud.account()
        return await open_pool(
            VmssStandbyPool(resource_group="llm", name="warm", account=account), self.context, LLM, GPUS
        )

    async def ml_deployment(self, deployment: str = "h100", **more: Any) -> Any:
        place: dict[str, Any] = {
            "resource_group": "llm",
            "workspace": "llm",
            "endpoint": "chat",
            "account": self.cloud.account(),
        }
        return await open_pool(
            AzureMlDeployment(deployment=deployment, **place, **more), self.context, LLM, PoolName(deployment)
        )

    async def ptu(self, deployment: str = "chat", **more: Any) -> Any:
        place: dict[str, Any] = {"resource_group": "llm", "resource": "llm", "account": self.cloud.account()}
        return await open_pool(
            AzureOpenAiPtu(deployment=deployment, **place, **more), self.context, LLM, PoolName(deployment)
        )

    async def resize(self, pool: Any, replicas: int) -> PortError | None:
        """Resize as one tick does: read, then write. Return the error."""
        return await attempt(pool, replicas, await self.read_status(pool))

    async def read_status(self, pool: Any) -> PoolStatus:
        """Return a pool's status in a new tick."""
        self.clock.ahead_s += 2.0
        status: PoolStatus = (await pool.status()).value
        return status


@asynccontextmanager
async def azure_environment(folder: Path, *, at_once: bool = False) -> AsyncIterator[AzureEnvironment]:
    """Open an empty subscription. `at_once`: retries do not pause."""
    async with contextlib.AsyncExitStack() as stack:
        cloud = await stack.enter_async_context(azure(folder))
        events = await stack.enter_async_context(scheduled_events())
        resources = await stack.enter_async_context(Resources())
        clock = Ahead()
        if at_once:
            hasty(resources)
        typed_clock: Clock = clock
        yield AzureEnvironment(cloud, AdapterContext(resources, typed_clock, DEADLINE_S), resources, clock, events)


def serving(cloud: Azure, count: int, name: str = "h100", **more: Any) -> ScaleSet:
    """Create a scale set of `count` machines that serve."""
    scale_set = ScaleSet(cloud, name, **more).register()
    scale_set.resize(count)
    scale_set.ready(count)
    return scale_set


def agent_pool(cloud: Azure, count: int, name: str = "h100", **more: Any) -> AgentPool:
    """Create an agent pool of `count` nodes that serve."""
    tags = {"aks-managed-poolName": name}
    return AgentPool(
        cloud, name, serving(cloud, count, f"aks-{name}-vmss", group=NODES, tags=tags), count=count, **more
    ).register()
