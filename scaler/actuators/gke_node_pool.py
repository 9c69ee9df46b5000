"""GKE: the nodes of a node pool, by its size, or by the bounds of GKE's own autoscaler.

GKE sizes a node pool by nodes a zone, so that it grows and shrinks by as many nodes as it has zones: the pool's
quantum. One operation runs on a cluster at a time (an upgrade for minutes); a write meanwhile is a conflict, for the
next turn. What an operation accepted and did not bring is told with type, zone and market.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from policies.model import Fresh, PoolName, PoolStatus, WorkloadName
from scaler.clouds import interruptions as notices
from scaler.clouds.foreign_writes import ForeignWriteDetector
from scaler.clouds.gcp import container, instance_groups, operations, pool_status, reservations
from scaler.clouds.gcp import notices as gcp_notices
from scaler.clouds.response_validation import validated
from scaler.config.kinds.gcp_pools import GkeNodePool
from scaler.ports import Conflict, Context, Misconfigured, Permit, Unavailable

STEADY: Final = frozenset({"RUNNING", "RUNNING_WITH_ERROR"})
"""While GKE upgrades a node pool it adds nodes and takes them away: that is nobody's size."""


async def open_gke_node_pool(
    spec: GkeNodePool, context: Context, workload: WorkloadName, pool: PoolName
) -> GkeNodePoolResizer:
    """Open a GKE node pool. Raises `Misconfigured`."""
    cluster = await container.cluster(context, spec.project, spec.location, spec.cluster)
    held = await reservations.reservation(context, spec.project, spec.reservation) if spec.reservation else None
    return GkeNodePoolResizer(
        spec,
        context,
        cluster,
        await instance_groups.groups(context, spec.project),
        pool_status.StatusBuilder(await notices.board(context), spec.market, spec.accelerator or "", context.clock),
        operations.OperationFollower(context.clock, cluster.operation),
        held,
        await gcp_notices.listen(context, spec.project, spec.notices),
    )


class GkeNodePoolResizer:
    """The actuator's port."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        spec: GkeNodePool,
        context: Context,
        cluster: container.Cluster,
        groups: instance_groups.InstanceGroups,
        teller: pool_status.StatusBuilder,
        following: operations.OperationFollower,
        held: reservations.Reservation | None,
        listener: gcp_notices.GcpNoticeListener,
    ) -> None:
        self._spec = spec
        self._context = context
        self._cluster = cluster
        self._groups = groups
        self._teller = teller
        self._following = following
        self._held = held
        self._listener = listener
        self._writes = ForeignWriteDetector(context.clock, spec.other_writer_yield_s, f"GKE node pool {spec.name}")

    @validated("GCP")
    async def status(self) -> Fresh[PoolStatus]:
        pool = await self._pool()
        await self._following.poll()
        groups = await asyncio.gather(*(self._groups.read(path) for path in pool.groups))
        size = sum(group.target for group in groups)
        under_way = self._following.requested
        desired = container.bounds(pool)[0] if self._spec.sized_by == "bounds" else size
        if under_way is not None:
            desired = under_way
        rival = self._writes.observe(desired) if pool.status in STEADY else None
        failure = self._following.failure
        short = pool_status.shortfall_of(
            failure, pool.shortfall, self._spec.accelerator or "", pool.zones, self._spec.market
        )
        lost = failure.requested - size if failure is not None and failure.failure.is_shortfall else 0
        if lost > 0 and self._spec.sized_by == "size":
            desired = size + lost
        told = pool_status.PoolDetails(
            desired=desired,
            version=str(size),
            other_writer=self._foreign(pool) or rival,
            reserved=await self._held.held() if self._held else None,
            shortfall=short,
            missing=max(0, lost),
        )
        return Fresh(self._teller.status(groups, told), pool.at)

    @validated("GCP")
    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        pool = await self._pool(urgent=True)
        if self._following.requested is not None:
            raise Conflict(f"{self._spec.name}: the operation for {self._following.requested} nodes is still under way")
        heads = await asyncio.gather(*(self._groups.head(path, urgent=True) for path in pool.groups))
        size = sum(head.target for head in heads)
        if str(size) != seen.version:
            raise Conflict(f"{self._spec.name} was {seen.version} nodes; another writer set it to {size}")
        if replicas == size and self._spec.sized_by == "size":
            self._following.forget()  # what an operation failed to bring is given up
            return
        self._writes.request(size, [replicas])
        with pool_status.pool_details(self._spec.accelerator or "", ", ".join(pool.zones), self._spec.market):
            if self._spec.sized_by == "bounds":
                operation = await self._cluster.set_autoscaling(self._spec.name, self._bounds(pool, replicas))
            else:
                operation = await self._cluster.set_size(self._spec.name, replicas // max(1, len(pool.zones)))
        self._following.begin(replicas, operation)
        self._writes.confirm(replicas)

    @validated("GCP")
    async def permits(self) -> Sequence[Permit]:
        needed = container.permissions(reserved=self._spec.reservation is not None)
        return await pool_status.check_permissions(self._context, self._spec.project, needed, self._listener)

    async def _pool(self, *, urgent: bool = False) -> container.NodePool:
        """The node pool, as it is configured. Raises port errors."""
        pool, spec = await self._cluster.pool(self._spec.name, urgent=urgent), self._spec
        zones = len(pool.zones)
        if not zones or (pool.status in STEADY and len(pool.groups) < zones):
            raise Unavailable(f"GCP {container.READ} of {spec.name}: an answer without its zones and their groups")
        if pool.topology:
            raise Misconfigured(f"{spec.name} is a TPU slice of {pool.topology}, whole or nothing: use gke_tpu_slices")
        if spec.sized_by == "size" and zones > 1 and spec.quantum % zones:
            places = ", ".join(pool.zones)
            raise Misconfigured(f"{spec.name}: quantum is {spec.quantum}; set {zones}: it has nodes in {places} alike")
        if pool.spot != (spec.market == "spot"):
            bought = "spot" if pool.spot else "not spot"
            raise Misconfigured(f"{spec.name}: market is {spec.market}, but the node pool's machines are {bought}")
        if spec.sized_by == "bounds" and not pool.autoscaled:
            raise Misconfigured(f"{spec.name}: sized_by is bounds, but GKE's autoscaler is off for this node pool")
        return pool

    def _foreign(self, pool: container.NodePool) -> str | None:
        return "GKE's cluster autoscaler" if pool.autoscaled and self._spec.sized_by == "size" else None

    def _bounds(self, pool: container.NodePool, least: int) -> dict[str, object]:
        """The autoscaler's bounds with another least: in all, since GPUs are wherever they are."""
        most = max(container.bounds(pool)[1] or 0, least)
        policy = pool.autoscaling.get("locationPolicy", "ANY")
        return {"enabled": True, "totalMinNodeCount": least, "totalMaxNodeCount": most, "locationPolicy": policy}
