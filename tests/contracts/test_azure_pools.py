"""Actuator contract of Azure's pools: scale sets, AKS agent pools, standby pools."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import ClassVar

import pytest

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.config.kinds.azure_pools import AksAgentPool, Vmss, VmssStandbyPool
from scaler.ports import Actuator
from scaler.shared_resources import AdapterContext
from tests.contracts.actuator import ActuatorContract, ActuatorRig
from tests.servers.azure import Azure, Events, azure, scheduled_events
from tests.servers.azure_compute import NODES, ScaleSet
from tests.servers.azure_managed import AgentPool, StandbyPool
from tests.servers.tcp_fault import ProxyFault, TcpProxy, tcp_proxy

pytestmark = pytest.mark.slow

CAPACITY_ERROR = ("SkuNotAvailable", "The requested size is currently not available in zone '1' of location 'eastus'.")
LATE_FAILURES = {
    False: ("ZonalAllocationFailed", "Allocation failed. We do not have sufficient capacity in this zone."),
    True: ("OperationNotAllowed", "Operation could not be completed as it exceeds approved NCadsH100v5 Cores quota."),
}
LLM = WorkloadName("llm")
GPUS = PoolName("gpus")


class WiredRig(ActuatorRig):
    """Base of all Azure rigs: one server, and a proxy before it."""

    def __init__(self, cloud: Azure, wire: TcpProxy) -> None:
        self.cloud = cloud
        self.wire = wire

    async def hang(self) -> None:
        self.wire.fault = ProxyFault.FROZEN

    async def refuse(self) -> None:
        self.wire.fault = ProxyFault.RESET
        self.wire.tear_down()

    async def throttle(self) -> None:
        self.cloud.throttled = True

    async def forbid(self) -> None:
        self.cloud.forbidden = True

    async def garble(self) -> None:
        self.cloud.garbled = True

    async def cut_short(self) -> bool:
        self.wire.fault, self.wire.cut_after = ProxyFault.CUT, 2000
        self.wire.tear_down()
        return True

    async def lose_response(self) -> bool:
        self.cloud.losing = True
        return True

    async def recover(self) -> None:
        self.cloud.clear()
        self.wire.fault = ProxyFault.NONE
        self.wire.tear_down()


class AzureRig(WiredRig):
    """Base of the rigs with a set of machines."""

    def __init__(self, cloud: Azure, wire: TcpProxy, nodes: ScaleSet, events: Events) -> None:
        super().__init__(cloud, wire)
        self.nodes = nodes
        self.events = events

    async def set_ready(self, replicas: int) -> None:
        self.nodes.ready(replicas)


class MachinesRig(AzureRig):
    """Pools whose machines are listed individually."""

    async def announce_interruption(self, replicas: int) -> bool:
        ready = [m for m in self.nodes.machines if m.state == "ready"]
        self.events.announce("Preempt", *(self.nodes.machine_name(m) for m in ready[:replicas]))
        return True

    async def interrupt(self, replicas: int) -> bool:
        self.nodes.evict(replicas)
        return True


class VmssRig(MachinesRig):
    async def open(self, context: AdapterContext) -> Actuator:
        account = self.cloud.account(self.wire.port)
        spec = Vmss(resource_group="llm", name="h100", account=account, events_url=self.events.url)
        return await open_pool(spec, context, LLM, GPUS)

    async def size(self) -> int:
        return self.nodes.capacity

    async def set_size(self, replicas: int) -> None:
        self.nodes.resize(replicas)

    async def writes(self) -> int:
        return self.nodes.writes

    async def run_out(self) -> bool:
        self.nodes.capacity_error = CAPACITY_ERROR
        return True

    async def fail_late(self, *, quota: bool) -> bool:
        self.nodes.fail(*LATE_FAILURES[quota])
        return True


class AksRig(MachinesRig):
    def __init__(self, cloud: Azure, wire: TcpProxy, pool: AgentPool, events: Events) -> None:
        super().__init__(cloud, wire, pool.nodes, events)
        self.pool = pool

    async def open(self, context: AdapterContext) -> Actuator:
        spec = AksAgentPool(
            resource_group="llm",
            cluster="llm",
            agent_pool="h100",
            account=self.cloud.account(self.wire.port),
            events_url=self.events.relays,
        )
        return await open_pool(spec, context, LLM, GPUS)

    async def size(self) -> int:
        return self.pool.count

    async def set_size(self, replicas: int) -> None:
        self.pool.set(replicas)

    async def set_ready(self, replicas: int) -> None:
        self.nodes.ready(replicas)
        if replicas >= self.pool.count:
            self.pool.done()

    async def writes(self) -> int:
        return len(self.pool.written)

    async def recover(self) -> None:
        await super().recover()
        self.pool.done()  # end the write that came through: AKS runs one at a time

    async def fail_late(self, *, quota: bool) -> bool:
        self.pool.fail(*LATE_FAILURES[quota])
        return True


class StandbyRig(AzureRig):
    def __init__(self, cloud: Azure, wire: TcpProxy, pool: StandbyPool, events: Events) -> None:
        super().__init__(cloud, wire, pool.of, events)
        self.pool = pool

    async def open(self, context: AdapterContext) -> Actuator:
        account = self.cloud.account(self.wire.port)
        return await open_pool(VmssStandbyPool(resource_group="llm", name="warm", account=account), context, LLM, GPUS)

    async def size(self) -> int:
        return self.pool.size

    async def set_size(self, replicas: int) -> None:
        self.pool.max_ready = self.pool.of.capacity + replicas

    async def set_ready(self, replicas: int) -> None:
        self.pool.set_standby(replicas)

    async def writes(self) -> int:
        return self.pool.writes

    async def run_out(self) -> bool:
        self.pool.capacity_error = CAPACITY_ERROR
        return True

    async def fail_late(self, *, quota: bool) -> bool:
        self.pool.counts = {"1": {self.pool.state: 2}}
        self.pool.health = ("HealthState/degraded", ": ".join(LATE_FAILURES[quota]))
        return True


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"):
        monkeypatch.delenv(name, raising=False)


class AzureContract(ActuatorContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self._tmp = tmp_path

    @asynccontextmanager
    async def place(self) -> AsyncIterator[tuple[Azure, TcpProxy, Events]]:
        async with azure(self._tmp) as cloud, tcp_proxy("127.0.0.1", cloud.port) as wire, scheduled_events() as events:
            yield cloud, wire, events


def two_machines(cloud: Azure, name: str, group: str = "llm", **more: str) -> ScaleSet:
    """Return a set of two machines that serve."""
    scale_set = ScaleSet(cloud, name, group=group, priority="Spot", tags=more).register()
    scale_set.resize(2)
    scale_set.ready(2)
    return scale_set


class TestVmss(AzureContract):
    rig_class: ClassVar[type[VmssRig]] = VmssRig

    def rig(self) -> AbstractAsyncContextManager[ActuatorRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[ActuatorRig]:
        async with self.place() as (cloud, wire, events):
            yield self.rig_class(cloud, wire, two_machines(cloud, "h100"), events)


class TestAks(AzureContract):
    def rig(self) -> AbstractAsyncContextManager[ActuatorRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[ActuatorRig]:
        async with self.place() as (cloud, wire, events):
            nodes = two_machines(cloud, "aks-h100-vmss", NODES, **{"aks-managed-poolName": "h100"})
            pool = AgentPool(cloud, "h100", nodes, count=2).register()
            yield AksRig(cloud, wire, pool, events)


class TestStandby(AzureContract):
    def rig(self) -> AbstractAsyncContextManager[ActuatorRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[ActuatorRig]:
        async with self.place() as (cloud, wire, events):
            pool = StandbyPool(cloud, "warm", two_machines(cloud, "h100"), max_ready=4).register()
            pool.set_standby(2)
            yield StandbyRig(cloud, wire, pool, events)
