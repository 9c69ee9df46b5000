"""One namespace of a real control plane, with a Deployment of 2 replicas, for one test."""

from __future__ import annotations

import asyncio
import itertools
import urllib.error
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from tests.servers.control_plane import SCALER, ControlPlane, shared_plane
from tests.servers.kubelet import Kubelet, kubelet
from tests.servers.tcp_fault import TcpProxy, tcp_proxy

DEPLOY: Final = Path(__file__).parents[2] / "config/deploy"
CLUSTER_WIDE: Final = {
    "ClusterRole": "clusterroles",
    "ClusterRoleBinding": "clusterrolebindings",
    "CustomResourceDefinition": "customresourcedefinitions",
    "EC2NodeClass": "ec2nodeclasses",
    "Namespace": "namespaces",
    "NodePool": "nodepools",
    "PriorityClass": "priorityclasses",
    "APIService": "apiservices",
}
PLURALS: Final = {"NetworkPolicy": "networkpolicies"}
MERGE: Final = "application/merge-patch+json"
NUMBERS: Final = itertools.count(1)
SHOWN_S: Final = 20.0


class KubeNamespace:
    """A namespace in which the user `scaler` has the shipped Role, a proxy before the API server, and nodes."""

    def __init__(self, plane: ControlPlane, namespace: str, proxy: TcpProxy, nodes: Kubelet) -> None:
        self.plane = plane
        self.namespace = namespace
        self.proxy = proxy
        self.nodes = nodes
        self.kubeconfig = plane.write_kubeconfig(f"{namespace}.json", SCALER, proxy.port)

    def path(self, plural: str, name: str = "", api: str = "apis/apps/v1") -> str:
        return f"/{api}/namespaces/{self.namespace}/{plural}" + (f"/{name}" if name else "")

    async def call(self, method: str, path: str, body: object = None) -> Any:
        """Send a call as the admin."""
        kind = MERGE if method == "PATCH" else "application/json"
        return await asyncio.to_thread(self.plane.call, method, path, body, kind)

    async def size(self, name: str = "llm") -> int:
        replicas: int = (await self.call("GET", self.path("deployments", name)))["spec"]["replicas"]
        return replicas

    async def set_size(self, replicas: int, name: str = "llm") -> None:
        path = self.path("deployments", name) + "?fieldManager=kubectl"
        await self.call("PATCH", path, {"spec": {"replicas": replicas}})

    async def unthrottled(self, path: str = "") -> None:
        """Return when the scaler's dry writes are accepted again: the API server detects aborted ones later."""
        path = path or self.path("deployments", "llm") + "/scale?dryRun=All"
        accepted = 0
        async with asyncio.timeout(SHOWN_S):
            while accepted < 5:
                try:
                    await asyncio.to_thread(self.plane.call, "PATCH", path, {}, MERGE, SCALER)
                    accepted += 1
                except urllib.error.HTTPError as e:
                    if e.code != 429:
                        raise
                    accepted = 0
                await asyncio.sleep(0.02)

    async def permit(self, rules: list[dict[str, Any]], role: str = "forescale") -> None:
        """Replace the rules of a Role of the user `scaler`."""
        await self.call("PATCH", self.path("roles", role, RBAC), {"rules": rules})

    async def grant(self, name: str) -> None:
        """Create the Roles of a shipped manifest, and bind them to the user `scaler`."""
        for manifest in manifests(name):
            if manifest["apiVersion"].startswith("rbac."):
                if "subjects" in manifest:
                    manifest["subjects"] = [{"kind": "User", "name": "scaler"}]
                await self.create(path_of(manifest, self.namespace), manifest)

    async def permitted(self, verb: str, resource: str, *, granted: bool) -> None:
        """Return when the API server applies the changed permission."""
        group, _, plural = resource.partition("/")
        plural, _, subresource = plural.partition("/")
        attributes = {"verb": verb, "group": group, "resource": plural, "subresource": subresource}
        spec = {"user": "scaler", "resourceAttributes": {"namespace": self.namespace, **attributes}}
        async with asyncio.timeout(SHOWN_S):
            while True:
                answer = await self.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", {"spec": spec})
                if answer["status"]["allowed"] == granted:
                    return
                await asyncio.sleep(0.02)

    async def kind(self, plural: str, kind: str, api_version: str, size: str | None, scope: str = "Namespaced") -> None:
        """Serve a custom kind, with a scale subresource at `size` if it is set."""
        group, _, served = api_version.partition("/")
        subresources: dict[str, Any] = {"status": {}}
        if size:
            subresources["scale"] = {"specReplicasPath": size, "statusReplicasPath": ".status.replicas"}
        schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        version = {"name": served, "served": True, "storage": True, "schema": schema, "subresources": subresources}
        names = {"plural": plural, "singular": kind.lower(), "kind": kind}
        definition = {
            "apiVersion": "apiextensions.k8s.io/v1",
            "kind": "CustomResourceDefinition",
            "metadata": {"name": f"{plural}.{group}"},
            "spec": {"group": group, "scope": scope, "names": names, "versions": [version]},
        }
        await self.create("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        cluster_wide = f"/apis/{api_version}/{plural}"
        await self.served(cluster_wide if scope == "Cluster" else self.path(plural, api=f"apis/{api_version}"))

    async def served(self, path: str) -> None:
        """Return when the API server serves a path."""
        async with asyncio.timeout(SHOWN_S):
            while True:
                try:
                    await self.call("GET", path)
                except urllib.error.HTTPError:
                    await asyncio.sleep(0.05)
                else:
                    return

    async def create(self, path: str, body: object) -> None:
        try:
            await self.call("POST", path, body)
        except urllib.error.HTTPError as e:
            if e.code != 409:  # another test has created it
                raise


RBAC: Final = "apis/rbac.authorization.k8s.io/v1"


def manifests(name: str = "kubernetes") -> list[dict[str, Any]]:
    """Return the objects of a shipped manifest."""
    return list(yaml.safe_load_all((DEPLOY / f"{name}.yaml").read_text()))


def path_of(manifest: dict[str, Any], namespace: str) -> str:
    """Return the path to create objects of its kind."""
    api = "api/v1" if manifest["apiVersion"] == "v1" else f"apis/{manifest['apiVersion']}"
    if plural := CLUSTER_WIDE.get(manifest["kind"]):
        return f"/{api}/{plural}"
    within = manifest["metadata"].get("namespace", namespace)
    plural = PLURALS.get(manifest["kind"], f"{manifest['kind'].lower()}s")
    return f"/{api}/namespaces/{within}/{plural}"


def left_out(sent: Any, stored: Any, where: str = "") -> list[str]:
    """Return the fields of `sent` that the API server dropped or changed."""
    if isinstance(sent, dict):
        if not isinstance(stored, dict):
            return [where]
        return [w for k, v in sent.items() for w in left_out(v, stored.get(k), f"{where}.{k}")]
    if isinstance(sent, list):
        if not isinstance(stored, list) or len(sent) != len(stored):
            return [where]
        return [w for i, (g, t) in enumerate(zip(sent, stored, strict=True)) for w in left_out(g, t, f"{where}[{i}]")]
    return [] if sent == stored else [where]


def shipped_rules(name: str = "kubernetes") -> list[dict[str, Any]]:
    """Return the rules of the Role of a shipped manifest."""
    return next(m["rules"] for m in manifests(name) if m["kind"] == "Role")


def workload(kind: str, name: str, replicas: int) -> dict[str, Any]:
    """Return a Deployment or StatefulSet of one container."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "vllm"}]}}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    if kind == "StatefulSet":
        spec |= {"serviceName": name, "podManagementPolicy": "Parallel"}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name}, "spec": spec}


@asynccontextmanager
async def kube_namespace(
    plane: ControlPlane | None = None, ready: int | None = 2, replicas: int = 2
) -> AsyncIterator[KubeNamespace]:
    """Create a namespace with Deployment `llm`. At most `ready` of the namespace's pods become ready."""
    namespace = f"test-{next(NUMBERS)}"
    async with AsyncExitStack() as stack:
        if plane is None:
            plane = await stack.enter_async_context(shared_plane())
        proxy = await stack.enter_async_context(tcp_proxy("127.0.0.1", plane.port))
        nodes = await stack.enter_async_context(kubelet(plane, namespace, ready))
        opened = KubeNamespace(plane, namespace, proxy, nodes)
        await opened.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})
        await opened.grant("kubernetes")
        await opened.grant("kubernetes-nodes")
        await opened.call("POST", opened.path("deployments"), workload("Deployment", "llm", replicas))
        await opened.permitted("patch", "apps/deployments/scale", granted=True)
        yield opened
