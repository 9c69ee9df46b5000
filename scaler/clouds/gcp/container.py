"""GKE's API: a cluster's node pools, their writes and operations.

One read serves all pools of a cluster.
"""

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
"""Also grants reading node pools."""
WRITE: Final = "container.clusters.update"
FOLLOW: Final = "container.operations.get"


def permissions(*, reserved: bool) -> list[str]:
    """Return the permissions that a pool of GKE nodes needs."""
    needed = [READ, WRITE, FOLLOW, instance_groups.READ]
    return [*needed, reservations.READ] if reserved else needed


@dataclass(frozen=True, slots=True)
class NodePool:
    """A node pool as it was at `at`.

    `groups` are the paths of its instance groups, one per zone.
    """

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
        """Return all node pools by name. `urgent`: a write waits for them. Raises port errors."""
        return await self._flights.share(("pools", urgent), lambda: self._pools(urgent))

    async def pool(self, name: str, *, urgent: bool = False) -> NodePool:
        """Return one node pool. Raises port errors; `Misconfigured` where it does not exist."""
        pools = await self.pools(urgent=urgent)
        if name not in pools:
            raise Misconfigured(f"GCP {READ} of {self._path}: there is no node pool {name}")
        return pools[name]

    @validated("GCP")
    async def _pools(self, urgent: bool) -> Mapping[str, NodePool]:
        requested_at = self._clock.now()
        path = f"/v1/{self._path}/nodePools"
        body = await self._container.call(READ, path, self._path, write=urgent, repeat=True)
        pools = body.get("nodePools", [])
        if not isinstance(pools, list) or not all(isinstance(pool["name"], str) for pool in pools):
            raise Unavailable(f"GCP {READ} of {self._path}: malformed response: nodePools is not a list")
        return {pool["name"]: self._node_pool(pool, requested_at) for pool in pools}

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
        """Return an operation. Raises port errors."""
        location = self._path.rpartition("/clusters/")[0]
        return await self._container.call(FOLLOW, f"/v1/{location}/operations/{name}", name)

    async def _post(self, path: str, about: str, body: object) -> Body:
        return await self._container.call(
            WRITE, f"/v1/{self._path}/{path}", about, method="POST", body=body, write=True
        )

    def _node_pool(self, body: Mapping[str, Any], requested_at: float) -> NodePool:
        config = body.get("config") or {}
        status = str(body.get("status", ""))
        return NodePool(
            name=str(body["name"]),
            at=requested_at,
            status=status,
            message=one_line(body.get("statusMessage", "")),
            zones=_texts(body.get("locations", [])),
            groups=tuple(path_of(url) for url in _texts(body.get("instanceGroupUrls", []))),
            spot=bool(config.get("spot") or config.get("preemptible")),
            autoscaling=body.get("autoscaling") or {},
            topology=str((body.get("placementPolicy") or {}).get("tpuTopology", "")),
            shortfall=self._shortfall(body, requested_at) if status in {"ERROR", "RUNNING_WITH_ERROR"} else None,
        )

    def _shortfall(self, body: Mapping[str, Any], requested_at: float) -> Shortfall | None:
        """Return the shortfall that a node pool in error reports.

        It has the time of its first read, since GKE reports no time.
        """
        reports = [*(body.get("conditions") or ()), {"message": body.get("statusMessage", "")}]
        failure = errors.failure_of({"errors": reports})
        reported = self._shortfalls.get(str(body["name"]))
        if not failure.is_shortfall:
            return None
        if reported is None or reported.reason != failure.message:
            reported = self._shortfalls[str(body["name"])] = failure.shortfall(requested_at)
        return reported


def autoscaler_bounds(pool: NodePool) -> tuple[int, int | None]:
    """Return the minimum and maximum nodes of GKE's autoscaler; None without a maximum.

    Example: `minNodeCount` 1 and `maxNodeCount` 4 count per zone: (3, 12) nodes in three zones.
    """
    minimum, maximum = _bound(pool, "totalMinNodeCount"), _bound(pool, "totalMaxNodeCount")
    if minimum is None and maximum is None:
        zones = max(1, len(pool.zones))
        minimum, maximum = _bound(pool, "minNodeCount"), _bound(pool, "maxNodeCount")
        return (minimum or 0) * zones, None if maximum is None else maximum * zones
    return minimum or 0, maximum


def _texts(values: object) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise TypeError(f"malformed response: {values!r} is not a list of texts")
    return tuple(values)


def _bound(pool: NodePool, key: str) -> int | None:
    return count_instances(f"node pool {pool.name}", key, pool.autoscaling)


async def cluster(context: Context, project: GcpProject, location: str, name: str) -> Cluster:
    """Return the cluster client that all its pools share. Raises `Misconfigured`."""
    container = await session.service(context, project, "container")
    path = f"projects/{project.id}/locations/{location}/clusters/{name}"

    return await context.shared(
        ("gcp", "cluster", project, location, name), lambda: aclosing(Cluster(container, context, path))
    )
