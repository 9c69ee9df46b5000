"""GKE's API: node pools as all pools of a cluster read them, writes one at a time, and their operations."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from policies.model import Shortfall
from scaler.clouds.gcp import errors, instance_groups, reservations, session
from scaler.clouds.gcp.instance_groups import count_instances, path_of
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.response_validation import one_line, validated
from scaler.clouds.rest import Body
from scaler.clouds.singleflight import Singleflight
from scaler.ports import Context, Misconfigured, Unavailable

READ: Final = "container.clusters.get"
"""Grants node pools too."""
WRITE: Final = "container.clusters.update"
FOLLOW: Final = "container.operations.get"


def permissions(*, reserved: bool) -> list[str]:
    """Return all that a pool of nodes on GKE may call for, with the project's own."""
    needed = [READ, WRITE, FOLLOW, instance_groups.READ]
    return [*needed, reservations.READ] if reserved else needed


@dataclass(frozen=True, slots=True)
class NodePool:
    """A node pool as it was at `at`. `groups` are the paths of its instance groups, one a zone."""

    name: str
    at: float
    status: str
    message: str
    zones: tuple[str, ...]
    groups: tuple[str, ...]
    spot: bool
    autoscaling: Mapping[str, Any]
    topology: str
    shortfall: Shortfall | None

    @property
    def autoscaled(self) -> bool:
        return self.autoscaling.get("enabled") is True


class Cluster:
    """One cluster's node pools."""

    def __init__(self, container: session.GcpService, context: Context, path: str) -> None:
        self._container = container
        self._clock = context.clock
        self._path = path
        self._flights = Singleflight()
        self._shortfalls: dict[str, Shortfall] = {}

    async def aclose(self) -> None:
        await self._flights.aclose()

    async def pools(self, *, urgent: bool = False) -> Mapping[str, NodePool]:
        """Return all node pools by name; `urgent` where a write waits for them. Raises port errors."""
        return await self._flights.share(("pools", urgent), lambda: self._pools(urgent))

    async def pool(self, name: str, *, urgent: bool = False) -> NodePool:
        """Return one node pool.

        Raises port errors; `Misconfigured` where there is none of this name.
        """
        found = (await self.pools(urgent=urgent)).get(name)
        if found is None:
            raise Misconfigured(f"GCP {READ} of {self._path}: no node pool {name}")
        return found

    @validated("GCP")
    async def _pools(self, urgent: bool) -> Mapping[str, NodePool]:
        at = self._clock.now()
        path = f"/v1/{self._path}/nodePools"
        body = await self._container.call(READ, path, self._path, write=urgent, repeat=True)
        listed = body.get("nodePools", [])
        if not isinstance(listed, list) or not all(isinstance(one["name"], str) for one in listed):
            raise Unavailable(f"GCP {READ} of {self._path}: nodePools is no list of node pools")
        return {one["name"]: self._node_pool(one, at) for one in listed}

    async def set_size(self, name: str, nodes_per_zone: int) -> Body:
        """Request this many nodes in each zone; return the operation. Raises port errors."""
        return await self._post(f"nodePools/{name}:setSize", name, {"nodeCount": nodes_per_zone})

    async def set_autoscaling(self, name: str, bounds: Mapping[str, Any]) -> Body:
        """Set the bounds of GKE's own autoscaler; return the operation. Raises port errors."""
        return await self._post(f"nodePools/{name}:setAutoscaling", name, {"autoscaling": dict(bounds)})

    async def create(self, pool: Mapping[str, Any]) -> Body:
        """Create a node pool; return the operation. Raises port errors."""
        return await self._post("nodePools", str(pool["name"]), {"nodePool": dict(pool)})

    async def delete(self, name: str) -> Body:
        """Delete a node pool with its nodes; return the operation. Raises port errors."""
        path = f"/v1/{self._path}/nodePools/{name}"
        return await self._container.call(WRITE, path, name, method="DELETE", write=True)

    async def operation(self, name: str) -> Body:
        """Return an operation by its name. Raises port errors."""
        location = self._path.rpartition("/clusters/")[0]
        return await self._container.call(FOLLOW, f"/v1/{location}/operations/{name}", name)

    async def _post(self, path: str, about: str, body: object) -> Body:
        return await self._container.call(
            WRITE, f"/v1/{self._path}/{path}", about, method="POST", body=body, write=True
        )

    def _node_pool(self, one: Mapping[str, Any], at: float) -> NodePool:
        config = one.get("config") or {}
        status = str(one.get("status", ""))
        return NodePool(
            name=str(one["name"]),
            at=at,
            status=status,
            message=one_line(one.get("statusMessage", "")),
            zones=_words(one.get("locations", [])),
            groups=tuple(path_of(url) for url in _words(one.get("instanceGroupUrls", []))),
            spot=bool(config.get("spot") or config.get("preemptible")),
            autoscaling=one.get("autoscaling") or {},
            topology=str((one.get("placementPolicy") or {}).get("tpuTopology", "")),
            shortfall=self._shortfall(one, at) if status in {"ERROR", "RUNNING_WITH_ERROR"} else None,
        )

    def _shortfall(self, one: Mapping[str, Any], at: float) -> Shortfall | None:
        """Return the shortfall that a node pool in error reports.

        It has no time: that of our first read counts.
        """
        reports = [*(one.get("conditions") or ()), {"message": one.get("statusMessage", "")}]
        failure = errors.failure_of({"errors": reports})
        known = self._shortfalls.get(str(one["name"]))
        if not failure.is_shortfall:
            return None
        if known is None or known.reason != failure.message:
            known = self._shortfalls[str(one["name"])] = failure.shortfall(at)
        return known


def bounds(pool: NodePool) -> tuple[int, int | None]:
    """Return the least and the most nodes that GKE's autoscaler keeps to.

    None where it has no most.
    """
    least, most = _bound(pool, "totalMinNodeCount"), _bound(pool, "totalMaxNodeCount")
    if least is None and most is None:
        each = max(1, len(pool.zones))
        least, most = _bound(pool, "minNodeCount"), _bound(pool, "maxNodeCount")
        return (least or 0) * each, None if most is None else most * each
    return least or 0, most


def _words(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"{values!r} is no list of words")
    return tuple(values)


def _bound(pool: NodePool, key: str) -> int | None:
    return count_instances(f"node pool {pool.name}", key, pool.autoscaling)


async def cluster(context: Context, project: GcpProject, location: str, name: str) -> Cluster:
    """Return the cluster that all its pools share. Raises `Misconfigured`."""

    container = await session.service(context, project, "container")
    path = f"projects/{project.id}/locations/{location}/clusters/{name}"

    return await context.shared(
        ("gcp", "cluster", project, location, name), lambda: aclosing(Cluster(container, context, path))
    )
