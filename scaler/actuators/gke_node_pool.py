"""GKE: the nodes of a node pool, set by its size or by the bounds of GKE's own autoscaler.

GKE sizes a node pool by nodes per zone, so it changes by as many nodes as it has zones: the pool's quantum. A cluster
runs one operation at a time (an upgrade takes minutes); a write meanwhile is a conflict, and the next tick retries.
Nodes that an accepted operation did not add are reported with type, zone and market.
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
"""Statuses in which another writer is detected: during an upgrade GKE itself adds and removes nodes."""


async def open_gke_node_pool(
    spec: GkeNodePool, context: Context, workload: WorkloadName, pool: PoolName
) -> GkeNodePoolResizer:
    """Open a GKE node pool. Raises `Misconfigured`."""
    cluster = await container.cluster(context, spec.project, spec.location, spec.cluster)
    reservation = await reservations.reservation(context, spec.project, spec.reservation) if spec.reservation else None
    return GkeNodePoolResizer(
        spec,
        context,
        cluster,
        await instance_groups.groups(context, spec.project),
        pool_status.StatusBuilder(await notices.board(context), spec.market, spec.accelerator or "", context.clock),
        operations.OperationFollower(context.clock, cluster.operation),
        reservation,
        await gcp_notices.listen(context, spec.project, spec.notices),
    )


class GkeNodePoolResizer:
    """The actuator's port."""

    def __init__(  # noqa: PLR0913 - its components
        self,
        spec: GkeNodePool,
        context: Context,
        cluster: container.Cluster,
        groups: instance_groups.InstanceGroups,
        builder: pool_status.StatusBuilder,
        operation: operations.OperationFollower,
        reservation: reservations.Reservation | None,
        listener: gcp_notices.GcpNoticeListener,
    ) -> None:
        self._spec = spec
        self._context = context
        self._cluster = cluster
        self._groups = groups
        self._builder = builder
        self._operation = operation
        self._reservation = reservation
        self._listener = listener
        self._writes = ForeignWriteDetector(context.clock, spec.other_writer_yield_s, f"GKE node pool {spec.name}")

    @validated("GCP")
    async def status(self) -> Fresh[PoolStatus]:
        pool = await self._pool()
        await self._operation.poll()
        groups = await asyncio.gather(*(self._groups.read(path) for path in pool.groups))
        size = sum(group.target for group in groups)
        in_progress = self._operation.requested
        desired = container.autoscaler_bounds(pool)[0] if self._spec.sized_by == "bounds" else size
        if in_progress is not None:
            desired = in_progress
        other_writer = self._writes.observe(desired) if pool.status in STEADY else None
        failure = self._operation.failure
        shortfall = pool_status.shortfall_of(
            failure, pool.shortfall, self._spec.accelerator or "", pool.zones, self._spec.market
        )
        missing = failure.requested - size if failure is not None and failure.failure.is_shortfall else 0
        if missing > 0 and self._spec.sized_by == "size":
            desired = size + missing
        details = pool_status.PoolDetails(
            desired=desired,
            version=str(size),
            other_writer=self._other_autoscaler(pool) or other_writer,
            reserved=await self._reservation.machines() if self._reservation else None,
            shortfall=shortfall,
            missing=max(0, missing),
        )
        return Fresh(self._builder.status(groups, details), pool.at)

    @validated("GCP")
    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        pool = await self._pool(urgent=True)
        if self._operation.requested is not None:
            raise Conflict(f"{self._spec.name}: the resize to {self._operation.requested} nodes is still in progress")
        heads = await asyncio.gather(*(self._groups.head(path, urgent=True) for path in pool.groups))
        size = sum(head.target for head in heads)
        if str(size) != observed.version:
            raise Conflict(f"{self._spec.name} changed from {observed.version} to {size} nodes: another writer set it")
        if replicas == size and self._spec.sized_by == "size":
            self._operation.forget()  # the nodes that an operation failed to add are abandoned
            return
        self._writes.request(size, [replicas])
        with pool_status.pool_details(self._spec.accelerator or "", ", ".join(pool.zones), self._spec.market):
            if self._spec.sized_by == "bounds":
                operation = await self._cluster.set_autoscaling(self._spec.name, self._bounds(pool, replicas))
            else:
                operation = await self._cluster.set_size(self._spec.name, replicas // max(1, len(pool.zones)))
        self._operation.begin(replicas, operation)
        self._writes.confirm(replicas)

    @validated("GCP")
    async def permits(self) -> Sequence[Permit]:
        needed = container.permissions(reserved=self._spec.reservation is not None)
        return await pool_status.check_permissions(self._context, self._spec.project, needed, self._listener)

    async def _pool(self, *, urgent: bool = False) -> container.NodePool:
        """Return the node pool.

        Raises port errors, and `Misconfigured` where it contradicts the configuration.
        """
        pool, spec = await self._cluster.pool(self._spec.name, urgent=urgent), self._spec
        zones = len(pool.zones)
        if not zones or (pool.status in STEADY and len(pool.groups) < zones):
            raise Unavailable(f"GCP {container.READ} of {spec.name}: the response lacks zones or instance groups")
        if pool.topology:
            raise Misconfigured(
                f"{spec.name} is a TPU slice of {pool.topology}, which has one size; use kind gke_tpu_slices"
            )
        if spec.sized_by == "size" and zones > 1 and spec.quantum % zones:
            places = ", ".join(pool.zones)
            raise Misconfigured(
                f"{spec.name}: quantum must be a multiple of {zones}, not {spec.quantum}: it resizes {places} alike"
            )
        if pool.spot != (spec.market == "spot"):
            bought = "spot" if pool.spot else "not spot"
            raise Misconfigured(f"{spec.name}: market must not be {spec.market}: the node pool's machines are {bought}")
        if spec.sized_by == "bounds" and not pool.autoscaled:
            raise Misconfigured(
                f"{spec.name}: sized_by: bounds requires GKE's cluster autoscaler; enable it, or set sized_by: size"
            )
        return pool

    def _other_autoscaler(self, pool: container.NodePool) -> str | None:
        return "GKE's cluster autoscaler" if pool.autoscaled and self._spec.sized_by == "size" else None

    def _bounds(self, pool: container.NodePool, minimum: int) -> dict[str, object]:
        """Return the autoscaler's bounds with another minimum: total ones, since GPUs may be in any zone."""
        maximum = max(container.autoscaler_bounds(pool)[1] or 0, minimum)
        policy = pool.autoscaling.get("locationPolicy", "ANY")
        return {"enabled": True, "totalMinNodeCount": minimum, "totalMaxNodeCount": maximum, "locationPolicy": policy}
