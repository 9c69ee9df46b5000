"""A namespace of a real control plane with KServe's kinds and controller, for one test."""

from __future__ import annotations

import asyncio
import contextlib
import urllib.error
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from policies.model import PoolName, WorkloadName
from scaler.actuators.kserve import KServeResizer
from scaler.adapters import open_pool
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.config.kinds.kserve import KServe
from scaler.shared_resources import AdapterContext
from tests.servers.kserve import GROUP, LLM_SERVICE, SERVICE, Controller, controller, install
from tests.servers.kube_real import SHOWN_S, KubeNamespace, kube_namespace

LLM = {"object_kind": "LLMInferenceService"}
CLASS = f"{GROUP}/autoscalerClass"


@dataclass(slots=True)
class KServePlace:
    """The namespace, whose pods become ready up to `kube.nodes.ready`, and the controller."""

    kube: KubeNamespace
    controller: Controller

    def spec(self, **settings: Any) -> KServe:
        """Return the pool of object `llm`."""
        cluster = KubeCluster(kubeconfig=str(self.kube.kubeconfig))
        return KServe(**{"name": "llm", "namespace": self.kube.namespace, "cluster": cluster, **settings})

    async def open(self, context: AdapterContext, **settings: Any) -> KServeResizer:
        pool = await open_pool(self.spec(**settings), context, WorkloadName("chat"), PoolName("gpus"))
        return cast("KServeResizer", pool)

    async def add_service(self, **annotations: str) -> None:
        """Create InferenceService `llm` with 2 replicas; the names of `annotations` lack KServe's group."""
        metadata = {"name": "llm", "annotations": {f"{GROUP}/{key}": value for key, value in annotations.items()}}
        spec = {"predictor": {"minReplicas": 2, "maxReplicas": 2, "model": {"modelFormat": {"name": "huggingface"}}}}
        await self.kube.call(
            "POST", self.path(), {"apiVersion": SERVICE, "kind": "InferenceService", "metadata": metadata, "spec": spec}
        )

    async def add_llm_service(self, name: str = "llm", **spec: Any) -> None:
        body = {"apiVersion": LLM_SERVICE, "kind": "LLMInferenceService", "metadata": {"name": name}, "spec": spec}
        await self.kube.call("POST", self.path(llm=True), body)

    def path(self, name: str = "", *, llm: bool = False) -> str:
        plural, version = ("llminferenceservices", LLM_SERVICE) if llm else ("inferenceservices", SERVICE)
        return self.kube.path(plural, name, f"apis/{version}")

    async def parent(self, *, llm: bool = False) -> Any:
        """Return the object `llm`."""
        return await self.kube.call("GET", self.path("llm", llm=llm))

    async def reported(self) -> None:
        """Return when LLMInferenceService `llm` has a status."""
        async with asyncio.timeout(SHOWN_S):
            while True:
                if (await self.parent(llm=True)).get("status"):
                    return
                await asyncio.sleep(0.05)

    async def ready(self, child: str, replicas: int) -> None:
        """Return when this many replicas of a Deployment are ready."""
        async with asyncio.timeout(SHOWN_S):
            while True:
                with contextlib.suppress(urllib.error.HTTPError):  # the child may be absent yet
                    body = await self.kube.call("GET", self.kube.path("deployments", child))
                    if body["status"].get("readyReplicas") == replicas:
                        return
                await asyncio.sleep(0.05)

    async def edit(self, spec: dict[str, Any], manager: str = "kubectl", *, llm: bool = False, **metadata: Any) -> None:
        """Change the object `llm` as another writer."""
        body = {"spec": spec, "metadata": metadata}
        await self.kube.call("PATCH", f"{self.path('llm', llm=llm)}?fieldManager={manager}", body)

    def scale_writers(self) -> set[str]:
        """Return the field managers of the scaler's writes to scale subresources, from the audit log."""
        events = [e for e in self.kube.plane.audit_events() if e.get("objectRef", {}).get("subresource") == "scale"]
        own = [e for e in events if e["verb"] == "patch" and e["objectRef"]["namespace"] == self.kube.namespace]
        return {manager for e in own for manager in parse_qs(urlsplit(e["requestURI"]).query)["fieldManager"]}


def owners(body: Any, *path: str) -> set[str]:
    """Return the field managers of a field of an object's spec."""
    found = set()
    for entry in body["metadata"]["managedFields"]:
        fields = entry["fieldsV1"].get("f:spec", {})
        for key in path:
            fields = fields.get(key) if isinstance(fields, dict) else None
        if fields is not None:
            found.add(entry["manager"])
    return found


@asynccontextmanager
async def kserve_place() -> AsyncIterator[KServePlace]:
    """Create a namespace in which at most 2 pods become ready."""
    async with kube_namespace(replicas=0) as kube:
        await install(kube)
        async with controller(kube.plane, kube.namespace) as running:
            yield KServePlace(kube, running)
