"""KServe on a control plane: its kinds, with the fields in use, and its controller's treatment of a child's size.

The controller follows the source of KServe 0.20. It creates the child of each set of replicas, writes the child's size
where the object has one, and otherwise leaves it alone. Routes, storage and autoscalers are absent.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from hashlib import md5
from typing import Any, Final

import aiohttp

from tests.servers.control_plane import ADMIN, ControlPlane
from tests.servers.kube_real import KubeNamespace, workload
from tests.servers.prometheus_operator import TEXT, definition, items, record

GROUP: Final = "serving.kserve.io"
SERVICE: Final = f"{GROUP}/v1beta1"
LLM_SERVICE: Final = f"{GROUP}/v1alpha2"
LWS: Final = "leaderworkerset.x-k8s.io/v1"
MANAGER: Final = "manager"
"""Field manager of KServe's controller: the name of its program."""
POLL_S: Final = 0.1
LONGEST_NAME: Final = 63
COUNT: Final = {"type": "integer", "format": "int32", "minimum": 0}
ANY: Final = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
CONDITION: Final = record(
    ("type", "status"),
    type=TEXT,
    status=TEXT,
    reason=TEXT,
    message=TEXT,
    lastTransitionTime={"type": "string", "format": "date-time"},
)
FAILURE: Final = record(reason=TEXT, message=TEXT, time={"type": "string", "format": "date-time"})
MODEL_STATUS: Final = record(transitionStatus=TEXT, lastFailureInfo=FAILURE)
REFERENCE: Final = record(("kind", "name"), apiGroup=TEXT, kind=TEXT, name=TEXT, readyReplicas=COUNT)
SCALING: Final = record(minReplicas={**COUNT, "minimum": 1}, maxReplicas=COUNT, keda=ANY)
SIZED: Final = {"replicas": COUNT, "scaling": SCALING, "worker": ANY}
EXCLUSIVE: Final = {"not": {"required": ["replicas", "scaling"]}}
"""KServe's rule in CEL, in a form that older API servers check too."""
ROUTER: Final = record(route=record(group=TEXT, weight={**COUNT, "maximum": 1_000_000}))
MEMBER: Final = record(("name", "weight"), name=TEXT, weight=COUNT, stopped={"type": "boolean"})
GROUP_STATUS: Final = record(group=record(members=items(MEMBER)))
STATUS: Final = {"observedGeneration": {"type": "integer"}, "conditions": items(CONDITION)}


def definitions() -> list[dict[str, Any]]:
    """Return the CustomResourceDefinitions. The API server removes every field that they lack."""
    predictor = record(minReplicas=COUNT, maxReplicas=COUNT, model=ANY, workerSpec=ANY)
    service = definition(GROUP, "InferenceService", "inferenceservices", record(predictor=predictor))
    served(service, "v1beta1", {**STATUS, "deploymentMode": TEXT, "modelStatus": MODEL_STATUS})
    prefill = {**record((), **SIZED), **EXCLUSIVE}
    llm_spec = {**record((), **SIZED, model=ANY, prefill=prefill, router=ROUTER), **EXCLUSIVE}
    llm = definition(GROUP, "LLMInferenceService", "llminferenceservices", llm_spec)
    workloads = record(primary=REFERENCE, prefill=REFERENCE)
    served(llm, "v1alpha2", {**STATUS, "workloads": workloads, "router": GROUP_STATUS})
    return [service, llm]


def served(crd: dict[str, Any], version: str, status: dict[str, Any]) -> None:
    """Set the version and the status of a definition."""
    (only,) = crd["spec"]["versions"]
    only |= {"name": version, "subresources": {"status": {}}}
    only["schema"]["openAPIV3Schema"]["properties"]["status"] = record(**status)


def child_name(parent: str, suffix: str) -> str:
    """Return the name of a child; one that is too long ends with a hash, as Knative's `kmeta.ChildName` makes it."""
    if len(parent) + len(suffix) <= LONGEST_NAME:
        return parent + suffix
    digest = md5((parent + suffix).encode(), usedforsecurity=False).hexdigest()
    return parent[: LONGEST_NAME - len(digest) - len(suffix)] + digest + suffix


