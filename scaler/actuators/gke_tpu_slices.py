"""GKE: TPU slices of one shape. A replica is a slice: all of its hosts, or nothing.

A slice is a node pool with a TPU topology. To grow is to create node pools, to shrink is to delete them; those that
failed go first, then those that are not there yet, then those that the cloud will take anyway. GKE takes several
creations at a time, or one: what it refuses as a conflict follows in the next turns.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Final

from policies.model import Fresh, PoolName, PoolStatus, Shortfall, WorkloadName
from policies.model.field_metadata import FieldMetadata
from policies.model.spec import Pool, Target
from scaler.clouds import interruptions as notices
from scaler.clouds.gcp import container, instance_groups, pool_status, reservations, tpu_slices
from scaler.clouds.gcp import notices as gcp_notices
from scaler.clouds.gcp.operations import OperationFollower
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.gcp.settings import NAME, REGION, ZONE, GcpNotices, GcpReservation
from scaler.clouds.gcp.tpu_slices import Slice, Slices
from scaler.clouds.response_validation import validated
from scaler.clouds.rest import Body
from scaler.ports import Conflict, Context, Permit, PortError

SHOWN_S: Final = 120.0
"""The longest that an accepted creation or deletion may take to show in the cluster's list."""
SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)


@dataclass(frozen=True, kw_only=True)
class GkeTpuSlices(Pool):
    """TPU slices on GKE, a node pool each."""

    project: Annotated[GcpProject, FieldMetadata("Project, credentials and addresses.", example={"id": "my-project"})]
    cluster: Annotated[str, FieldMetadata("Name of the cluster.", pattern=NAME, example="serving")]
    location: Annotated[
        str, FieldMetadata("The cluster's region or zone.", pattern=rf"{ZONE}|{REGION}", example="us-west4")
    ]
    name: Annotated[
        str,
        FieldMetadata(
            "What the slices' node pools are named, each with a number after it.", pattern=NAME, example="v5e-4x4"
        ),
    ]
    slice_zone: Annotated[str, FieldMetadata("Zone of the slices.", pattern=ZONE, example="us-west4-a")]
    machine_type: Annotated[
        str,
        FieldMetadata(
            "Machine type of a host: ct5lp-hightpu-4t (v5e), ct4p-hightpu-4t (v4).",
            pattern=r"^ct[0-9]+[a-z]*-hightpu-[1-8]t$",
            example="ct5lp-hightpu-4t",
        ),
    ]
    topology: Annotated[
        str,
        FieldMetadata(
            "Chips of a slice by side: 4x4 (v5e), 2x2x4 (v4).", pattern=r"^[0-9]+(x[0-9]+){1,2}$", example="4x4"
        ),
    ]
    service_account: Annotated[
        str | None,
        FieldMetadata("Whom the hosts run as; null: Compute Engine's default.", pattern=r"^[^@\s]+@[^@\s]+$"),
    ] = None
    labels: Annotated[dict[str, str], FieldMetadata("Kubernetes labels of the hosts.")] = field(default_factory=dict)
    reservation: Annotated[
        GcpReservation | None, FieldMetadata("Reservation that the slices are taken from; null: none.", example=None)
    ] = None
    notices: Annotated[GcpNotices, FieldMetadata("Where interruptions are heard of.")] = field(
        default_factory=GcpNotices
    )

    @property
    def hosts(self) -> int:
        """Of one slice. 0 where the topology does not fit, which `problems` tells."""
        return tpu_slices.hosts(self.machine_type, self.topology) or 0

    @property
    def kind_of_slice(self) -> str:
        """What shortages are told of."""
        return self.accelerator or f"{self.machine_type} {self.topology}"

    def problems(self) -> Iterator[tuple[str, str]]:
        sides = self.topology.count("x") + 1
        wanted = {"ct5lp": 2, "ct6e": 2, "ct4p": 3, "ct5p": 3}.get(self.machine_type.partition("-")[0])
        if not self.hosts:
            yield "topology", f"{self.topology} has no whole number of hosts of type {self.machine_type}"
        elif wanted is not None and sides != wanted:
            yield "topology", f"{self.topology} has {sides} sides; slices of {self.machine_type} have {wanted}"
        if self.quantum != 1:
            yield "quantum", "a replica is a whole slice already: leave it 1"

    def permissions(self) -> list[str]:
        """All that the pool may call for, with the project's own."""
        needed = [container.READ, container.WRITE, container.FOLLOW, instance_groups.READ]
        return [*needed, reservations.READ] if self.reservation else needed

    def node_pool(self, number: int) -> dict[str, Any]:
        """The node pool of one slice, as it is created."""
        config: dict[str, Any] = {
            "machineType": self.machine_type,
            "spot": self.market == "spot",
            "oauthScopes": list(SCOPES),
            "labels": dict(self.labels),
        }
        if self.service_account:
            config["serviceAccount"] = self.service_account
        if self.reservation:
            config["reservationAffinity"] = {
                "consumeReservationType": "SPECIFIC_RESERVATION",
                "key": "compute.googleapis.com/reservation-name",
                "values": [self.reservation.name],
            }
        return {
            "name": f"{self.name}-{number}",
            "initialNodeCount": self.hosts,
            "locations": [self.slice_zone],
            "config": config,
            "placementPolicy": {"type": "COMPACT", "tpuTopology": self.topology},
            "management": {"autoRepair": True, "autoUpgrade": True},
        }

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        cluster = f"projects/{self.project.id}/locations/{self.location}/clusters/{self.cluster}"
        return (Target("TPU slices", (cluster,), self.name),)

    async def open(self, context: Context, workload: WorkloadName, pool: PoolName) -> GkeTpuSlicesResizer:
        cluster = await container.cluster(context, self.project, self.location, self.cluster)
        groups = await instance_groups.groups(context, self.project)
        board = await notices.board(context)
        held = await reservations.reservation(context, self.project, self.reservation) if self.reservation else None
        slices = Slices(cluster, groups, board, self.name, self.hosts)
        listener = await gcp_notices.listen(context, self.project, self.notices)
        return GkeTpuSlicesResizer(self, context, cluster, slices, held, listener)


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
        return await pool_status.check_permissions(
            self._context, self._spec.project, self._spec.permissions(), self._listener
        )

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
            operation: Body = await self._cluster.create(self._spec.node_pool(number))
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
