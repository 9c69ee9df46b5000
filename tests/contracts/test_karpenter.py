"""Actuator contract of Karpenter's static NodePools and of CapacityBuffers, on the fake API server."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.config.kinds.kubernetes import CapacityBuffer, KarpenterNodePool
from scaler.ports import Actuator
from scaler.shared_resources import AdapterContext
from tests.contracts.actuator import ActuatorContract, ActuatorRig
from tests.contracts.test_kubernetes import FakeRig
from tests.servers.kube_fake import kube_fake, write_kubeconfig
from tests.servers.kube_objects import claim, event, node
from tests.servers.tcp_fault import tcp_proxy

pytestmark = pytest.mark.slow


class KarpenterRig(FakeRig):
    """NodePool `spot`, with a NodeClaim and a node for each replica."""

    async def open(self, context: AdapterContext) -> Actuator:
        spec = KarpenterNodePool(name="spot", cluster=KubeCluster(kubeconfig=str(self._kubeconfig)))
        return await open_pool(spec, context, WorkloadName("llm"), PoolName("nodes"))

    async def size(self) -> int:
        replicas: int = self._fake.get("nodepools", "spot")["spec"]["replicas"]
        return replicas

    async def set_size(self, replicas: int) -> None:
        await self._fake.put("nodepools", "spot", {"spec": {"replicas": replicas}})

    async def set_ready(self, replicas: int) -> None:
        for number in range(replicas):
            await self._fake.put("nodes", f"node-{number}", node("us-a"))
            await self._fake.put("nodeclaims", f"spot-{number}", claim("spot", f"node-{number}", "us-a"))

    async def interrupt(self, replicas: int) -> bool:
        for number in range(replicas):
            await self._fake.delete("nodeclaims", f"spot-{number}")
            await self._fake.delete("nodes", f"node-{number}")
        return True

    async def fail_late(self, *, quota: bool) -> bool:
        why = "VcpuLimitExceeded: you have asked for more" if quota else "InsufficientInstanceCapacity: none in us-a"
        gone = {"kind": "NodeClaim", "metadata": {"name": "spot-x7k2p", "uid": "gone"}}
        text = f"NodeClaim spot-x7k2p event: creating instance, with fleet error(s), {why}"
        await self._fake.put("events", "late", event(gone, "InsufficientCapacityError", text, by="karpenter"))
        return True

    async def writes(self) -> int:
        return self._fake.calls.count(("patch", "nodepools/scale"))

    async def forbid(self) -> None:
        self._fake.forbidden.add(("patch", "nodepools/scale"))


class BufferRig(FakeRig):
    """CapacityBuffer `room`, with Karpenter's status."""

    async def open(self, context: AdapterContext) -> Actuator:
        spec = CapacityBuffer(name="room", tier="warm_node", cluster=KubeCluster(kubeconfig=str(self._kubeconfig)))
        return await open_pool(spec, context, WorkloadName("llm"), PoolName("room"))

    async def size(self) -> int:
        replicas: int = self._fake.get("capacitybuffers", "room")["spec"]["replicas"]
        return replicas

    async def set_size(self, replicas: int) -> None:
        await self._fake.put("capacitybuffers", "room", {"spec": {"replicas": replicas}})

    async def set_ready(self, replicas: int) -> None:
        size = await self.size()
        fits = {"status": "True", "reason": "FitsExistingCapacity"}
        text = f"{size - replicas}/{size} virtual pods required new capacity, 0 failed"
        grows = {"status": "False", "reason": "RequiresNewCapacity", "message": text}
        condition = {"type": "Provisioning", **(fits if replicas == size else grows)}
        body = {"status": {"replicas": size, "conditions": [condition]}}
        await self._fake.put("capacitybuffers", "room", body)

    async def announce_interruption(self, replicas: int) -> bool:
        return False

    async def fail_late(self, *, quota: bool) -> bool:
        grows = {"status": "False", "reason": "RequiresNewCapacity"}
        grows["message"] = "0/5 virtual pods required new capacity, 3 failed"
        fits = {"status": "True", "reason": "FitsExistingCapacity", "observedGeneration": 1}
        condition = {"type": "Provisioning", "lastTransitionTime": "2026-01-01T00:00:00Z", **(fits if quota else grows)}
        body = {"status": {"replicas": 2 if quota else 5, "conditions": [condition]}}
        await self._fake.put("capacitybuffers", "room", {**body, "spec": {"limits": {"nvidia.com/gpu": 2}}})
        return True

    async def writes(self) -> int:
        return self._fake.calls.count(("patch", "capacitybuffers"))

    async def forbid(self) -> None:
        self._fake.forbidden.add(("patch", "capacitybuffers"))


@asynccontextmanager
async def rig(kind: type[FakeRig], plural: str, name: str, folder: Path) -> AsyncIterator[ActuatorRig]:
    async with kube_fake() as fake, tcp_proxy("127.0.0.1", fake.port) as proxy:
        await fake.put(plural, name, {"spec": {"replicas": 2}})
        opened_rig = kind(fake, proxy, write_kubeconfig(folder / "kubeconfig", proxy.port))
        await opened_rig.set_ready(2)
        yield opened_rig


class TestKarpenterNodePool(ActuatorContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self._tmp = tmp_path

    def rig(self) -> AbstractAsyncContextManager[ActuatorRig]:
        return rig(KarpenterRig, "nodepools", "spot", self._tmp)


class TestCapacityBuffer(ActuatorContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self._tmp = tmp_path

    def rig(self) -> AbstractAsyncContextManager[ActuatorRig]:
        return rig(BufferRig, "capacitybuffers", "room", self._tmp)
