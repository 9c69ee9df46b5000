"""A Kubernetes API server in memory: the parts that the adapter uses, and faults that are rare on a real one.

The same contract suite runs on it and on a real server.
"""

from __future__ import annotations

import asyncio
import copy
import json
from bisect import bisect_right
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from tests.servers.site import listening

Object = dict[str, Any]
TOKEN: Final = "a-token"
VERBS: Final = {"GET": "get", "PATCH": "patch"}
REVIEWS: Final = "selfsubjectaccessreviews"


@dataclass(frozen=True, slots=True)
class Served:
    """A served kind. `size` is the path of its replicas; None: it has no scale subresource."""

    api_version: str
    kind: str
    size: tuple[str, ...] | None = ("spec", "replicas")
    namespaced: bool = True


KINDS: Final[Mapping[tuple[str, str], Served]] = {
    (served.api_version, plural): served
    for plural, served in {
        "deployments": Served("apps/v1", "Deployment"),
        "statefulsets": Served("apps/v1", "StatefulSet"),
        "daemonsets": Served("apps/v1", "DaemonSet", size=None),
        "leaderworkersets": Served("leaderworkerset.x-k8s.io/v1", "LeaderWorkerSet"),
        "engines": Served("serving.example.com/v1beta1", "Engine", ("spec", "predictor", "min")),
        "llminferenceservices": Served("serving.kserve.io/v1alpha2", "LLMInferenceService", size=None),
        "nodepools": Served("karpenter.sh/v1", "NodePool", namespaced=False),
        "nodeclaims": Served("karpenter.sh/v1", "NodeClaim", size=None, namespaced=False),
        "capacitybuffers": Served("autoscaling.x-k8s.io/v1beta1", "CapacityBuffer", size=None),
        "pods": Served("v1", "Pod", size=None),
        "nodes": Served("v1", "Node", size=None, namespaced=False),
        "events": Served("v1", "Event", size=None),
        "horizontalpodautoscalers": Served("autoscaling/v2", "HorizontalPodAutoscaler", size=None),
        "scaledobjects": Served("keda.sh/v1alpha1", "ScaledObject", size=None),
    }.items()
}


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass(slots=True)
class FakeKube:
    """The objects, and the server's faults."""

    tokens: set[str] = field(default_factory=lambda: {TOKEN})
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    """Forbidden verbs and resources, as in ("patch", "deployments/scale")."""
    throttled: bool = False
    garbage: bytes | None = None
    """Body with status 200 that replaces the JSON."""
    edit: Callable[[str, Any], Any] | None = None
    """Changes a JSON response to a path, or a watch's event (its path ends in `#`)."""
    broken: int | None = None
    """Status of every response."""
    loses: bool = False
    """Writes are applied, and their connection breaks before the response."""
    silent: bool = False
    """Watches stay open without events."""
    answers_get: asyncio.Event = field(default_factory=_set_event)
    """Reads of single objects are answered while it is set."""
    watch_s: float = 60.0
    """Maximum duration of a watch, regardless of its request. Seconds."""
    tracks_scale: bool = True
    """Whether managed fields record the writer of a scale, as API servers do from 1.22 on."""
    kinds: dict[tuple[str, str], Served] = field(default_factory=lambda: dict(KINDS))
    calls: list[tuple[str, str]] = field(default_factory=list)
    """Verb and resource of every call."""
    port: int = 0
    version: int = 100
    _objects: dict[tuple[str, str, str], Object] = field(default_factory=dict)
    _events: list[tuple[int, str, str, str, Object]] = field(default_factory=list)
    _floor: int = 100
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    # --- changes by tests

    async def put(
        self, plural: str, name: str, body: Object, namespace: str = "default", manager: str = "kubectl"
    ) -> Object:
        """Create an object, or merge `body` into it."""
        key = (plural, namespace if self._kind(plural).namespaced else "", name)
        present = self._objects.get(key)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        metadata = {"name": name, "uid": f"uid-{self.version}", "generation": 1, "creationTimestamp": now}
        fresh: Object = {"metadata": {**metadata, "namespace": namespace}, "spec": {}, "status": {}}
        merged = merge(copy.deepcopy(present) if present else fresh, body)
        if set(body) != {"status"}:
            entry = {"manager": manager, "operation": "Update", "time": datetime.now(UTC).isoformat(timespec="seconds")}
            entry["fieldsV1"] = {"f:spec": {"f:replicas": {}}}  # type: ignore[assignment]
            merged["metadata"]["managedFields"] = [entry]
        return await self._store(key, merged, "MODIFIED" if present else "ADDED")

    async def scale_as(self, manager: str, plural: str, name: str, replicas: int) -> None:
        """Write the scale subresource as another writer."""
        served = self._kind(plural)
        await self._rescale(served, (plural, "default" if served.namespaced else "", name), replicas, manager)

    async def delete(self, plural: str, name: str, namespace: str = "default") -> None:
        key = (plural, namespace if self._kind(plural).namespaced else "", name)
        await self._store(key, self._objects.pop(key), "DELETED")

    def get(self, plural: str, name: str, namespace: str = "default") -> Object:
        return self._objects[plural, namespace if self._kind(plural).namespaced else "", name]

    def all(self, plural: str, namespace: str = "default") -> list[Object]:
        where = namespace if self._kind(plural).namespaced else ""
        return [item for (of, ns, _), item in sorted(self._objects.items()) if (of, ns) == (plural, where)]

    async def compact(self) -> None:
        """Drop the history, so that earlier watches expire."""
        self.version += 1
        self._floor = self.version
        await self.drop_watches()

    async def drop_watches(self) -> None:
        """End every watch regularly."""
        async with self._changed:
            self._events.clear()
            self._floor = max(self._floor, self.version)
            self._changed.notify_all()

    def _kind(self, plural: str) -> Served:
        return next(served for (_, name), served in KINDS.items() if name == plural)

    async def _store(self, key: tuple[str, str, str], body: Object, change: str) -> Object:
        async with self._changed:
            self.version += 1
            body["metadata"]["resourceVersion"] = str(self.version)
            if change != "DELETED":
                self._objects[key] = body
            self._events.append((self.version, change, key[0], key[1], copy.deepcopy(body)))
            self._changed.notify_all()
        return body

    # --- HTTP

    async def handle(self, request: web.Request) -> web.StreamResponse:
        answer = await self._answer(request)
        if self.edit is None or not isinstance(answer, web.Response) or answer.status >= 300:
            return answer
        assert answer.text is not None
        return web.json_response(self.edit(request.path, json.loads(answer.text)), status=answer.status)

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") not in {f"Bearer {token}" for token in self.tokens}:
            return refused(401, "Unauthorized")
        if self.garbage is not None:
            return web.Response(body=self.garbage, content_type="application/json")
        if self.broken is not None:
            return web.Response(status=self.broken, text="upstream connect error")
        parts = request.path.strip("/").split("/")
        api_version, segments = ("/".join(parts[1:3]), parts[3:]) if parts[0] == "apis" else (parts[1], parts[2:])
        namespace = ""
        if segments[:1] == ["namespaces"]:
            namespace, segments = segments[1], segments[2:]
        if not segments:
            if "patch" in request.content_type:
                return refused(406, "406: Not Acceptable")
            return self._discovery(api_version)
        if segments == [REVIEWS]:
            return await self._review(request)
        plural, name, subresource = [*segments, "", "", ""][:3]
        return await self._resource(request, api_version, namespace, (plural, name, subresource))

    def _discovery(self, api_version: str) -> web.Response:
        self.calls.append(("discover", api_version))
        resources = []
        for (version, plural), served in self.kinds.items():
            if version == api_version:
                entry = {"name": plural, "namespaced": served.namespaced, "kind": served.kind}
                resources += [entry, {**entry, "name": f"{plural}/status"}]
                if served.size:
                    resources.append({**entry, "name": f"{plural}/scale", "kind": "Scale"})
        if not resources:
            return refused(404, "the server could not find the requested resource")
        return web.json_response({"kind": "APIResourceList", "resources": resources})

    async def _review(self, request: web.Request) -> web.Response:
        """Return whether an action is allowed: all but the forbidden ones."""
        self.calls.append(("create", REVIEWS))
        body = await request.json()
        of = body["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (of["resource"], of.get("subresource"))))
        allowed = (of["verb"], resource) not in self.forbidden
        return web.json_response({**body, "status": {"allowed": allowed}}, status=201)

    async def _resource(
        self, request: web.Request, api_version: str, namespace: str, segments: tuple[str, str, str]
    ) -> web.StreamResponse:
        plural, name, subresource = segments
        verb = VERBS[request.method] if name else "watch" if "watch" in request.query else "list"
        resource = f"{plural}/{subresource}" if subresource else plural
        self.calls.append((verb, resource))
        if verb == "get":
            await self.answers_get.wait()
        if self.throttled:
            return refused(429, "Too many requests, please try again later.", {"Retry-After": "1"})
        served = self.kinds.get((api_version, plural))
        if served is None or (subresource and served.size is None):
            return refused(404, "the server could not find the requested resource")
        if (verb, resource) in self.forbidden:
            where = f'in API group "{api_version.rpartition("/")[0]}" in the namespace "{namespace}"'
            return refused(403, f'{plural} is forbidden: User "me" cannot {verb} resource "{resource}" {where}')
        if verb == "watch":
            return await self._watch(request, plural, namespace)
        if self.loses and verb == "patch":
            await self._patched(request, served, (plural, namespace, name), subresource)
            assert request.transport is not None
            request.transport.abort()
        if verb == "list":
            return self._list(request, plural, namespace)
        item = self._objects.get((plural, namespace, name))
        if item is None:
            return refused(404, f'{plural} "{name}" not found')
        if verb == "patch":
            return await self._patched(request, served, (plural, namespace, name), subresource)
        return web.json_response(scale(served, item) if subresource else item)

    async def _patched(
        self, request: web.Request, served: Served, key: tuple[str, str, str], subresource: str
    ) -> web.Response:
        item = self._objects[key]
        if subresource:
            return await self._patch(request, served, key, item)
        patch = await request.json()
        for field_ in ("uid", "resourceVersion"):
            if patch.get("metadata", {}).get(field_, item["metadata"][field_]) != item["metadata"][field_]:
                return refused(409, f'Operation cannot be fulfilled on {key[0]} "{key[2]}": {field_} differs')
        return web.json_response(await self._store(key, merge(copy.deepcopy(item), patch), "MODIFIED"))

    def _list(self, request: web.Request, plural: str, namespace: str) -> web.Response:
        items = [o for key, o in self._objects.items() if key[:2] == (plural, namespace)]
        items.sort(key=lambda o: str(o["metadata"]["name"]))
        items = [o for o in items if about(o, request)]
        start, limit = int(request.query.get("continue", 0)), int(request.query.get("limit", 500))
        metadata = {"resourceVersion": str(self.version)}
        if start + limit < len(items):
            metadata["continue"] = str(start + limit)
        return web.json_response({"metadata": metadata, "items": items[start : start + limit]})

    async def _patch(
        self, request: web.Request, served: Served, key: tuple[str, str, str], item: Object
    ) -> web.Response:
        assert served.size is not None
        merged = merge(scale(served, item), await request.json())
        replicas: int = merged["spec"].get("replicas", 0)
        if merged["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
            return refused(409, f'Operation cannot be fulfilled on {key[0]} "{key[2]}": the object has been modified')
        if replicas < 0:
            return refused(422, f'Scale.autoscaling "{key[2]}" is invalid: spec.replicas: Invalid value: {replicas}')
        stored = await self._rescale(served, key, replicas, request.query.get("fieldManager", "unknown"))
        return web.json_response(scale(served, stored))

    async def _rescale(self, served: Served, key: tuple[str, str, str], replicas: int, manager: str) -> Object:
        body: Object = {}
        inner = body
        assert served.size is not None
        for step in served.size[:-1]:
            inner = inner.setdefault(step, {})
        inner[served.size[-1]] = replicas
        changed = merge(copy.deepcopy(self._objects[key]), body)
        if self.tracks_scale:
            at = datetime.now(UTC).isoformat(timespec="seconds")
            entry = {"manager": manager, "time": at, "subresource": "scale"}
            changed["metadata"]["managedFields"] = [{**entry, "fieldsV1": {"f:spec": {"f:replicas": {}}}}]
        changed["metadata"]["generation"] += 1
        return await self._store(key, changed, "MODIFIED")

    async def _watch(self, request: web.Request, plural: str, namespace: str) -> web.StreamResponse:
        since = int(request.query["resourceVersion"])
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        await response.prepare(request)
        if since < self._floor:
            gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": f"too old resource version: {since}"}
            await send(response, "ERROR", gone)
            return response
        floor = self._floor
        scanned = since
        lasts_s = min(self.watch_s, float(request.query["timeoutSeconds"]))
        try:
            async with asyncio.timeout(lasts_s):
                while self._floor == floor:
                    sent_version = self.version
                    new = self._events[bisect_right(self._events, scanned, key=first) :]
                    scanned = scanned if self.silent else sent_version
                    for version, change, of, where, body in new:
                        if version > since and (of, where) == (plural, namespace) and not self.silent:
                            since = version
                            if not about(body, request):
                                continue
                            await send(response, change, body)
                    async with self._changed:
                        await self._changed.wait_for(lambda: self.version > sent_version or self._floor != floor)  # noqa: B023
        except TimeoutError:
            await send(response, "BOOKMARK", {"metadata": {"resourceVersion": str(max(since, self.version))}})
        return response


def about(item: Object, request: web.Request) -> bool:
    """Return whether a request's field selector selects an object."""
    path, _, value = request.query.get("fieldSelector", "").partition("=")
    inner: Any = item
    for step in filter(None, path.split(".")):
        inner = inner.get(step, {})
    return not path or inner == value


def first(event: tuple[int, str, str, str, Object]) -> int:
    return event[0]


async def send(response: web.StreamResponse, change: str, body: Object) -> None:
    await response.write(json.dumps({"type": change, "object": body}).encode() + b"\n")


def scale(served: Served, item: Object) -> Object:
    """Return an object's scale subresource, without counts of 0, as Go does."""
    assert served.size is not None
    value: Any = item
    for step in served.size:
        value = value[step]
    metadata = {k: item["metadata"][k] for k in ("name", "resourceVersion")}
    present = item["status"].get("replicas", 0)
    return {
        "kind": "Scale",
        "metadata": metadata,
        "spec": {"replicas": value} if value else {},
        "status": {"replicas": present},
    }


def merge(into: Object, patch: Object) -> Object:
    """Apply a JSON merge patch (RFC 7386)."""
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict):
            into[key] = merge(dict(into.get(key) or {}), value)
        else:
            into[key] = value
    return into


def refused(status: int, message: str, headers: Mapping[str, str] | None = None) -> web.Response:
    body = {"kind": "Status", "status": "Failure", "code": status, "message": message}
    return web.json_response(body, status=status, headers=headers)


def write_kubeconfig(path: Path, port: int, token: str = TOKEN) -> Path:
    """Write a kubeconfig for a server on `port`."""
    document = {
        "clusters": [{"name": "here", "cluster": {"server": f"http://127.0.0.1:{port}"}}],
        "users": [{"name": "me", "user": {"token": token}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "current-context": "here",
    }
    path.write_text(json.dumps(document))
    return path


@asynccontextmanager
async def kube_fake() -> AsyncIterator[FakeKube]:
    """Open a listening server."""
    fake = FakeKube()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", fake.handle)
    async with listening(app) as fake.port:
        try:
            yield fake
        finally:
            await fake.drop_watches()
