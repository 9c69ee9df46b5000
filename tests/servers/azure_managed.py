"""AKS agent pools and standby pools of the Azure on 127.0.0.1."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from tests.servers.azure import Azure, refusal
from tests.servers.azure_compute import H100, NODES, ROOT, ScaleSet, nothing

CLUSTERS: Final = "Microsoft.ContainerService/managedClusters"
STANDBY: Final = "Microsoft.StandbyPool/standbyVirtualMachinePools"
AKS_OPERATION: Final = "Microsoft.ContainerService/locations/operations/read"
STANDBY_OPERATION: Final = "Microsoft.StandbyPool/locations/operationStatuses/read"


@dataclass
class AgentPool:
    """An agent pool of an AKS cluster, on the scale set of its nodes."""

    cloud: Azure
    name: str
    nodes: ScaleSet
    cluster: str = "llm"
    group: str = "llm"
    state: str = "Succeeded"
    etag: int = 1
    count: int = 0
    more: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    late: tuple[str, str] | None = None
    """Error code and message of every growth; None: success."""
    written: list[dict[str, Any]] = field(default_factory=list)

    @property
    def path(self) -> str:
        return f"{ROOT}/{self.group}/providers/{CLUSTERS}/{self.cluster}/agentPools/{self.name}"

    def register(self) -> AgentPool:
        cluster = self.path.rpartition("/agentPools/")[0].lower()
        body = {"properties": {"nodeResourceGroup": NODES, "provisioningState": "Succeeded"}}
        self.cloud.resources[cluster] = lambda _: _answer(body)
        self.cloud.resources[self.path.lower()] = self.answer
        self.cloud.resources[f"{self.path}/deleteMachines".lower()] = self.delete
        listed = f"{cluster}/agentpools"
        others = self.cloud.lists.get(listed, nothing)
        self.cloud.lists[listed] = lambda r: [*others(r), self.body()]
        return self

    def body(self) -> dict[str, Any]:
        status = {"status": {"provisioningError": self.error}} if self.error else {}
        return {
            "name": self.name,
            "properties": {
                "count": self.count,
                "vmSize": H100,
                "mode": "User",
                "type": "VirtualMachineScaleSets",
                "availabilityZones": ["1"],
                "enableAutoScaling": False,
                "nodeTaints": ["sku=gpu:NoSchedule"],
                "provisioningState": self.state,
                "eTag": f"tag-{self.etag}",
                "nodeImageVersion": "AKSUbuntu-2204gen2containerd-202611.01.0",
                **status,
                **self.more,
            },
        }

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response(self.body())
        if self.state not in {"Succeeded", "Failed"}:
            return refusal(409, "OperationNotAllowed", "Operation is not allowed: another operation is in progress.")
        if request.headers.get("If-Match", f"tag-{self.etag}") != f"tag-{self.etag}":
            return refusal(412, "EtagMismatch", "The etag does not match.")
        properties = (await request.json())["properties"]
        missing = {"vmSize", "mode", "nodeTaints"} - properties.keys()
        if missing:
            return refusal(400, "PropertyChangeNotAllowed", f"Changing properties {missing} is not allowed.")
        self.written.append(properties)
        self.state, self.error = "Scaling", None
        headers = self.cloud.begin(request, AKS_OPERATION)
        self.set(properties["count"])
        return web.json_response(self.body(), headers=headers)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Remove nodes by their names."""
        names = (await request.json())["machineNames"]
        gone = [m for m in self.nodes.machines if self.nodes.host(m) in names]
        self.nodes.drop(gone)
        self.count -= len(gone)
        self.etag += 1
        headers = self.cloud.begin(request, AKS_OPERATION)
        self.done()
        return web.json_response({}, status=202, headers=headers)

    def set(self, count: int) -> None:
        grows = count > self.count
        self.count = count
        self.etag += 1
        self.nodes.resize(count)
        if grows and self.late:
            self.fail(*self.late)
        elif self.nodes.serving or not grows:
            self.done()

    def done(self) -> None:
        self.state = "Succeeded"
        self.cloud.end()

    def fail(self, code: str, message: str, *, lost: bool = False) -> None:
        """Fail the operation; where it is `lost`, only the pool itself reports the failure."""
        self.state = "Failed"
        self.error = {"code": code, "message": message}
        self.nodes.fail(code, message)
        if lost:
            self.cloud.operations.clear()


async def _answer(body: dict[str, Any]) -> web.StreamResponse:
    return web.json_response(body)


@dataclass
class StandbyPool:
    """Standby machines of a set."""

    cloud: Azure
    name: str
    of: ScaleSet
    max_ready: int
    min_ready: int = 0
    state: str = "Deallocated"
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Machines by zone and state."""
    health: tuple[str, str] = ("HealthState/healthy", "")
    dynamic: bool = False
    fill_s: float | None = None
    """Time until missing machines are in standby; None: until the test calls `ready`. Seconds."""
    writes: int = 0
    capacity_error: tuple[str, str] | None = None

    @property
    def path(self) -> str:
        return f"{ROOT}/llm/providers/{STANDBY}/{self.name}"

    @property
    def size(self) -> int:
        return max(self.min_ready, self.max_ready - self.of.capacity)

    def register(self) -> StandbyPool:
        self.cloud.resources[self.path.lower()] = self.answer
        self.cloud.resources[f"{self.path}/runtimeViews/latest".lower()] = self.view
        return self

    def apply_resize(self) -> None:
        """Apply a growth of the set from standby, or its shrinking."""
        self.set_standby(min(self.size, self.standby_count))
        self._fill()

    @property
    def standby_count(self) -> int:
        """Machines in standby for the set."""
        return sum(zone.get(self.state, 0) for zone in self.counts.values())

    def _fill(self) -> None:
        if self.fill_s is not None:
            asyncio.get_running_loop().call_later(self.fill_s, lambda: self.set_standby(self.size))

    def set_standby(self, count: int) -> None:
        """Put `count` machines into their standby state; the others are pending."""
        self.counts = {"1": {self.state: count, "Creating": max(0, self.size - count)}}

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method != "GET":
            profile = (await request.json())["properties"]["elasticityProfile"]
            if profile["minReadyCapacity"] > profile["maxReadyCapacity"]:
                return refusal(400, "InvalidParameter", "minReadyCapacity cannot exceed maxReadyCapacity.")
            if profile["maxReadyCapacity"] > self.max_ready and self.capacity_error is not None:
                return refusal(409, *self.capacity_error)
            self.max_ready, self.min_ready = profile["maxReadyCapacity"], profile["minReadyCapacity"]
            self.writes += 1
            self.set_standby(min(self.size, self.standby_count))
            self._fill()
        profile = {
            "maxReadyCapacity": self.max_ready,
            "minReadyCapacity": self.min_ready,
            "dynamicSizing": {"enabled": self.dynamic},
        }
        properties = {
            "elasticityProfile": profile,
            "virtualMachineState": self.state,
            "attachedVirtualMachineScaleSetId": self.of.path,
            "provisioningState": "Succeeded",
        }
        headers = self.cloud.begin(request, STANDBY_OPERATION) if request.method != "GET" else {}
        self.cloud.end()
        return web.json_response({"name": self.name, "properties": properties}, headers=headers)

    async def view(self, _: web.Request) -> web.StreamResponse:
        summary = [
            {"zone": int(zone), "instanceCountsByState": [{"state": s, "count": n} for s, n in states.items()]}
            for zone, states in self.counts.items()
        ]
        code, message = self.health
        status = {"code": code, "message": message}
        return web.json_response({"properties": {"instanceCountSummary": summary, "status": status}})
