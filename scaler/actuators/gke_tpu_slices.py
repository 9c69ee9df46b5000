"""GKE: TPU slices of one shape. A replica is a slice with all its hosts.

A slice is a node pool with a TPU topology. Scale-out creates node pools and scale-in deletes them: failed ones first,
then those not ready, then those with an interruption pending. GKE runs several creations at a time or only one: the
next ticks retry what it refuses as a conflict.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Final

from policies.model import Fresh, PoolName, PoolStatus, Shortfall, WorkloadName
from scaler.clouds import interruptions as notices
from scaler.clouds.gcp import container, instance_groups, pool_status, reservations, tpu_slices
from scaler.clouds.gcp import notices as gcp_notices
from scaler.clouds.gcp.operations import OperationFollower
from scaler.clouds.gcp.tpu_slices import Slice, Slices
from scaler.clouds.response_validation import validated
from scaler.clouds.rest import Body
from scaler.config.kinds.gcp_pools import GkeTpuSlices
from scaler.ports import Conflict, Context, Permit, PortError

SHOWN_S: Final = 120.0
"""Maximum time until an accepted creation or deletion shows in the cluster's list. Seconds."""
SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)


async def open_gke_tpu_slices(
    spec: GkeTpuSlices, context: Context, workload: WorkloadName, pool: PoolName
) -> GkeTpuSlicesResizer:
    """Open the TPU slices of one shape. Raises `Misconfigured`."""
    cluster = await container.cluster(context, spec.project, spec.location, spec.cluster)
    groups = await instance_groups.groups(context, spec.project)
    board = await notices.board(context)
    reservation = await reservations.reservation(context, spec.project, spec.reservation) if spec.reservation else None
    slices = Slices(cluster, groups, board, spec.name, spec.hosts)
    listener = await gcp_notices.listen(context, spec.project, spec.notices)
    return GkeTpuSlicesResizer(spec, context, cluster, slices, reservation, listener)


