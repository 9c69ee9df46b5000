"""Compute Engine: the machines of a managed instance group, in one zone or spread over a region's.

A resize is accepted at once and says nothing of capacity: the group tries for every machine until it comes. What does
not come is read from the machines' last attempts and the group's errors, and told with type, zone and market. Where
several zones are allowed, the group's own distribution policy picks among them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated

from policies.model import Fresh, PoolName, PoolStatus, WorkloadName
from policies.rules import Rule
from policies.spec import Pool
from scaler.clouds import gcp_groups, gcp_notices, gcp_pools, gcp_reservations, notices
from scaler.clouds.gcp_project import GcpProject
from scaler.clouds.gcp_spec import NAME, REGION, YIELD_S, ZONE, GcpNotices, GcpReservation
from scaler.ports import Conflict, Context, Permit


@dataclass(frozen=True, kw_only=True)
class GceMig(Pool):
    """The machines of a managed instance group."""

    project: Annotated[GcpProject, Rule("Project, credentials and addresses.", example={"id": "my-project"})]
    name: Annotated[str, Rule("Name of the managed instance group.", pattern=NAME, example="vllm-h100-spot")]
    location: Annotated[
        str,
        Rule("Its zone, or its region where it is a regional one.", pattern=rf"{ZONE}|{REGION}", example="us-central1"),
    ]
    reservation: Annotated[
        GcpReservation | None, Rule("Reservation that it fills first; null: none.", example=None)
    ] = None
    notices: Annotated[GcpNotices, Rule("Where interruptions are heard of.")] = field(default_factory=GcpNotices)
    yield_s: Annotated[
        float, Rule("How long the size is left alone after somebody else changed it. Seconds.", ge=0, le=86400)
    ] = YIELD_S

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.tier in {"slept", "warm_node"}:
            yield "tier", f"{self.tier} is no tier of running machines: gce_mig_standby keeps suspended or stopped ones"

    @property
    def path(self) -> str:
        return gcp_groups.path(self.project.id, self.location, self.name)

    def permissions(self) -> list[str]:
        """All that the pool may call for, with the project's own."""
        needed = [gcp_groups.READ, gcp_groups.WRITE]
        return [*needed, gcp_reservations.READ] if self.reservation else needed

    async def open(self, context: Context, workload: WorkloadName, pool: PoolName) -> GceMigResizer:
        groups = await gcp_groups.groups(context, self.project)
        held = await gcp_reservations.reservation(context, self.project, self.reservation) if self.reservation else None
        listener = await gcp_notices.listen(context, self.project, self.notices)
        board = await notices.board(context)
        teller = gcp_pools.Teller(board, self.market, self.accelerator or "", context.clock)
        return GceMigResizer(self, context, groups, teller, held, listener)


class GceMigResizer:
    """The actuator's port."""

    def __init__(  # noqa: PLR0913 - its parts
        self,
        spec: GceMig,
        context: Context,
        groups: gcp_groups.Groups,
        teller: gcp_pools.Teller,
        held: gcp_reservations.Reservation | None,
        listener: gcp_notices.Listener,
    ) -> None:
        self._spec = spec
        self._context = context
        self._groups = groups
        self._teller = teller
        self._held = held
        self._listener = listener
        self._rivals = gcp_pools.Rivals(context.clock, spec.yield_s)

    async def status(self) -> Fresh[PoolStatus]:
        group = await self._groups.read(self._spec.path)
        held = await self._held.held() if self._held else None
        rival = self._rivals.note(group.target)
        foreign = f"autoscaler {group.autoscaler}" if group.autoscaler else rival
        told = gcp_pools.Told(group.target, str(group.target), foreign, held)
        return Fresh(self._teller.status([group], told), group.at)

    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        present = await self._groups.head(self._spec.path, urgent=True)
        if present.target == replicas:
            return
        if present.target != seen.desired:
            raise Conflict(f"{self._spec.name} was {seen.desired} machines; somebody set {present.target}")
        self._rivals.asking(replicas)
        await self._groups.resize(self._spec.path, replicas)
        self._rivals.asked(replicas)

    async def permits(self) -> Sequence[Permit]:
        return await gcp_pools.permits(self._context, self._spec.project, self._spec.permissions(), self._listener)
