"""Compute Engine: the machines of a managed instance group.

The group is in one zone, or spread over a region's zones. A resize is accepted at once, whether or not there is
capacity: the group retries each machine until it starts. Missing machines show in the machines' last attempts and the
group's errors, and are reported with type, zone and market. In a regional group the group's own distribution policy
chooses the zones.
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
    reservation = await reservations.reservation(context, spec.project, spec.reservation) if spec.reservation else None
    listener = await gcp_notices.listen(context, spec.project, spec.notices)
    board = await notices.board(context)
    builder = pool_status.StatusBuilder(board, spec.market, spec.accelerator or "", context.clock)
    return GceMigResizer(spec, context, groups, builder, reservation, listener)


class GceMigResizer:
    """The actuator's port."""

    def __init__(  # noqa: PLR0913 - its components
        self,
        spec: GceMig,
        context: Context,
        groups: instance_groups.InstanceGroups,
        builder: pool_status.StatusBuilder,
        reservation: reservations.Reservation | None,
        listener: gcp_notices.GcpNoticeListener,
    ) -> None:
        self._spec = spec
        self._context = context
        self._groups = groups
        self._builder = builder
        self._reservation = reservation
        self._listener = listener
        self._writes = ForeignWriteDetector(context.clock, spec.other_writer_yield_s, f"GCP instance group {spec.name}")

    @validated("GCP")
    async def status(self) -> Fresh[PoolStatus]:
        group = (await self._groups.read(self._spec.path)).with_target_status("RUNNING")
        reserved = await self._reservation.machines() if self._reservation else None
        writer = self._writes.observe(group.target)
        other_writer = f"autoscaler {group.autoscaler}" if group.autoscaler else writer
        details = pool_status.PoolDetails(group.target, str(group.target), other_writer, reserved)
        return Fresh(self._builder.status([group], details), group.at)

    @validated("GCP")
    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        present = await self._groups.head(self._spec.path, urgent=True)
        if present.target == replicas:
            return
        self._writes.check(present.target, observed.desired)
        changes = distribution_changes(self._spec, present) if replicas > present.target else {}
        with pool_status.pool_details(self._spec.accelerator or "", self._spec.location, self._spec.market):
            if changes:
                await self._groups.patch(self._spec.path, {**changes, "fingerprint": present.fingerprint})
            self._writes.request(present.target, [replicas])
            await self._groups.resize(self._spec.path, replicas)
        self._writes.confirm(replicas)

    @validated("GCP")
    async def permits(self) -> Sequence[Permit]:
        return await pool_status.check_permissions(
            self._context, self._spec.project, permissions(self._spec), self._listener
        )


def permissions(spec: GceMig) -> list[str]:
    """Return the permissions that the pool needs."""
    needed = [instance_groups.READ, instance_groups.WRITE]
    return [*needed, reservations.READ] if spec.reservation else needed


def distribution_changes(spec: GceMig, group: instance_groups.InstanceGroup) -> dict[str, Any]:
    """Return the fields that differ from the configured distribution and machine types.

    It is empty where none do.
    """
    changes: dict[str, Any] = {}
    if spec.shape and spec.shape.upper() != (group.shape or "EVEN"):
        changes["distributionPolicy"] = {"targetShape": spec.shape.upper()}
    ranked = {f"rank-{i}": {"rank": i, "machineTypes": [kind]} for i, kind in enumerate(spec.machine_types, 1)}
    if ranked and _ranks(ranked) != _ranks(group.selections):
        changes["instanceFlexibilityPolicy"] = {"instanceSelections": ranked}
    return changes


def _ranks(selections: Mapping[str, Any]) -> set[tuple[int, tuple[str, ...]]]:
    """Return the machine types by rank, without the selections' names."""
    return {(int(s.get("rank", 0)), tuple(sorted(s.get("machineTypes", ())))) for s in selections.values()}
