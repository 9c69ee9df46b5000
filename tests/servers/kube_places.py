"""One way to arrange Kubernetes for a test, on the fake API server and on a real one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tests.servers.kube_fake import FakeKube, kube_fake, write_kubeconfig
from tests.servers.kube_real import KubeNamespace, kube_namespace, shipped_rules, workload
from tests.servers.tcp_fault import TcpProxy, tcp_proxy

ENGINES: Final = "serving.example.com/v1beta1"
KEDA: Final = "keda.sh/v1alpha1"
ENGINE_RULES: Final = [
    {"apiGroups": ["serving.example.com"], "resources": ["engines"], "verbs": ["get", "list", "watch"]},
    {"apiGroups": ["serving.example.com"], "resources": ["engines/scale"], "verbs": ["get", "patch"]},
]


class Place(ABC):
    """A namespace with Deployment `llm`: 2 replicas."""

    kubeconfig: Path
    namespace: str
    proxy: TcpProxy

    @abstractmethod
    async def size(self, plural: str = "deployments") -> int:
        """Return the size of `llm`, read without the adapter."""

    @abstractmethod
    async def set_size(self, replicas: int) -> None:
        """Set the Deployment's size as `kubectl`."""

    @abstractmethod
    async def touch(self) -> None:
        """Change another field of the Deployment."""

    @abstractmethod
    async def add_hpa(self, name: str) -> None:
        """Create an HPA for the Deployment."""

    @abstractmethod
    async def add_scaled_object(self, name: str) -> None:
        """Create a ScaledObject for the Deployment."""

    @abstractmethod
    async def add_stateful_set(self) -> None:
        """Create StatefulSet `llm` with 2 replicas."""

    @abstractmethod
    async def add_engine(self, status: dict[str, Any]) -> None:
        """Create Engine `llm`, with size 2 at `.spec.predictor.min` and this status."""


class FakePlace(Place):
    def __init__(self, fake: FakeKube, proxy: TcpProxy, kubeconfig: Path) -> None:
        self.fake = fake
        self.proxy = proxy
        self.kubeconfig = kubeconfig
        self.namespace = "default"

    async def size(self, plural: str = "deployments") -> int:
        spec = self.fake.get(plural, "llm")["spec"]
        replicas: int = spec["predictor"]["min"] if plural == "engines" else spec["replicas"]
        return replicas

    async def set_size(self, replicas: int) -> None:
        await self.fake.put("deployments", "llm", {"spec": {"replicas": replicas}})

    async def touch(self) -> None:
        await self.fake.put("deployments", "llm", {"status": {"observedGeneration": 7}})

    async def add_hpa(self, name: str) -> None:
        await self.fake.put("horizontalpodautoscalers", name, {"spec": {"scaleTargetRef": target()}})

    async def add_scaled_object(self, name: str) -> None:
        await self.fake.put("scaledobjects", name, {"spec": {"scaleTargetRef": {"name": "llm"}}})

    async def add_stateful_set(self) -> None:
        await self.fake.put("statefulsets", "llm", {"spec": {"replicas": 2}, "status": {"readyReplicas": 2}})

    async def add_engine(self, status: dict[str, Any]) -> None:
        await self.fake.put("engines", "llm", {"spec": {"predictor": {"min": 2}}, "status": status})


class RealPlace(Place):
    def __init__(self, kube_namespace: KubeNamespace) -> None:
        self.kube_namespace = kube_namespace
        self.proxy = kube_namespace.proxy
        self.kubeconfig = kube_namespace.kubeconfig
        self.namespace = kube_namespace.namespace

    async def size(self, plural: str = "deployments") -> int:
        service = plural == "engines"
        path = self.kube_namespace.path(plural, "llm", f"apis/{ENGINES}" if service else "apis/apps/v1")
        spec = (await self.kube_namespace.call("GET", path))["spec"]
        replicas: int = spec["predictor"]["min"] if service else spec["replicas"]
        return replicas

    async def set_size(self, replicas: int) -> None:
        await self.kube_namespace.set_size(replicas)

    async def touch(self) -> None:
        path = self.kube_namespace.path("deployments", "llm")
        await self.kube_namespace.call("PATCH", path, {"metadata": {"annotations": {"touched": "yes"}}})

    async def add_hpa(self, name: str) -> None:
        body = {"metadata": {"name": name}, "spec": {"maxReplicas": 9, "scaleTargetRef": target()}}
        path = self.kube_namespace.path("horizontalpodautoscalers", api="apis/autoscaling/v1")
        await self.kube_namespace.call("POST", path, body)

    async def add_scaled_object(self, name: str) -> None:
        await self.kube_namespace.kind("scaledobjects", "ScaledObject", KEDA, None)
        spec = {"scaleTargetRef": {"name": "llm"}}
        body = {"apiVersion": KEDA, "kind": "ScaledObject", "metadata": {"name": name}, "spec": spec}
        await self.kube_namespace.call("POST", self.kube_namespace.path("scaledobjects", api=f"apis/{KEDA}"), body)

    async def add_stateful_set(self) -> None:
        self.kube_namespace.nodes.ready = None
        await self.kube_namespace.call(
            "POST", self.kube_namespace.path("statefulsets"), workload("StatefulSet", "llm", 2)
        )

    async def add_engine(self, status: dict[str, Any]) -> None:
        plural = "engines"
        await self.kube_namespace.kind(plural, "Engine", ENGINES, ".spec.predictor.min")
        await self.kube_namespace.permit(shipped_rules() + ENGINE_RULES)
        await self.kube_namespace.permitted("patch", f"serving.example.com/{plural}/scale", granted=True)
        body = {"apiVersion": ENGINES, "kind": "Engine", "metadata": {"name": "llm"}}
        path = self.kube_namespace.path(plural, api=f"apis/{ENGINES}")
        await self.kube_namespace.call("POST", path, {**body, "spec": {"predictor": {"min": 2}}})
        await self.kube_namespace.call("PATCH", f"{path}/llm/status", {"status": status})


def target() -> dict[str, str]:
    return {"apiVersion": "apps/v1", "kind": "Deployment", "name": "llm"}


@asynccontextmanager
async def fake_place(folder: Path) -> AsyncIterator[FakePlace]:
    async with kube_fake() as fake, tcp_proxy("127.0.0.1", fake.port) as proxy:
        await fake.put("deployments", "llm", {"spec": {"replicas": 2}, "status": {"readyReplicas": 2}})
        yield FakePlace(fake, proxy, write_kubeconfig(folder / "kubeconfig", proxy.port))


@asynccontextmanager
async def real_place() -> AsyncIterator[RealPlace]:
    async with kube_namespace() as opened:
        yield RealPlace(opened)
