"""Compute Engine: the machines of a managed instance group, in one zone or spread over a region's.

A resize is accepted at once and says nothing of capacity: the group tries for every machine until it comes. What does
not come is read from the machines' last attempts and the group's errors, and told with type, zone and market. Where
several zones are allowed, the group's own distribution policy picks among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from policies.model import Fresh, PoolName, PoolStatus, WorkloadName
from policies.model.field_metadata import FieldMetadata
from policies.model.spec import Pool, Target
from scaler.clouds import interruptions as notices
from scaler.clouds.foreign_writes import ForeignWriteDetector
from scaler.clouds.gcp import instance_groups, pool_status, reservations
from scaler.clouds.gcp import notices as gcp_notices
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.gcp.settings import NAME, REGION, YIELD_S, ZONE, GcpNotices, GcpReservation
from scaler.clouds.response_validation import validated
from scaler.ports import Context, Permit


@dataclass(frozen=True, kw_only=True)
class GceMig(Pool):
    """The machines of a managed instance group."""

    project: Annotated[GcpProject, FieldMetadata("Project, credentials and addresses.", example={"id": "my-project"})]
    name: Annotated[str, FieldMetadata("Name of the managed instance group.", pattern=NAME, example="vllm-h100-spot")]
    location: Annotated[
        str,
        FieldMetadata(
            "Its zone, or its region where it is a regional one.", pattern=rf"{ZONE}|{REGION}", example="us-central1"
        ),
    ]
    shape: Annotated[
        Literal["any", "any_single_zone", "balanced", "even"] | None,
        FieldMetadata("How a regional group spreads over its zones: any suits scarce GPUs; null: as the group has it."),
    ] = None
    machine_types: Annotated[
        tuple[str, ...],
        FieldMetadata("Machine types that a regional group may take, the best first; empty: as the group has it."),
    ] = ()
    reservation: Annotated[
        GcpReservation | None, FieldMetadata("Reservation that it fills first; null: none.", example=None)
    ] = None
    notices: Annotated[GcpNotices, FieldMetadata("Where interruptions are heard of.")] = field(
        default_factory=GcpNotices
    )
    other_writer_yield_s: Annotated[
        float, FieldMetadata("How long the size is left alone after somebody else changed it. Seconds.", ge=0, le=86400)
    ] = YIELD_S

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.tier in {"slept", "warm_node"}:
            yield "tier", f"{self.tier} is no tier of running machines: gce_mig_standby keeps suspended or stopped ones"
        if self.location.count("-") == 2:
            for key in ("shape", "machine_types"):
                if getattr(self, key):
                    yield key, f"is for regional groups, and {self.location} is a zone"

    def terms(self, group: instance_groups.InstanceGroup) -> dict[str, Any]:
        """What is to be changed of how the group buys; nothing where it is as it should be."""
        found: dict[str, Any] = {}
        if self.shape and self.shape.upper() != (group.shape or "EVEN"):
            found["distributionPolicy"] = {"targetShape": self.shape.upper()}
        ranked = {f"rank-{i}": {"rank": i, "machineTypes": [kind]} for i, kind in enumerate(self.machine_types, 1)}
        if ranked and _ranks(ranked) != _ranks(group.selections):
            found["instanceFlexibilityPolicy"] = {"instanceSelections": ranked}
        return found

    @property
    def path(self) -> str:
        return instance_groups.path(self.project.id, self.location, self.name)

    def permissions(self) -> list[str]:
        """All that the pool may call for, with the project's own."""
        needed = [instance_groups.READ, instance_groups.WRITE]
        return [*needed, reservations.READ] if self.reservation else needed

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("managed instance group", (), self.path),)

    async def open(self, context: Context, workload: WorkloadName, pool: PoolName) -> GceMigResizer:
        groups = await instance_groups.groups(context, self.project)
        held = await reservations.reservation(context, self.project, self.reservation) if self.reservation else None
        listener = await gcp_notices.listen(context, self.project, self.notices)
        board = await notices.board(context)
        teller = pool_status.StatusBuilder(board, self.market, self.accelerator or "", context.clock)
        return GceMigResizer(self, context, groups, teller, held, listener)


class GceMigResizer:
    """The actuator's port."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        spec: GceMig,
        context: Context,
        groups: instance_groups.InstanceGroups,
        teller: pool_status.StatusBuilder,
        held: reservations.Reservation | None,
        listener: gcp_notices.GcpNoticeListener,
    ) -> None:
        self._spec = spec
        self._context = context
        self._groups = groups
        self._teller = teller
        self._held = held
        self._listener = listener
        self._writes = ForeignWriteDetector(context.clock, spec.other_writer_yield_s, f"GCP instance group {spec.name}")

    @validated("GCP")
    async def status(self) -> Fresh[PoolStatus]:
        group = (await self._groups.read(self._spec.path)).with_target_status("RUNNING")
        held = await self._held.held() if self._held else None
        rival = self._writes.observe(group.target)
        foreign = f"autoscaler {group.autoscaler}" if group.autoscaler else rival
        told = pool_status.PoolDetails(group.target, str(group.target), foreign, held)
        return Fresh(self._teller.status([group], told), group.at)

    @validated("GCP")
    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        present = await self._groups.head(self._spec.path, urgent=True)
        if present.target == replicas:
            return
        self._writes.check(present.target, seen.desired)
        terms = self._spec.terms(present) if replicas > present.target else {}
        with pool_status.pool_details(self._spec.accelerator or "", self._spec.location, self._spec.market):
            if terms:
                await self._groups.patch(self._spec.path, {**terms, "fingerprint": present.fingerprint})
            self._writes.request(present.target, [replicas])
            await self._groups.resize(self._spec.path, replicas)
        self._writes.confirm(replicas)

    @validated("GCP")
    async def permits(self) -> Sequence[Permit]:
        return await pool_status.check_permissions(
            self._context, self._spec.project, self._spec.permissions(), self._listener
        )


def _ranks(selections: Mapping[str, Any]) -> set[tuple[int, tuple[str, ...]]]:
    """Machine types by rank, whatever the selections are called."""
    return {(int(s.get("rank", 0)), tuple(sorted(s.get("machineTypes", ())))) for s in selections.values()}
