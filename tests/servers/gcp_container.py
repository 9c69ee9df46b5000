"""GKE's clusters, node pools and operations, with its REST API. Their machines are Compute's groups."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.servers.gcp_compute import COMPUTE, Compute, Mig, found, stamp


@dataclass
class Pool:
    """A node pool, with one group per zone."""

    name: str
    zones: tuple[str, ...]
    migs: list[Mig]
    spot: bool = False
    topology: str = ""
    autoscaling: dict[str, Any] = field(default_factory=dict)
    status: str = "RUNNING"
    message: str = ""
    conditions: list[dict[str, str]] = field(default_factory=list)
    written: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        return sum(mig.target for mig in self.migs)

    def about(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "status": self.status,
            "statusMessage": self.message,
            "conditions": self.conditions,
            "locations": list(self.zones),
            "instanceGroupUrls": [COMPUTE + mig.path for mig in self.migs],
            "config": {"spot": self.spot, "machineType": "a3-highgpu-8g"},
            "autoscaling": self.autoscaling,
            "placementPolicy": {"tpuTopology": self.topology} if self.topology else {},
        }


class Container:
    """Clusters by path, each with its node pools; operations by path."""

    def __init__(self, compute: Compute) -> None:
        self._compute = compute
        self.pools: dict[str, dict[str, Pool]] = {}
        self.operations: dict[str, dict[str, Any]] = {}
        self.writes = 0
        self.exhausted = False
        """Refuse creations for missing capacity."""
        self.slow = False
        """Operations last until `finish`."""
        self.fails: dict[str, Any] | None = None
        """Error of all operations; None: success."""
        self._numbers = itertools.count(1)

    def add(self, cluster: str, name: str, zones: tuple[str, ...], *, nodes_per_zone: int = 0, **more: Any) -> Pool:
        """Add a node pool to the cluster at this path."""
        project = cluster.split("/")[1]
        migs = [self._compute.add(Mig(project, zone, f"gke-{name}-{zone}-grp", (zone,))) for zone in zones]
        for mig in migs:
            mig.resize(nodes_per_zone)
            mig.boot()
        pool = self.pools.setdefault(cluster, {})[name] = Pool(name, zones, migs, **more)
        return pool

    async def list(self, request: web.Request) -> web.Response:
        cluster = self._cluster(request)
        return web.json_response({"nodePools": [pool.about() for pool in self.pools[cluster].values()]})

    async def operation(self, request: web.Request) -> web.Response:
        return web.json_response(found(self.operations, request.path.removeprefix("/v1/"), "operations"))

    async def write(self, request: web.Request) -> web.Response:
        """Handle a method of a node pool, named after the colon, or its deletion."""
        cluster = self._cluster(request)
        name, _, method = request.path.rpartition("/")[2].partition(":")
        if name not in self.pools[cluster]:
            return status(404, "NOT_FOUND", f"Not found: {cluster}/nodePools/{name}.")
        pool = self.pools[cluster][name]
        if busy := self._busy(cluster):
            return busy
        self.writes += 1
        body = await request.json() if method else {}
        if method == "setSize":
            for mig in pool.migs:
                mig.resize(int(body["nodeCount"]))
        elif method == "setAutoscaling":
            pool.autoscaling = body["autoscaling"]
        else:
            del self.pools[cluster][name]
        return self._begin(cluster, method or "DELETE_NODE_POOL")

    async def create(self, request: web.Request) -> web.Response:
        cluster, body = self._cluster(request), (await request.json())["nodePool"]
        if body["name"] in self.pools[cluster]:
            return status(409, "ALREADY_EXISTS", f"Already exists: {cluster}/nodePools/{body['name']}.")
        if busy := self._busy(cluster):
            return busy
        if self.exhausted:
            text = f"The zone '{body['locations'][0]}' does not have enough resources available to fulfill the request."
            return status(429, "RESOURCE_EXHAUSTED", text)
        self.writes += 1
        topology = body.get("placementPolicy", {}).get("tpuTopology", "")
        pool = self.add(cluster, body["name"], tuple(body["locations"]), spot=body["config"]["spot"], topology=topology)
        pool.written = body
        pool.migs[0].resize(body["initialNodeCount"])
        return self._begin(cluster, "CREATE_NODE_POOL")

    def _busy(self, cluster: str) -> web.Response | None:
        under_way = [o for o in self.operations.values() if o["status"] == "RUNNING" and o["cluster"] == cluster]
        if not under_way:
            return None
        text = f"Cluster is running incompatible operation {under_way[0]['name']}."
        info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "CLUSTER_ALREADY_HAS_OPERATION"}
        return status(400, "FAILED_PRECONDITION", text, details=[info])

    def begin(self, cluster: str, kind: str = "UPGRADE_NODES") -> None:
        """Begin another client's operation, such as an upgrade."""
        slow, self.slow = self.slow, True
        self._begin(cluster, kind)
        self.slow = slow

    def _begin(self, cluster: str, kind: str) -> web.Response:
        location = cluster.rpartition("/clusters/")[0]
        name = f"operation-{next(self._numbers)}"
        one = {"name": name, "operationType": kind, "status": "RUNNING", "cluster": cluster}
        self.operations[f"{location}/operations/{name}"] = one
        answer = web.json_response(one)
        if not self.slow:
            self._end(one)
        return answer

    def finish(self) -> None:
        """End the operations in progress."""
        for one in self.operations.values():
            if one["status"] == "RUNNING":
                self._end(one)

    def _end(self, one: dict[str, Any]) -> None:
        one.update(status="DONE", endTime=stamp())
        if self.fails is not None:
            one["error"] = self.fails

    def _cluster(self, request: web.Request) -> str:
        path = request.path.removeprefix("/v1/").partition("/nodePools")[0]
        found(self.pools, path, "clusters")
        return path


def hosts(topology: str, chips_per_host: int = 4) -> int:
    return math.prod(int(side) for side in topology.split("x")) // chips_per_host


def status(code: int, name: str, message: str, **more: Any) -> web.Response:
    """Return an error in the format of `google.rpc.Status`."""
    return web.json_response({"error": {"code": code, "message": message, "status": name, **more}}, status=code)