class GkeTpuSlicesResizer:
    """The actuator's port."""

    def __init__(  # noqa: PLR0913 - its components
        self,
        spec: GkeTpuSlices,
        context: Context,
        cluster: container.Cluster,
        slices: Slices,
        reservation: reservations.Reservation | None,
        listener: gcp_notices.GcpNoticeListener,
    ) -> None:
        self._spec = spec
        self._context = context
        self._clock = context.clock
        self._cluster = cluster
        self._slices = slices
        self._reservation = reservation
        self._listener = listener
        self._creations: dict[str, OperationFollower] = {}
        self._deleted_at: dict[str, float] = {}
        """Time of each recent deletion by slice name: the cluster's list still shows the slice for a while."""

    @validated("GCP")
    async def status(self) -> Fresh[PoolStatus]:
        slices, at = await self._read_slices()
        names = {s.name for s in slices}
        for operation in self._creations.values():
            await operation.poll()
        self._creations = {n: f for n, f in self._creations.items() if f.requested is not None or f.failure}
        pending_creations = [n for n, f in self._creations.items() if n not in names and f.requested is not None]
        failed_creations = [f.failure for n, f in self._creations.items() if n not in names and f.failure]
        failed = sum(s.failed for s in slices) + len(failed_creations)
        shortfalls = [*(s.shortfall for s in slices), *(f.shortfall for f in failed_creations)]
        shortfalls += [f.failure.shortfall for n, f in self._creations.items() if n in names and f.failure]
        reserved = await self._reservation.machines() if self._reservation else None
        desired = len(slices) + len(pending_creations) + len(failed_creations)
        status = PoolStatus(
            desired=desired,
            ready=sum(s.ready for s in slices),
            version=str(desired - len(failed_creations)),
            interruption_pending=sum(s.interruption_pending for s in slices),
            interrupted=self._slices.interrupted,
            failed=failed,
            shortfall=self._newest(shortfalls) if failed else None,
            reserved=None if reserved is None else reserved // self._spec.hosts,
            parts=tpu_slices.parts(slices, self._spec.market),
        )
        return Fresh(status, at or self._clock.now())

    @validated("GCP")
    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        listed = await self._slices.names(self._recently_deleted())
        existing = listed | {n for n, f in self._creations.items() if f.requested is not None}
        if str(len(existing)) != observed.version:
            raise Conflict(
                f"{self._spec.name} changed from {observed.version} to {len(existing)} slices: another writer set it"
            )
        if replicas > len(existing):
            await self._write_each(self._create, self._free_names(replicas - len(existing), existing))
        else:
            await self._write_each(
                self._delete, sorted(listed, key=self._slices.removal_order)[: len(existing) - replicas]
            )

    @validated("GCP")
    async def permits(self) -> Sequence[Permit]:
        needed = container.permissions(reserved=self._spec.reservation is not None)
        return await pool_status.check_permissions(self._context, self._spec.project, needed, self._listener)

    async def _read_slices(self) -> tuple[list[Slice], float]:
        slices, at = await self._slices.read(self._recently_deleted())
        return [s for s in slices if not s.leaving], at

    def _recently_deleted(self) -> frozenset[str]:
        """Return the slices deleted less than `SHOWN_S` ago."""
        now = self._clock.now()
        self._deleted_at = {name: at for name, at in self._deleted_at.items() if 0 <= now - at < SHOWN_S}
        return frozenset(self._deleted_at)

    def _free_names(self, count: int, existing: set[str]) -> list[str]:
        """Return `count` names with the lowest numbers that no existing or recently deleted slice has."""
        names, number = list[str](), 0
        while len(names) < count:
            name = f"{self._spec.name}-{number}"
            if name not in existing and name not in self._deleted_at:
                names.append(name)
            number += 1
        return names

    async def _write_each(self, write: Callable[[str], Awaitable[None]], names: Iterable[str]) -> None:
        """Write one after another.

        After at least one success, a refusal ends the loop, and the next tick retries.
        """
        for accepted, name in enumerate(names):
            try:
                await write(name)
            except PortError:
                if not accepted:
                    raise
                return

    async def _create(self, name: str) -> None:
        number = self._slices.number(name) or 0
        with pool_status.pool_details(self._spec.kind_of_slice, self._spec.slice_zone, self._spec.market):
            operation: Body = await self._cluster.create(node_pool(self._spec, number))
        follower = OperationFollower(self._clock, self._cluster.operation)
        follower.begin(1, operation)
        self._creations[name] = follower

    async def _delete(self, name: str) -> None:
        await self._cluster.delete(name)
        self._deleted_at[name] = self._clock.now()
        self._creations.pop(name, None)

    def _newest(self, shortfalls: Iterable[Shortfall | None]) -> Shortfall | None:
        newest = pool_status.newest(shortfalls)
        if newest is None:
            return None
        kind, zone = self._spec.kind_of_slice, self._spec.slice_zone
        return replace(newest, reason=pool_status.placement(newest.reason, kind, zone, self._spec.market))


def node_pool(spec: GkeTpuSlices, number: int) -> dict[str, Any]:
    """Return the body that creates the node pool of one slice."""
    config: dict[str, Any] = {
        "machineType": spec.machine_type,
        "spot": spec.market == "spot",
        "oauthScopes": list(SCOPES),
        "labels": dict(spec.labels),
    }
    if spec.service_account:
        config["serviceAccount"] = spec.service_account
    if spec.reservation:
        config["reservationAffinity"] = {
            "consumeReservationType": "SPECIFIC_RESERVATION",
            "key": "compute.googleapis.com/reservation-name",
            "values": [spec.reservation.name],
        }
    return {
        "name": f"{spec.name}-{number}",
        "initialNodeCount": spec.hosts,
        "locations": [spec.slice_zone],
        "config": config,
        "placementPolicy": {"type": "COMPACT", "tpuTopology": spec.topology},
        "management": {"autoRepair": True, "autoUpgrade": True},
    }
