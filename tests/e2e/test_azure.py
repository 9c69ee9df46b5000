"""The shared scenario on Azure: Service Bus, scale sets of two zones, a standby pool, Scheduled Events."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cloud_story import REGULAR, SPOT, WARM, WARM_REPLICAS, run_scenario
from tests.servers.azure import SUBSCRIPTION, Azure, Events, azure, scheduled_events
from tests.servers.azure_bus import Bus, Counted, bus
from tests.servers.azure_compute import ScaleSet
from tests.servers.azure_managed import StandbyPool
from tests.servers.azure_metrics import Monitor, monitor

NAMESPACE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/llm/providers/Microsoft.ServiceBus/namespaces/127"
BOOT_S = 1.0
INTERRUPTION_S = 2.5
"""Time from the notice to the interruption; Azure gives at most 30 s. Seconds."""
CAPACITY_ERROR = ("SkuNotAvailable", "The requested size Standard_NC40ads_H100_v5 is not available in zone '1'.")


@dataclass
class AzureRig:
    """One subscription with three sets, a standby pool and a queue."""

    cloud: Azure
    namespace: Bus
    events: Events
    metrics: Monitor
    sets: dict[str, ScaleSet]
    standby: StandbyPool
    env: Mapping[str, str] = field(default_factory=dict)

    def sources(self) -> Mapping[str, Any]:
        queue = {
            "kind": "service_bus",
            "namespace": f"127.0.0.1:{self.namespace.port}",
            "queue": "prompts",
            "resource_group": "llm",
            "account": self.cloud.document(),
            "min_interval_s": 0.5,
        }
        return {"queue": queue}

    def pools(self) -> Mapping[str, Mapping[str, Any]]:
        common = {"resource_group": "llm", "account": self.cloud.document()}
        sets: dict[str, Mapping[str, Any]] = {
            name: {"kind": "vmss", "name": name, "events_url": self.events.relays, **common} for name in self.sets
        }
        return {**sets, WARM: {"kind": "vmss_standby_pool", "name": "warm", **common}}

    async def queue(self, messages: int) -> None:
        self.namespace.queues["prompts"] = Counted(active=messages)
        self.metrics.set(NAMESPACE, "ActiveMessages", messages, "prompts")

    async def requested(self, pool: str) -> int:
        return self.sets[pool].capacity

    async def interrupt(self, pool: str) -> None:
        its_set = self.sets[pool]
        name = its_set.machine_name(next(m for m in its_set.machines if m.state == "ready"))
        event = self.events.announce("Preempt", name)

        def evict() -> None:
            its_set.evict(1, "delete", names={name})
            self.events.withdraw(event)

        asyncio.get_running_loop().call_later(INTERRUPTION_S, evict)

    async def exhaust(self, pool: str) -> None:
        self.sets[pool].capacity_error = CAPACITY_ERROR

    async def warm(self) -> int:
        return self.standby.standby_count


@pytest.mark.slow
async def test_scale_out_interruption_and_scale_in_on_azure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"):
        monkeypatch.delenv(name, raising=False)
    async with contextlib.AsyncExitStack() as stack:
        cloud = await stack.enter_async_context(azure(tmp_path))
        namespace = await stack.enter_async_context(bus(cloud.tls))
        events = await stack.enter_async_context(scheduled_events())
        sets = {name: ScaleSet(cloud, name, priority="Spot", boot_s=BOOT_S).register() for name in SPOT}
        sets[REGULAR] = ScaleSet(cloud, REGULAR, boot_s=BOOT_S).register()
        standby = StandbyPool(cloud, "warm", sets[REGULAR], max_ready=WARM_REPLICAS, fill_s=BOOT_S).register()
        standby.set_standby(WARM_REPLICAS)
        sets[REGULAR].resized = standby.apply_resize
        rig = AzureRig(cloud, namespace, events, monitor(cloud), sets, standby)
        await rig.queue(0)
        await run_scenario(rig, tmp_path)