@dataclass(slots=True)
class Controller:
    """KServe's controller for one namespace.

    - `refused`: why it cannot apply the spec, by the object's name.
    - `model_failure`: the failure of loading the model, by the object's name.
    - `disaggregated`: LLMInferenceServices whose replicas are in a DisaggregatedSet.
    """

    http: aiohttp.ClientSession
    namespace: str
    stopping: bool = False
    refused: dict[str, str] = field(default_factory=dict)
    model_failure: dict[str, dict[str, Any]] = field(default_factory=dict)
    base_replicas: dict[str, int] = field(default_factory=dict)
    disaggregated: set[str] = field(default_factory=set)
    cycle: asyncio.Lock = field(default_factory=asyncio.Lock)
    """Held while the objects are reconciled once."""

    async def run(self) -> None:
        """Reconcile all objects until `stopping`."""
        while not self.stopping:
            # the control plane may be down for a while
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                await self._reconcile()
            await asyncio.sleep(POLL_S)

    async def _reconcile(self) -> None:
        async with self.cycle:
            for parent in await self._list(SERVICE, "inferenceservices"):
                await self._service(parent)
            services = await self._list(LLM_SERVICE, "llminferenceservices")
            for parent in services:
                await self._llm_service(parent, _members(services, _group_of(parent)))

    async def refuse(self, name: str, why: str) -> None:
        """Leave the children of an object alone from now on."""
        async with self.cycle:
            self.refused[name] = why

    async def _service(self, parent: dict[str, Any]) -> None:
        name, annotations = parent["metadata"]["name"], parent["metadata"].get("annotations", {})
        if annotations.get(f"{GROUP}/deploymentMode") == "Knative":
            await self._report(SERVICE, "inferenceservices", parent, {"deploymentMode": "Knative"})
            return
        replicas = parent["spec"].get("predictor", {}).get("minReplicas", 1)
        writes = annotations.get(f"{GROUP}/autoscalerClass") == "none"
        child = await self._child(parent, "Deployment", f"{name}-predictor", replicas, writes=writes)
        status: dict[str, Any] = {"deploymentMode": "Standard", "modelStatus": {"transitionStatus": "UpToDate"}}
        if name in self.model_failure:
            failed = {"transitionStatus": "BlockedByFailedLoad", "lastFailureInfo": self.model_failure[name]}
            status["modelStatus"] = failed
        await self._report(SERVICE, "inferenceservices", parent, status, child)

    async def _llm_service(self, parent: dict[str, Any], members: list[dict[str, Any]]) -> None:
        name, spec = parent["metadata"]["name"], parent["spec"]
        workloads: dict[str, Any] = {}
        child: dict[str, Any] | None = None
        parts = {"primary": (spec, ""), "prefill": (spec.get("prefill"), "-prefill")}
        for part, (sized, suffix) in parts.items():
            if sized is None:
                continue
            multi_node = "worker" in sized
            kind = "LeaderWorkerSet" if multi_node else "Deployment"
            full = child_name(name, f"-kserve{'-mn' if multi_node else ''}{suffix}")
            replicas = sized.get("replicas", self.base_replicas.get(name))
            child = await self._child(parent, kind, full, replicas, writes=replicas is not None)
            if child is not None:
                kind = "DisaggregatedSet" if name in self.disaggregated else kind
                ready = child.get("status", {}).get("readyReplicas", 0)
                workloads[part] = {"apiGroup": "apps", "kind": kind, "name": full, "readyReplicas": ready}
        status: dict[str, Any] = {"workloads": workloads}
        if members:
            status["router"] = {"group": {"members": members}}
        await self._report(LLM_SERVICE, "llminferenceservices", parent, status, child)

    async def _child(
        self, parent: dict[str, Any], kind: str, name: str, replicas: int | None, *, writes: bool
    ) -> dict[str, Any] | None:
        """Create, resize or delete a child; return the present one."""
        plural = f"{kind.lower()}s"
        path = self._path("apps/v1" if kind == "Deployment" else LWS, plural)
        stopped = _is_stopped(parent)
        child = await self._call("GET", f"{path}/{name}")
        if stopped or parent["metadata"]["name"] in self.refused:
            if stopped and child is not None:
                await self._call("DELETE", f"{path}/{name}")
            return None if stopped else child
        if child is None:
            body = workload(kind, name, 1 if replicas is None else replicas)
            if kind == "LeaderWorkerSet":
                body |= {"apiVersion": LWS, "spec": {"replicas": body["spec"]["replicas"]}}
            owner = {key: parent["metadata"][key] for key in ("name", "uid")}
            owner |= {"apiVersion": parent["apiVersion"], "kind": parent["kind"], "controller": True}
            body["metadata"]["ownerReferences"] = [owner]
            return await self._call("POST", path, body)
        if writes and child["spec"]["replicas"] != replicas:
            return await self._call("PATCH", f"{path}/{name}", {"spec": {"replicas": replicas}})
        return child

    async def _report(
        self, version: str, plural: str, parent: dict[str, Any], status: dict[str, Any], child: Any = None
    ) -> None:
        """Write an object's status where it changed."""
        metadata = parent["metadata"]
        available = child is not None and child.get("status", {}).get("readyReplicas", 0) > 0
        ready = {"type": "Ready", "status": "True" if available else "False"}
        if metadata["name"] in self.refused:
            ready |= {"status": "False", "reason": "CombinePresetsFailed", "message": self.refused[metadata["name"]]}
        elif not available:
            ready |= {"reason": "MinimumReplicasUnavailable", "message": "no replica is available"}
        before = parent.get("status", {})
        (old,) = before.get("conditions") or [{}]
        moved = (old.get("status"), old.get("reason")) != (ready["status"], ready.get("reason"))
        ready["lastTransitionTime"] = "2026-11-30T12:00:00Z" if moved else old["lastTransitionTime"]
        status = {**status, "observedGeneration": metadata["generation"], "conditions": [ready]}
        if any(before.get(key) != value for key, value in status.items()):
            await self._call("PATCH", f"{self._path(version, plural)}/{metadata['name']}/status", {"status": status})

    # --- calls as the admin

    def _path(self, version: str, plural: str) -> str:
        return f"/apis/{version}/namespaces/{self.namespace}/{plural}"

    async def _list(self, version: str, plural: str) -> list[dict[str, Any]]:
        listed = await self._call("GET", self._path(version, plural))
        kind = {"inferenceservices": "InferenceService"}.get(plural, "LLMInferenceService")
        return [{"apiVersion": version, "kind": kind, **item} for item in (listed or {}).get("items", [])]

    async def _call(self, method: str, path: str, body: object = None) -> dict[str, Any] | None:
        """Return the response; None where the object is absent, or was changed meanwhile."""
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        query = {} if method == "GET" else {"fieldManager": MANAGER}
        headers = {"Content-Type": kind}
        async with self.http.request(method, path, json=body, headers=headers, params=query) as answer:
            if answer.status in {404, 409}:
                return None
            assert answer.status < 300, await answer.text()
            response: dict[str, Any] = await answer.json()
            return response


