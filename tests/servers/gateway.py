"""A gateway controller: compiles the HTTPRoutes of a namespace to the routes of an Envoy, and reports their conditions.

It also generates the HTTPRoute of an AIGatewayRoute, as Envoy AI Gateway does.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.error
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

from tests.servers.gateway_kinds import AI_GATEWAY, AI_ROUTES, GATEWAY, HTTP_ROUTES
from tests.servers.kube_real import KubeNamespace

POLL_S: Final = 0.1
TYPE: Final = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
CONTROLLER: Final = "example.com/gateway-controller"


class GatewayController:
    """The controller of one namespace. `file` has Envoy's routes.

    - `paused`: it observes no change.
    - `refused`: the condition that it reports as false, with its reason and message.
    - `first_only`: it sends all requests of a rule to the first backend, as some do with InferencePools.
    """

    def __init__(self, kube: KubeNamespace, file: Path) -> None:
        self.name = CONTROLLER
        self.paused = False
        self.refused: tuple[str, str, str] | None = None
        self.first_only = False
        self.stopping = False
        self._kube = kube
        self._file = file
        self._written = ""

    async def run(self) -> None:
        while not self.stopping:
            with contextlib.suppress(urllib.error.HTTPError):  # a route was changed or removed meanwhile
                if not self.paused:
                    await self.sync()
            await asyncio.sleep(POLL_S)

    async def sync(self) -> None:
        for ai_route in await self._list(AI_ROUTES, f"{AI_GATEWAY}/v1beta1"):
            await self._generate(ai_route)
        routes = await self._list(HTTP_ROUTES, f"{GATEWAY}/v1")
        self._write([route for route in routes for route in compiled(route, first_only=self.first_only)])
        for route in routes:
            await self._report(route)

    def _write(self, routes: Sequence[dict[str, Any]]) -> None:
        host = {"name": "gateway", "domains": ["*"], "routes": routes}
        resources = [{"@type": TYPE, "name": "forescale", "virtual_hosts": [host]}]
        content = json.dumps({"version_info": str(hash(str(routes))), "resources": resources})
        if content != self._written:
            temporary = self._file.with_suffix(".new")
            temporary.write_text(content, encoding="utf-8")
            temporary.replace(self._file)
            self._written = content

    async def _report(self, route: dict[str, Any]) -> None:
        """Write the conditions of a route for its generation."""
        status, reason, message = ("True", "Accepted", "") if self.refused is None else ("False", *self.refused[1:])
        false = self.refused[0] if self.refused else ""
        generation = route["metadata"]["generation"]
        conditions = [
            {
                "type": kind,
                "status": status if kind == false else "True",
                "reason": reason,
                "message": message,
                "observedGeneration": generation,
            }
            for kind in ("Accepted", "ResolvedRefs")
        ]
        parents = [
            {"parentRef": parent, "controllerName": self.name, "conditions": conditions}
            for parent in route["spec"]["parentRefs"]
        ]
        if route.get("status") != {"parents": parents}:
            path = self._path(HTTP_ROUTES, f"{GATEWAY}/v1", route["metadata"]["name"])
            await self._kube.call("PATCH", f"{path}/status", {"status": {"parents": parents}})

    async def _generate(self, route: dict[str, Any]) -> None:
        """Create or update the HTTPRoute of an AIGatewayRoute, and report the conditions, as Envoy AI Gateway does."""
        metadata = route["metadata"]
        owner = {
            "apiVersion": f"{AI_GATEWAY}/v1beta1",
            "kind": "AIGatewayRoute",
            "name": metadata["name"],
            "uid": metadata["uid"],
            "controller": True,
        }
        rules = [
            {**rule, "backendRefs": [{k: v for k, v in ref.items() if k != "priority"} for ref in rule["backendRefs"]]}
            for rule in route["spec"]["rules"]
        ]
        body = {
            "apiVersion": f"{GATEWAY}/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": metadata["name"], "ownerReferences": [owner]},
            "spec": {"parentRefs": route["spec"]["parentRefs"], "rules": rules},
        }
        existing = {r["metadata"]["name"]: r for r in await self._list(HTTP_ROUTES, f"{GATEWAY}/v1")}
        generated = existing.get(metadata["name"])
        if generated is None:
            await self._kube.call("POST", self._path(HTTP_ROUTES, f"{GATEWAY}/v1"), body)
        elif [r["backendRefs"] for r in generated["spec"]["rules"]] != [
            [{"kind": "Service", **ref} for ref in r["backendRefs"]] for r in rules
        ]:
            path = self._path(HTTP_ROUTES, f"{GATEWAY}/v1", metadata["name"])
            await self._kube.call("PATCH", path, {"spec": body["spec"]})
        accepted = {"type": "Accepted", "status": "True", "reason": "ReconciliationSucceeded", "message": ""}
        if self.refused:
            accepted = {"type": "NotAccepted", "status": "False", "reason": self.refused[1], "message": self.refused[2]}
        if route.get("status") != {"conditions": [accepted]}:
            path = self._path(AI_ROUTES, f"{AI_GATEWAY}/v1beta1", metadata["name"])
            await self._kube.call("PATCH", f"{path}/status", {"status": {"conditions": [accepted]}})

    async def _list(self, plural: str, api: str) -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = (await self._kube.call("GET", self._path(plural, api)))["items"]
        return listed

    def _path(self, plural: str, api: str, name: str = "") -> str:
        return self._kube.path(plural, name, f"apis/{api}")


def compiled(route: dict[str, Any], *, first_only: bool = False) -> list[dict[str, Any]]:
    """Return Envoy's routes for an HTTPRoute, those with more header matches first."""
    routes = []
    for rule in route["spec"]["rules"]:
        headers = [header for match in rule.get("matches", ()) for header in match.get("headers", ())]
        matches = [{"name": header["name"], "string_match": {"exact": header["value"]}} for header in headers]
        weights = {ref["name"]: ref["weight"] for ref in rule["backendRefs"]}
        if first_only:
            weights = {name: int(name == next(iter(weights))) for name in weights}
        routes.append({"match": {"prefix": "/", "headers": matches}, **_action(weights)})
    return sorted(routes, key=lambda compiled_rule: -len(compiled_rule["match"]["headers"]))


def _action(weights: dict[str, int]) -> dict[str, Any]:
    """Return the route to backends by weight; without any weight the Gateway API requires status 500."""
    clusters = [{"name": name, "weight": weight} for name, weight in weights.items()]
    if not any(weights.values()):
        return {"direct_response": {"status": 500}}
    return {"route": {"weighted_clusters": {"clusters": clusters}, "timeout": "0s"}}


@asynccontextmanager
async def gateway_controller(kube: KubeNamespace, file: Path) -> AsyncIterator[GatewayController]:
    running = GatewayController(kube, file)
    task = asyncio.create_task(running.run())
    try:
        yield running
    finally:
        running.stopping = True
        await task
