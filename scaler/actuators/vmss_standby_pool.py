"""Azure standby pools.

Azure keeps ``maxReadyCapacity`` minus the scale set's size in standby: the standby shrinks as the set grows, and grows
as it shrinks. So the adapter writes the sum of the scale set's size and the requested size.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from policies.model import Fresh, PoolName, PoolPart, PoolStatus, Shortfall, WorkloadName
from scaler.clouds.azure.errors import QUOTA_WORDS, validated
from scaler.clouds.azure.operations import Operation
from scaler.clouds.azure.pool_context import check_permissions
from scaler.clouds.azure.session import Arm, arm
from scaler.clouds.azure.shared_reads import TICK_S, RecentAnswers, recent
from scaler.clouds.azure.virtual_machines import READ
from scaler.clouds.response_validation import machine_count, one_line
from scaler.clouds.rest import Body
from scaler.config.kinds.azure_pools import VmssStandbyPool
from scaler.ports import Conflict, Context, Permit, Unavailable

READ_POOL: Final = "Microsoft.StandbyPool/standbyVirtualMachinePools/read"
READ_VIEW: Final = "Microsoft.StandbyPool/standbyVirtualMachinePools/runtimeViews/read"
WRITE: Final = "Microsoft.StandbyPool/standbyVirtualMachinePools/write"
READ_OPERATION: Final = "Microsoft.StandbyPool/locations/operationStatuses/read"
PENDING_STATES: Final[Mapping[str, tuple[str, ...]]] = {
    "Running": ("Creating", "Starting"),
    "Deallocated": ("Creating", "Starting", "Running", "Deallocating"),
    "Hibernated": ("Creating", "Starting", "Running", "Hibernating"),
}
"""States that lead to each standby state."""
HEALTHY: Final = "HealthState/healthy"


@dataclass(frozen=True, slots=True)
class Standby:
    """A standby pool and the size of its scale set."""

    profile: Mapping[str, Any]
    state: str
    set_size: int

    @property
    def size(self) -> int:
        """The number of machines that Azure must keep in standby.

        Example: `maxReadyCapacity` 12, `minReadyCapacity` 1 and a scale set of 8 give max(0, 12 - 8, 1) = 4.
        """
        maximum = machine_count("Azure standby pool", self.profile.get("maxReadyCapacity"))
        return max(0, maximum - self.set_size, int(self.profile.get("minReadyCapacity") or 0))


async def open_vmss_standby_pool(
    spec: VmssStandbyPool, context: Context, workload: WorkloadName, pool: PoolName
) -> StandbyResizer:
    """Open a standby pool without reading it. Raises `Misconfigured`."""
    return StandbyResizer(spec, context, await arm(context, spec.account), await recent(context))


class StandbyResizer:
    """The actuator's port."""

    def __init__(self, spec: VmssStandbyPool, context: Context, arm: Arm, recent: RecentAnswers) -> None:
        self._path = spec.path
        self._name = spec.name
        self._clock = context.clock
        self._arm = arm
        self._recent = recent
        self._operation = Operation(arm, context.clock, READ_OPERATION)
        self._unhealthy: Shortfall | None = None

    @validated
    async def status(self) -> Fresh[PoolStatus]:
        at = self._clock.now()
        standby, view, write_failure = await asyncio.gather(
            self._standby(TICK_S),
            self._arm.get(READ_VIEW, f"{self._path}/runtimeViews/latest"),
            self._operation.shortfall(),
        )
        parts = _parts(self._name, view, standby.state)
        ready, pending = sum(p.ready for p in parts), sum(p.pending for p in parts)
        shortfall = write_failure or self._health(view)
        is_short = shortfall is not None and standby.size > ready
        return Fresh(
            PoolStatus(
                standby.size,
                ready,
                "dynamic sizing of the standby pool" if _is_dynamic(standby.profile) else None,
                failed=max(0, standby.size - ready - pending) if is_short else 0,
                shortfall=shortfall if is_short else None,
                parts=parts,
            ),
            at,
        )

    @validated
    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        """Read the pool before the write, which is absolute: there is no etag."""
        standby = await self._standby(0.0)
        if standby.size == replicas:
            return
        if standby.size != observed.desired:
            raise Conflict(f"{self._name} changed from {observed.desired} to {standby.size} VMs: another writer set it")
        minimum = min(replicas, int(standby.profile.get("minReadyCapacity") or 0))
        profile = {**standby.profile, "maxReadyCapacity": standby.set_size + replicas, "minReadyCapacity": minimum}
        try:
            body = {"properties": {"elasticityProfile": profile}}
            response = await self._arm.write("PATCH", WRITE, self._path, body)
        finally:
            self._recent.forget(self._path)
        self._operation.follow(response)

    @validated
    async def permits(self) -> Sequence[Permit]:
        return [
            *await check_permissions(self._arm, self._path, (READ_POOL, READ_VIEW, READ_OPERATION, WRITE)),
            *await check_permissions(
                self._arm, _scale_set_of(self._path, await self._arm.get(READ_POOL, self._path)), (READ,)
            ),
        ]

    async def _standby(self, max_age_s: float) -> Standby:
        urgent = max_age_s == 0
        body, _ = await self._recent.get(
            self._path, max_age_s, lambda: self._arm.get(READ_POOL, self._path, urgent=urgent)
        )
        path = _scale_set_of(self._path, body)
        scale_set, _ = await self._recent.get(path, max_age_s, lambda: self._arm.get(READ, path, urgent=urgent))
        properties = body["properties"]
        profile = properties.get("elasticityProfile")
        state = str(properties.get("virtualMachineState"))
        if not isinstance(profile, Mapping) or state not in PENDING_STATES:
            raise Unavailable(f"Azure {READ_POOL} of {self._name}: the response lacks sizes or state")
        return Standby(profile, state, machine_count("Azure scale set", (scale_set.get("sku") or {}).get("capacity")))

    def _health(self, view: Body) -> Shortfall | None:
        """Return the pool's own error.

        The pool pauses after failed creations. A repeated error keeps its time.
        """
        status = (view.get("properties") or {}).get("status") or {}
        if not status or status.get("code") == HEALTHY:
            self._unhealthy = None
            return None
        reason = f"{status.get('code')}: {one_line(status.get('message') or '')}"
        if self._unhealthy is None or self._unhealthy.reason != reason:
            self._unhealthy = Shortfall(self._clock.now(), reason, quota=bool(QUOTA_WORDS.search(reason)))
        return self._unhealthy


def _scale_set_of(path: str, body: Body) -> str:
    """Return the scale set that the pool serves."""
    scale_set = (body.get("properties") or {}).get("attachedVirtualMachineScaleSetId")
    if not isinstance(scale_set, str):
        raise Unavailable(f"Azure {READ_POOL} of {path}: the response has no scale set")
    return scale_set


def _parts(name: str, view: Body, state: str) -> tuple[PoolPart, ...]:
    summary = (view.get("properties") or {}).get("instanceCountSummary")
    if not isinstance(summary, list):
        raise Unavailable(f"Azure {READ_VIEW} of {name}: the response has no counts")
    parts: list[PoolPart] = []
    for zone in summary:
        counts: Counter[str] = Counter()
        for count in zone.get("instanceCountsByState") or ():
            counts[str(count.get("state")).capitalize()] += machine_count("Azure standby pool", count.get("count"))
        pending = sum(counts[s] for s in PENDING_STATES[state])
        parts.append(PoolPart(str(zone.get("zone") or ""), "on_demand", counts[state], pending))
    return tuple(parts)


def _is_dynamic(profile: Mapping[str, Any]) -> bool:
    return bool((profile.get("dynamicSizing") or {}).get("enabled"))
