"""Actuator contract of Azure's managed serving, on a counterpart with time."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import ClassVar, cast

import pytest

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.clouds.azure.online_deployments import READ_S
from scaler.config.kinds.azure_managed_pools import AzureMlDeployment, AzureOpenAiPtu
from scaler.ports import Actuator, Clock
from scaler.shared_resources import AdapterContext
from tests.contracts.actuator import ActuatorRig
from tests.contracts.test_azure_pools import AzureContract, WiredRig
from tests.servers.azure import Azure
from tests.servers.azure_metrics import monitor
from tests.servers.azure_ml import OUT_OF_QUOTA, REGION_CAPACITY, Deployment
from tests.servers.azure_openai import INSUFFICIENT_QUOTA, NO_CAPACITY, Account, Ptu
from tests.servers.spoiling import Ahead
from tests.servers.tcp_fault import TcpProxy

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"):
        monkeypatch.delenv(name, raising=False)


class MlRig(WiredRig):
    smallest: ClassVar[int] = 1

    def __init__(self, cloud: Azure, wire: TcpProxy, deployment: Deployment, clock: Ahead) -> None:
        super().__init__(cloud, wire)
        self.deployment = deployment
        self.clock = clock

    async def open(self, context: AdapterContext) -> Actuator:
        account = self.cloud.account(self.wire.port)
        spec = AzureMlDeployment(
            resource_group="llm", workspace="llm", endpoint="chat", deployment="h100", account=account
        )
        return await open_pool(spec, context, WorkloadName("llm"), PoolName("h100"))

    async def size(self) -> int:
        return self.deployment.capacity

    async def set_size(self, replicas: int) -> None:
        self.deployment.capacity = replicas

    async def set_ready(self, replicas: int) -> None:
        self.deployment.end()
        self.deployment.ready = replicas
        self.clock.ahead_s += READ_S  # the metric is read again

    async def writes(self) -> int:
        return self.deployment.writes

    async def run_out(self) -> bool:
        self.deployment.stock = 2
        return True

    async def fail_late(self, *, quota: bool) -> bool:
        self.deployment.end(OUT_OF_QUOTA if quota else REGION_CAPACITY)
        return True

    async def recover(self) -> None:
        await super().recover()
        self.deployment.end()  # end the write that came through: Azure runs one at a time


class KeptSizeRig(MlRig):
    """A failed change leaves the size that it did not reach."""

    async def fail_late(self, *, quota: bool) -> bool:
        self.deployment.keeps_size = True
        return await super().fail_late(quota=quota)


class TestMlDeployment(AzureContract):
    rig_class: ClassVar[type[MlRig]] = MlRig

    @pytest.fixture(autouse=True)
    def _fresh_clock(self) -> None:
        self._ahead = Ahead()

    def clock(self) -> Clock:
        return cast("Clock", self._ahead)

    def rig(self) -> AbstractAsyncContextManager[ActuatorRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[ActuatorRig]:
        async with self.place() as (cloud, wire, _):
            deployment = Deployment(cloud, "h100", capacity=2).register(monitor(cloud))
            yield self.rig_class(cloud, wire, deployment, self._ahead)


class TestMlDeploymentThatKeepsItsSize(TestMlDeployment):
    rig_class: ClassVar[type[MlRig]] = KeptSizeRig


class PtuRig(WiredRig):
    """A type of deployment with single PTUs, and a pool that may change it at any time."""

    smallest: ClassVar[int] = 1

    def __init__(self, cloud: Azure, wire: TcpProxy) -> None:
        super().__init__(cloud, wire)
        self.chat = Ptu("chat", 2)
        self.llm = Account(cloud, [self.chat], minimum=1, step=1).register()

    async def open(self, context: AdapterContext) -> Actuator:
        spec = AzureOpenAiPtu(
            resource_group="llm",
            resource="llm",
            deployment="chat",
            release_capacity=True,
            change_interval_s=0.0,
            account=self.cloud.account(self.wire.port),
        )
        return await open_pool(spec, context, WorkloadName("llm"), PoolName("chat"))

    async def size(self) -> int:
        return self.chat.capacity

    async def set_size(self, replicas: int) -> None:
        self.chat.capacity = self.chat.current = replicas

    async def set_ready(self, replicas: int) -> None:
        self.llm.end()
        self.chat.current = replicas

    async def writes(self) -> int:
        return self.llm.writes

    async def run_out(self) -> bool:
        self.llm.stock = 0
        return True

    async def fail_late(self, *, quota: bool) -> bool:
        self.llm.end(INSUFFICIENT_QUOTA if quota else NO_CAPACITY)
        return True

    async def recover(self) -> None:
        await super().recover()
        self.llm.end()  # end the write that came through: Azure runs one at a time


class TestPtuDeployment(AzureContract):
    def rig(self) -> AbstractAsyncContextManager[ActuatorRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[ActuatorRig]:
        async with self.place() as (cloud, wire, _):
            yield PtuRig(cloud, wire)
