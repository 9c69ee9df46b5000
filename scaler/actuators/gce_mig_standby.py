"""Compute Engine: machines of a managed instance group that wait suspended or stopped, and start sooner than new ones.

Suspended machines keep their memory and are paid for it; machines with GPUs cannot be suspended. Stopped ones cost
their disks only. Neither holds capacity: a start may fail like a creation. The size is a field of the group, written
under the fingerprint that was seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

from policies.model import Fresh, PoolName, PoolStatus, WorkloadName
from scaler.clouds.foreign_writes import ForeignWriteDetector
from scaler.clouds.gcp import instance_groups, notices, pool_status
from scaler.clouds.gcp.instance_groups import InstanceGroup
from scaler.clouds.gcp.settings import GcpNotices
from scaler.clouds.response_validation import validated
from scaler.config.kinds.gcp_pools import GceMigStandby
from scaler.ports import Context, Misconfigured, Permit

PERMISSIONS: Final = (instance_groups.READ, instance_groups.WRITE)
"""All that the pool may call for, with the project's own."""
FIELDS = {"suspended": "targetSuspendedSize", "stopped": "targetStoppedSize"}
MEANT = {"suspended": "SUSPENDED", "stopped": "STOPPED"}
RESTS = {"suspended": {"SUSPENDED"}, "stopped": {"STOPPED", "TERMINATED"}}
"""A stopped machine's status is called by its older name."""


async def open_gce_mig_standby(
    spec: GceMigStandby, context: Context, workload: WorkloadName, pool: PoolName
) -> GceMigStandbyResizer:
    """Open the standby machines of a managed instance group. Raises `Misconfigured`."""
    if spec.tier in {"serving", "awake_spare"}:
        hint = "say warm_node or slept, and in serves the pool whose scale-out takes from it"
        raise Misconfigured(f"{pool}: tier is {spec.tier}, but standby machines are not awake: {hint}")
    return GceMigStandbyResizer(
        spec,
        context,
        await instance_groups.groups(context, spec.project),
        await notices.listen(context, spec.project, GcpNotices()),
    )


class GceMigStandbyResizer:
    """The actuator's port."""

    def __init__(
        self,
        spec: GceMigStandby,
        context: Context,
        groups: instance_groups.InstanceGroups,
        listener: notices.GcpNoticeListener,
    ) -> None:
        self._spec = spec
        self._context = context
        self._groups = groups
        self._listener = listener
        self._writes = ForeignWriteDetector(
            context.clock, spec.other_writer_yield_s, f"GCP {spec.state} standby of {spec.name}"
        )
        self._first: dict[str, float] = {}

    @validated("GCP")
    async def status(self) -> Fresh[PoolStatus]:
        state = self._spec.state
        group = (await self._groups.read(self._spec.path)).with_target_status(MEANT[state])
        desired = self._target(group)
        waiting = [m for m in group.machines if m.status in RESTS[state] and m.action == "NONE"]
        coming = [m for m in group.machines if m.target_status == MEANT[state] and m not in waiting]
        ready = min(len(waiting), desired)  # more are on their way out, or were stopped by hand
        failed = min(sum(m.failed for m in coming), desired - ready)
        status = PoolStatus(
            desired=desired,
            ready=ready,
            other_writer=self._writes.observe(desired),
            version=group.fingerprint,
            failed=failed,
            shortfall=self._short(group) if failed else None,
            parts=pool_status.standby_parts(waiting, coming, self._spec.market),
        )
        return Fresh(status, group.at)

    @validated("GCP")
    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        present = await self._groups.head(self._spec.path, urgent=True)
        found = self._target(present)
        if found == replicas and not self._mode(present):
            return
        self._writes.check(found, seen.desired)
        fields: dict[str, Any] = {FIELDS[self._spec.state]: replicas, "fingerprint": present.fingerprint}
        self._writes.request(found, [replicas])
        with pool_status.pool_details(self._spec.accelerator or "", self._spec.location, self._spec.market):
            await self._groups.patch(self._spec.path, {**fields, **self._mode(present)})
        self._writes.confirm(replicas)

    @validated("GCP")
    async def permits(self) -> Sequence[Permit]:
        return await pool_status.check_permissions(self._context, self._spec.project, PERMISSIONS, self._listener)

    def _target(self, group: InstanceGroup) -> int:
        return group.suspended if self._spec.state == "suspended" else group.stopped

    def _mode(self, group: InstanceGroup) -> dict[str, Any]:
        """What is to be written of the standby policy; nothing where it is as it should be."""
        if self._spec.refill is None:
            return {}
        mode = "SCALE_OUT_POOL" if self._spec.refill else "MANUAL"
        return {} if group.standby.get("mode", "MANUAL") == mode else {"standbyPolicy": {**group.standby, "mode": mode}}

    def _short(self, group: InstanceGroup) -> Any:
        short = group.shortfall
        if short is None:
            return None
        kind = self._spec.accelerator or ""
        at = short.at or self._first.setdefault(short.reason, self._context.clock.now())
        zones = ", ".join(sorted({m.zone for m in group.machines if m.failed}))
        return replace(short, at=at, reason=pool_status.placement(short.reason, kind, zones, self._spec.market))
