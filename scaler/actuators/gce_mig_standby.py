"""Compute Engine: suspended or stopped machines of a managed instance group.

They start sooner than new ones. Suspended machines keep their memory, which costs money; machines with GPUs cannot be
suspended. Stopped machines cost only their disks. Neither holds capacity: a start may fail like a creation. The size is
a field of the group, written under the observed fingerprint.
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
from scaler.ports import Context, Permit

PERMISSIONS: Final = (instance_groups.READ, instance_groups.WRITE)
"""Permissions that the pool needs."""
FIELDS = {"suspended": "targetSuspendedSize", "stopped": "targetStoppedSize"}
TARGET_STATUS = {"suspended": "SUSPENDED", "stopped": "STOPPED"}
STANDBY_STATUSES = {"suspended": {"SUSPENDED"}, "stopped": {"STOPPED", "TERMINATED"}}
"""Statuses of machines in standby. A stopped machine may have its older name, TERMINATED."""


async def open_gce_mig_standby(
    spec: GceMigStandby, context: Context, workload: WorkloadName, pool: PoolName
) -> GceMigStandbyResizer:
    """Open the standby machines of a managed instance group."""
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
        self._first_read_at: dict[str, float] = {}

    @validated("GCP")
    async def status(self) -> Fresh[PoolStatus]:
        state = self._spec.state
        group = (await self._groups.read(self._spec.path)).with_target_status(TARGET_STATUS[state])
        desired = self._target(group)
        standby = [m for m in group.machines if m.status in STANDBY_STATUSES[state] and m.action == "NONE"]
        starting = [m for m in group.machines if m.target_status == TARGET_STATUS[state] and m not in standby]
        ready = min(len(standby), desired)  # further ones are leaving, or were stopped manually
        failed = min(sum(m.failed for m in starting), desired - ready)
        status = PoolStatus(
            desired=desired,
            ready=ready,
            other_writer=self._writes.observe(desired),
            version=group.fingerprint,
            failed=failed,
            shortfall=self._shortfall(group) if failed else None,
            parts=pool_status.standby_parts(standby, starting, self._spec.market),
        )
        return Fresh(status, group.at)

    @validated("GCP")
    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        present = await self._groups.head(self._spec.path, urgent=True)
        target = self._target(present)
        if target == replicas and not self._policy_change(present):
            return
        self._writes.check(target, observed.desired)
        fields: dict[str, Any] = {FIELDS[self._spec.state]: replicas, "fingerprint": present.fingerprint}
        self._writes.request(target, [replicas])
        with pool_status.pool_details(self._spec.accelerator or "", self._spec.location, self._spec.market):
            await self._groups.patch(self._spec.path, {**fields, **self._policy_change(present)})
        self._writes.confirm(replicas)

    @validated("GCP")
    async def permits(self) -> Sequence[Permit]:
        return await pool_status.check_permissions(self._context, self._spec.project, PERMISSIONS, self._listener)

    def _target(self, group: InstanceGroup) -> int:
        return group.suspended if self._spec.state == "suspended" else group.stopped

    def _policy_change(self, group: InstanceGroup) -> dict[str, Any]:
        """Return the change of the standby policy; empty where it is as configured."""
        if self._spec.refill is None:
            return {}
        mode = "SCALE_OUT_POOL" if self._spec.refill else "MANUAL"
        return (
            {}
            if group.standby_policy.get("mode", "MANUAL") == mode
            else {"standbyPolicy": {**group.standby_policy, "mode": mode}}
        )

    def _shortfall(self, group: InstanceGroup) -> Any:
        shortfall = group.shortfall
        if shortfall is None:
            return None
        kind = self._spec.accelerator or ""
        at = shortfall.at or self._first_read_at.setdefault(shortfall.reason, self._context.clock.now())
        zones = ", ".join(sorted({m.zone for m in group.machines if m.failed}))
        return replace(shortfall, at=at, reason=pool_status.placement(shortfall.reason, kind, zones, self._spec.market))