def _is_stopped(parent: dict[str, Any]) -> bool:
    return str(parent["metadata"].get("annotations", {}).get(f"{GROUP}/stop")).lower() == "true"


def _route_of(parent: dict[str, Any]) -> dict[str, Any]:
    route: dict[str, Any] = parent["spec"].get("router", {}).get("route", {})
    return route


def _group_of(parent: dict[str, Any]) -> str | None:
    return _route_of(parent).get("group")


def _members(services: list[dict[str, Any]], group: str | None) -> list[dict[str, Any]]:
    """Return the members of a routing group with the weights in use: a stopped one has none."""
    return [
        {
            "name": service["metadata"]["name"],
            "weight": 0 if _is_stopped(service) else _route_of(service).get("weight", 1),
            "stopped": _is_stopped(service),
        }
        for service in services
        if group is not None and _group_of(service) == group
    ]


async def install(namespace: KubeNamespace) -> None:
    """Serve KServe's kinds and LeaderWorkerSets, and bind the shipped Role for them to the user `scaler`."""
    path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    for crd in definitions():
        await namespace.create(path, copy.deepcopy(crd))
    await namespace.kind("leaderworkersets", "LeaderWorkerSet", LWS, ".spec.replicas")
    for version, plural in ((SERVICE, "inferenceservices"), (LLM_SERVICE, "llminferenceservices")):
        await namespace.served(namespace.path(plural, api=f"apis/{version}"))
    await namespace.grant("kubernetes-kserve")
    await namespace.permitted("patch", f"{GROUP}/llminferenceservices", granted=True)


@asynccontextmanager
async def controller(plane: ControlPlane, namespace: str) -> AsyncIterator[Controller]:
    """Run KServe's controller for one namespace."""
    trust = ssl.create_default_context(cafile=str(plane.certificate))
    connector = aiohttp.TCPConnector(ssl=trust)
    headers, timeout = {"Authorization": f"Bearer {ADMIN}"}, aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(plane.url, headers=headers, connector=connector, timeout=timeout) as http:
        running = Controller(http, namespace)
        task = asyncio.create_task(running.run())
        try:
            yield running
        finally:
            running.stopping = True  # a call that is cancelled while it connects leaves its socket open
            await task
