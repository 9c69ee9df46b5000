"""Source contract of Azure's sources: Service Bus and Azure Monitor."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from scaler.adapters import open_source
from scaler.config.kinds.azure_sources import AzureMonitor, ServiceBus
from scaler.ports import Source
from scaler.shared_resources import AdapterContext
from tests.contracts.source import SourceContract, SourceRig
from tests.servers.azure import EVERYTHING, SUBSCRIPTION, Azure, azure
from tests.servers.azure_bus import Bus, Counted, bus
from tests.servers.azure_metrics import Monitor, monitor
from tests.servers.tcp_fault import ProxyFault, TcpProxy, tcp_proxy

pytestmark = pytest.mark.slow

NAMESPACE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/llm/providers/Microsoft.ServiceBus/namespaces/127"
"""Name of the namespace with the host 127.0.0.1, which is the first label."""


class AzureSourceRig(SourceRig):
    """Faults of the connection to a TLS server."""

    wire: TcpProxy

    async def hang(self) -> None:
        self.wire.fault = ProxyFault.FROZEN

    async def refuse(self) -> None:
        self.wire.fault = ProxyFault.RESET
        self.wire.tear_down()

    async def cut_short(self) -> bool:
        self.wire.fault, self.wire.cut_after = ProxyFault.CUT, 2000
        self.wire.tear_down()
        return True


class ServiceBusRig(AzureSourceRig):
    """A queue, read with an identity's token; Azure Monitor reports the same counts as the broker."""

    quantity = "visible"

    def __init__(self, cloud: Azure, namespace: Bus, metrics: Monitor, wire: TcpProxy) -> None:
        self.cloud = cloud
        self.bus = namespace
        self.monitor = metrics
        self.wire = wire
        self.bus.queues["prompts"] = Counted()

    async def open(self, context: AdapterContext) -> Source:
        spec = ServiceBus(
            namespace=f"127.0.0.1:{self.wire.port}",
            queue="prompts",
            resource_group="llm",
            account=self.cloud.account(),
            min_interval_s=0.0,
        )
        return await open_source(spec, context)

    async def answer(self, value: float) -> None:
        self.bus.queues["prompts"] = Counted(active=int(value))
        self.monitor.set(NAMESPACE, "ActiveMessages", value, "prompts")

    async def garble(self) -> None:
        self.bus.queues["prompts"].invalid_active = "many"

    async def throttle(self) -> None:
        self.bus.status = 429

    async def forbid(self) -> None:
        self.bus.status = 403

    async def empty(self) -> bool:
        self.bus.empty = True
        return True

    async def recover(self) -> None:
        self.bus.clear()
        self.wire.fault = ProxyFault.NONE
        self.wire.tear_down()


class AzureMonitorRig(AzureSourceRig):
    quantity = "waiting"

    def __init__(self, cloud: Azure, metrics: Monitor, wire: TcpProxy) -> None:
        self.cloud = cloud
        self.monitor = metrics
        self.wire = wire
        self.metric: dict[str, Any] = {"waiting": "ActiveMessages"}

    async def open(self, context: AdapterContext) -> Source:
        spec = AzureMonitor(
            resource=NAMESPACE,
            region="eastus",
            metrics=self.metric,
            account=self.cloud.account(),
            endpoint_url=f"https://127.0.0.1:{self.wire.port}",
        )
        source = await open_source(spec, context)
        return WithoutReadInterval(source)

    async def answer(self, value: float) -> None:
        self.monitor.set(NAMESPACE, "ActiveMessages", value)

    async def garble(self) -> None:
        self.monitor.set(NAMESPACE, "ActiveMessages", "many")

    async def throttle(self) -> None:
        self.cloud.throttled = True

    async def forbid(self) -> None:
        self.cloud.granted = ()

    async def empty(self) -> bool:
        self.monitor.empty = True
        return True

    async def skew(self, ahead_s: float) -> bool:
        self.monitor.ahead_s = ahead_s
        return True

    async def recover(self) -> None:
        self.cloud.clear()
        self.cloud.granted = EVERYTHING
        self.monitor.empty = False
        self.wire.fault = ProxyFault.NONE
        self.wire.tear_down()


class WithoutReadInterval:
    """The source without its pause between two reads: the suite reads more often than once in 30 s."""

    def __init__(self, source: Any) -> None:
        self._source = source

    async def sample(self) -> Any:
        self._source._read_at = float("-inf")
        return await self._source.sample()


@pytest.fixture(autouse=True)
def _quiet_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"):
        monkeypatch.delenv(name, raising=False)


class TestServiceBus(SourceContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self._tmp = tmp_path

    def rig(self) -> AbstractAsyncContextManager[SourceRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[SourceRig]:
        async with (
            azure(self._tmp) as cloud,
            bus(cloud.tls) as namespace,
            tcp_proxy("127.0.0.1", namespace.port) as wire,
        ):
            yield ServiceBusRig(cloud, namespace, monitor(cloud), wire)


class TestAzureMonitor(SourceContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self._tmp = tmp_path

    def rig(self) -> AbstractAsyncContextManager[SourceRig]:
        return self._rig()

    @asynccontextmanager
    async def _rig(self) -> AsyncIterator[SourceRig]:
        async with azure(self._tmp) as cloud, tcp_proxy("127.0.0.1", cloud.port) as wire:
            yield AzureMonitorRig(cloud, monitor(cloud), wire)
