"""Azure standby pools. Azure keeps ``maxReadyCapacity`` less the scale set's size in standby, not a size of its own: as
the set grows its standby drains, and as it shrinks it fills. So the size asked for is written as the sum of both.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from policies.model import Fresh, Part, PoolName, PoolStatus, Shortfall, WorkloadName
from scaler.clouds.azure.errors import QUOTA_WORDS, validated
from scaler.clouds.azure.operations import Operation
from scaler.clouds.azure.pool_context import check_permissions
from scaler.clouds.azure.session import Arm, arm
from scaler.clouds.azure.shared_reads import TURN_S, RecentAnswers, recent
from scaler.clouds.azure.virtual_machines import READ
from scaler.clouds.response_validation import one_line, whole
from scaler.clouds.rest import Body
from scaler.config.kinds.azure_pools import VmssStandbyPool
from scaler.ports import Conflict, Context, Permit, Unavailable

READ_POOL: Final = "Microsoft.StandbyPool/standbyVirtualMachinePools/read"
READ_VIEW: Final = "Microsoft.StandbyPool/standbyVirtualMachinePools/runtimeViews/read"
WRITE: Final = "Microsoft.StandbyPool/standbyVirtualMachinePools/write"
READ_OPERATION: Final = "Microsoft.StandbyPool/locations/operationStatuses/read"
COMING: Final[Mapping[str, tuple[str, ...]]] = {
    "Running": ("Creating", "Starting"),
    "Deallocated": ("Creating", "Starting", "Running", "Deallocating"),
    "Hibernated": ("Creating", "Starting", "Running", "Hibernating"),
}
"""By the state in which a standby pool keeps its machines: those on the way to it."""
WELL: Final = "HealthState/healthy"


@dataclass(frozen=True, slots=True)
class Standby:
    """A standby pool and the size of its set."""

    profile: Mapping[str, Any]
    state: str
    set_size: int

    @property
    def size(self) -> int:
        """How many machines Azure is asked to keep in standby."""
        most = whole("Azure standby pool", self.profile.get("maxReadyCapacity"))
        return max(0, most - self.set_size, int(self.profile.get("minReadyCapacity") or 0))


async def open_vmss_standby_pool(
    spec: VmssStandbyPool, context: Context, workload: WorkloadName, pool: PoolName
) -> StandbyResizer:
    """Open a standby pool. Nothing is read yet. Raises `Misconfigured`."""
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
        self._ill: Shortfall | None = None

    @validated
    async def status(self) -> Fresh[PoolStatus]:
        at = self._clock.now()
        standby, view, late = await asyncio.gather(
            self._standby(TURN_S),
            self._arm.get(READ_VIEW, f"{self._path}/runtimeViews/latest"),
            self._operation.shortfall(),
        )
        zones = _by_zone(self._name, view, standby.state)
        ready, coming = sum(p.ready for p in zones), sum(p.pending for p in zones)
        ill = late or self._health(view)
        lacking = ill is not None and standby.size > ready
        return Fresh(
            PoolStatus(
                standby.size,
                ready,
                "the standby pool's dynamic sizing" if _is_dynamic(standby.profile) else None,
                failed=max(0, standby.size - ready - coming) if lacking else 0,
                shortfall=ill if lacking else None,
                parts=zones,
            ),
            at,
        )

    @validated
    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        """There is no etag: it is read before it is written, and the write is absolute."""
        standby = await self._standby(0.0)
        if standby.size == replicas:
            return
        if standby.size != seen.desired:
            raise Conflict(f"{self._name} was to keep {seen.desired} machines, and is to keep {standby.size} now")
        least = min(replicas, int(standby.profile.get("minReadyCapacity") or 0))
        asked = {**standby.profile, "maxReadyCapacity": standby.set_size + replicas, "minReadyCapacity": least}
        try:
            answer = await self._arm.write("PATCH", WRITE, self._path, {"properties": {"elasticityProfile": asked}})
        finally:
            self._recent.forget(self._path)
        self._operation.accepted(answer)

    @validated
    async def permits(self) -> Sequence[Permit]:
        return [
            *await check_permissions(self._arm, self._path, (READ_POOL, READ_VIEW, READ_OPERATION, WRITE)),
            *await check_permissions(
                self._arm, _set_of(self._path, await self._arm.get(READ_POOL, self._path)), (READ,)
            ),
        ]

    async def _standby(self, max_age_s: float) -> Standby:
        first = max_age_s == 0
        body, _ = await self._recent.get(
            self._path, max_age_s, lambda: self._arm.get(READ_POOL, self._path, urgent=first)
        )
        path = _set_of(self._path, body)
        its_set, _ = await self._recent.get(path, max_age_s, lambda: self._arm.get(READ, path, urgent=first))
        properties = body["properties"]
        profile = properties.get("elasticityProfile")
        state = str(properties.get("virtualMachineState"))
        if not isinstance(profile, Mapping) or state not in COMING:
            raise Unavailable(f"Azure {READ_POOL} of {self._name}: an answer without sizes or state")
        return Standby(profile, state, whole("Azure scale set", (its_set.get("sku") or {}).get("capacity")))

    def _health(self, view: Body) -> Shortfall | None:
        """What the pool says of itself. It pauses after machines could not be made; said again, it is the same."""
        status = (view.get("properties") or {}).get("status") or {}
        if not status or status.get("code") == WELL:
            self._ill = None
            return None
        reason = f"{status.get('code')}: {one_line(status.get('message') or '')}"
        if self._ill is None or self._ill.reason != reason:
            self._ill = Shortfall(self._clock.now(), reason, quota=bool(QUOTA_WORDS.search(reason)))
        return self._ill


def _set_of(path: str, body: Body) -> str:
    """The scale set that the machines are kept for."""
    its_set = (body.get("properties") or {}).get("attachedVirtualMachineScaleSetId")
    if not isinstance(its_set, str):
        raise Unavailable(f"Azure {READ_POOL} of {path}: an answer without its scale set")
    return its_set


def _by_zone(name: str, view: Body, state: str) -> tuple[Part, ...]:
    summary = (view.get("properties") or {}).get("instanceCountSummary")
    if not isinstance(summary, list):
        raise Unavailable(f"Azure {READ_VIEW} of {name}: an answer without counts")
    found: list[Part] = []
    for zone in summary:
        counts: Counter[str] = Counter()
        for one in zone.get("instanceCountsByState") or ():
            counts[str(one.get("state")).capitalize()] += whole("Azure standby pool", one.get("count"))
        coming = sum(counts[s] for s in COMING[state])
        found.append(Part(str(zone.get("zone") or ""), "on_demand", counts[state], coming))
    return tuple(found)


def _is_dynamic(profile: Mapping[str, Any]) -> bool:
    return bool((profile.get("dynamicSizing") or {}).get("enabled"))
