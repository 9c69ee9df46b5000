"""The shared scenario on Kubernetes: a queue in Prometheus, static NodePools of Karpenter, a capacity buffer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.cloud_story import REGULAR, SPOT, WARM, WARM_REPLICAS, run_scenario
from tests.servers.exporter import Engine, exporter, gauges
from tests.servers.karpenter import Karpenter, StaticPool, karpenter
from tests.servers.kube_fake import FakeKube, kube_fake, write_kubeconfig
from tests.servers.prometheus import Target, needs_prometheus, prometheus

READY = "rabbitmq_queue_messages_ready"
BOOT_S = 1.0
INTERRUPTION_S = 3.0
"""Time from the notice to the interruption; clouds give 30 s to two minutes. Seconds."""


@dataclass
class KubernetesRig:
    """A cluster with three static NodePools and a buffer, and a broker whose exporter Prometheus scrapes."""

    fake: FakeKube
    nodes: Karpenter
    broker: Engine
    prometheus_url: str
    kubeconfig: Path
    env: Mapping[str, str] = field(default_factory=dict)

    def sources(self) -> Mapping[str, Any]:
        query = f'sum({READY}{{queue="prompts"}})'
        return {"queue": {"kind": "prometheus", "url": self.prometheus_url, "queries": {"visible": query}}}

    def pools(self) -> Mapping[str, Mapping[str, Any]]:
        cluster = {"cluster": {"kubeconfig": str(self.kubeconfig)}}
        nodes = {name: {"kind": "karpenter_node_pool", "name": name, **cluster} for name in (*SPOT, REGULAR)}
        return {**nodes, WARM: {"kind": "capacity_buffer", "name": "room", **cluster}}

    async def queue(self, messages: int) -> None:
        self.broker.page = gauges(READY, {'queue="prompts",vhost="/"': messages, 'queue="other",vhost="/"': 7})

    async def requested(self, pool: str) -> int:
        replicas: int = self.fake.get("nodepools", pool)["spec"]["replicas"]
        return replicas

    async def interrupt(self, pool: str) -> None:
        await self.nodes.interrupt(pool, INTERRUPTION_S)

    async def exhaust(self, pool: str) -> None:
        self.nodes.pools[pool].exhausted = True

    async def warm(self) -> int:
        return self.nodes.room


@pytest.mark.slow
@needs_prometheus
async def test_scale_out_interruption_and_scale_in_on_kubernetes(tmp_path: Path) -> None:
    broker = Engine(gauges(READY, {'queue="prompts",vhost="/"': 0}))
    async with kube_fake() as fake, karpenter(fake) as nodes, exporter({"broker": broker}) as served:
        await nodes.add(SPOT[0], StaticPool("zone-1", "spot", BOOT_S))
        await nodes.add(SPOT[1], StaticPool("zone-2", "spot", BOOT_S))
        await nodes.add(REGULAR, StaticPool("zone-1", "on-demand", BOOT_S))
        await nodes.keep_room("room", REGULAR, WARM_REPLICAS)
        target = Target(f"127.0.0.1:{served.port}", "/broker/metrics", {})
        async with prometheus([target]) as server:
            await server.until(READY, bool)
            kubeconfig = write_kubeconfig(tmp_path / "kubeconfig", fake.port)
            await run_scenario(KubernetesRig(fake, nodes, broker, server.url, kubeconfig), tmp_path)
