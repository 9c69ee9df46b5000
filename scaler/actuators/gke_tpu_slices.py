"""GKE: TPU slices of one shape. A replica is a slice: all of its hosts, or nothing.

A slice is a node pool with a TPU topology. To grow is to create node pools, to shrink is to delete them; those that
failed go first, then those that are not there yet, then those that the cloud will take anyway. GKE takes several
creations at a time, or one: what it refuses as a conflict follows in the next turns.
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
"""The longest that an accepted creation or deletion may take to show in the cluster's list."""
SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)


async def open_gke_tpu_slices(
    spec: GkeTpuSlices, context: Context, workload: WorkloadName, pool: PoolName
) -> GkeTpuSlicesResizer:
    """Open the TPU slices of one shape. Raises `Misconfigured`."""
    cluster = await container.cluster(context, spec.project, spec.location, spec.cluster)
    groups = await instance_groups.groups(context, spec.project)
    board = await notices.board(context)
    held = await reservations.reservation(context, spec.project, spec.reservation) if spec.reservation else None
    slices = Slices(cluster, groups, board, spec.name, spec.hosts)
    listener = await gcp_notices.listen(context, spec.project, spec.notices)
    return GkeTpuSlicesResizer(spec, context, cluster, slices, held, listener)


class GkeTpuSlicesResizer:
    """The actuator's port."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        spec: GkeTpuSlices,
        context: Context,
        cluster: container.Cluster,
        slices: Slices,
        held: reservations.Reservation | None,
        listener: gcp_notices.GcpNoticeListener,
    ) -> None:
        self._spec = spec
        self._context = context
        self._clock = context.clock
        self._cluster = cluster
        self._slices = slices
        self._held = held
        self._listener = listener
        self._creations: dict[str, OperationFollower] = {}
        self._gone: dict[str, float] = {}
        """Slices of which we asked to be rid, and when: the list shows them for some moments still."""

    @validated("GCP")
    async def status(self) -> Fresh[PoolStatus]:
        slices, at = await self._look()
        names = {s.name for s in slices}
        for following in self._creations.values():
            await following.poll()
        self._creations = {n: f for n, f in self._creations.items() if f.requested is not None or f.failure}
        hidden = [n for n, f in self._creations.items() if n not in names and f.requested is not None]
        unborn = [f.failure for n, f in self._creations.items() if n not in names and f.failure]
        failed = sum(s.failed for s in slices) + len(unborn)
        shorts = [*(s.shortfall for s in slices), *(f.shortfall for f in unborn)]
        shorts += [f.failure.shortfall for n, f in self._creations.items() if n in names and f.failure]
        held = await self._held.held() if self._held else None
        desired = len(slices) + len(hidden) + len(unborn)
        status = PoolStatus(
            desired=desired,
            ready=sum(s.ready for s in slices),
            version=str(desired - len(unborn)),
            interruption_pending=sum(s.interruption_pending for s in slices),
            interrupted=self._slices.interrupted,
            failed=failed,
            shortfall=self._short(shorts) if failed else None,
            reserved=None if held is None else held // self._spec.hosts,
            parts=tpu_slices.parts(slices, self._spec.market),
        )
        return Fresh(status, at or self._clock.now())

    @validated("GCP")
    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        there = await self._slices.names(self._leaving())
        taken = there | {n for n, f in self._creations.items() if f.requested is not None}
        if str(len(taken)) != seen.version:
            raise Conflict(f"{self._spec.name} had {seen.version} slices; another writer made that {len(taken)}")
        if replicas > len(taken):
            await self._each(self._create, self._free(replicas - len(taken), taken))
        else:
            await self._each(self._delete, sorted(there, key=self._slices.removal_order)[: len(taken) - replicas])

    @validated("GCP")
    async def permits(self) -> Sequence[Permit]:
        needed = container.permissions(reserved=self._spec.reservation is not None)
        return await pool_status.check_permissions(self._context, self._spec.project, needed, self._listener)

    async def _look(self) -> tuple[list[Slice], float]:
        slices, at = await self._slices.read(self._leaving())
        return [s for s in slices if not s.leaving], at

    def _leaving(self) -> frozenset[str]:
        """Those of which we asked to be rid not long ago."""
        now = self._clock.now()
        self._gone = {name: at for name, at in self._gone.items() if 0 <= now - at < SHOWN_S}
        return frozenset(self._gone)

    def _free(self, count: int, taken: set[str]) -> list[str]:
        """The lowest numbers that no slice has, nor one that is on its way out."""
        names, number = list[str](), 0
        while len(names) < count:
            name = f"{self._spec.name}-{number}"
            if name not in taken and name not in self._gone:
                names.append(name)
            number += 1
        return names

    async def _each(self, write: Callable[[str], Awaitable[None]], names: Iterable[str]) -> None:
        """Write for one after another. What is refused once some were accepted is the next turn's to try."""
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
        following = OperationFollower(self._clock, self._cluster.operation)
        following.begin(1, operation)
        self._creations[name] = following

    async def _delete(self, name: str) -> None:
        await self._cluster.delete(name)
        self._gone[name] = self._clock.now()
        self._creations.pop(name, None)

    def _short(self, shorts: Iterable[Shortfall | None]) -> Shortfall | None:
        found = max((s for s in shorts if s is not None), key=lambda s: s.at, default=None)
        if found is None:
            return None
        kind, zone = self._spec.kind_of_slice, self._spec.slice_zone
        return replace(found, reason=pool_status.placement(found.reason, kind, zone, self._spec.market))


def node_pool(spec: GkeTpuSlices, number: int) -> dict[str, Any]:
    """Return the node pool of one slice, as it is created."""
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
