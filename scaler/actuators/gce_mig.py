"""Compute Engine: the machines of a managed instance group, in one zone or spread over a region's.

A resize is accepted at once and says nothing of capacity: the group tries for every machine until it comes. What does
not come is read from the machines' last attempts and the group's errors, and told with type, zone and market. Where
several zones are allowed, the group's own distribution policy picks among them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from policies.model import Fresh, PoolName, PoolStatus, WorkloadName
from scaler.clouds import interruptions as notices
from scaler.clouds.foreign_writes import ForeignWriteDetector
from scaler.clouds.gcp import instance_groups, pool_status, reservations
from scaler.clouds.gcp import notices as gcp_notices
from scaler.clouds.response_validation import validated
from scaler.config.kinds.gcp_pools import GceMig
from scaler.ports import Context, Permit


async def open_gce_mig(spec: GceMig, context: Context, workload: WorkloadName, pool: PoolName) -> GceMigResizer:
    """Open a managed instance group. Raises `Misconfigured`."""
    groups = await instance_groups.groups(context, spec.project)
    held = await reservations.reservation(context, spec.project, spec.reservation) if spec.reservation else None
    listener = await gcp_notices.listen(context, spec.project, spec.notices)
    board = await notices.board(context)
    teller = pool_status.StatusBuilder(board, spec.market, spec.accelerator or "", context.clock)
    return GceMigResizer(spec, context, groups, teller, held, listener)


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
        terms = distribution_changes(self._spec, present) if replicas > present.target else {}
        with pool_status.pool_details(self._spec.accelerator or "", self._spec.location, self._spec.market):
            if terms:
                await self._groups.patch(self._spec.path, {**terms, "fingerprint": present.fingerprint})
            self._writes.request(present.target, [replicas])
            await self._groups.resize(self._spec.path, replicas)
        self._writes.confirm(replicas)

    @validated("GCP")
    async def permits(self) -> Sequence[Permit]:
        return await pool_status.check_permissions(
            self._context, self._spec.project, permissions(self._spec), self._listener
        )


def permissions(spec: GceMig) -> list[str]:
    """Return all that the pool may call for, with the project's own."""
    needed = [instance_groups.READ, instance_groups.WRITE]
    return [*needed, reservations.READ] if spec.reservation else needed


def distribution_changes(spec: GceMig, group: instance_groups.InstanceGroup) -> dict[str, Any]:
    """Return what is to be changed of how the group buys; nothing where it is as it should be."""
    found: dict[str, Any] = {}
    if spec.shape and spec.shape.upper() != (group.shape or "EVEN"):
        found["distributionPolicy"] = {"targetShape": spec.shape.upper()}
    ranked = {f"rank-{i}": {"rank": i, "machineTypes": [kind]} for i, kind in enumerate(spec.machine_types, 1)}
    if ranked and _ranks(ranked) != _ranks(group.selections):
        found["instanceFlexibilityPolicy"] = {"instanceSelections": ranked}
    return found


def _ranks(selections: Mapping[str, Any]) -> set[tuple[int, tuple[str, ...]]]:
    """Machine types by rank, whatever the selections are called."""
    return {(int(s.get("rank", 0)), tuple(sorted(s.get("machineTypes", ())))) for s in selections.values()}
