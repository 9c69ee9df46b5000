"""Azure virtual machine scale sets: capacity written by PATCH under its etag, machines read one by one.

An accepted write is an operation that may fail minutes later: it is followed from turn to turn, and what does not come
is told with its reason. Both orchestration modes are read; a Flexible set may mix spot and regular machines by its
priority mix policy, which the parts tell apart.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final

from policies.model import Fresh, PoolName, PoolStatus, WorkloadName
from scaler.clouds.azure.errors import validated
from scaler.clouds.azure.operations import Operation
from scaler.clouds.azure.pool_context import (
    READ_RESERVATIONS,
    READ_SETTINGS,
    check_permissions,
    other_autoscaler,
    reserved,
)
from scaler.clouds.azure.pool_status import PoolView, kind_of
from scaler.clouds.azure.scheduled_events import ScheduledEventsListener, listener
from scaler.clouds.azure.session import Arm, arm
from scaler.clouds.azure.shared_reads import TURN_S, RecentAnswers, recent
from scaler.clouds.azure.virtual_machines import READ, READ_INSTANCES, READ_MACHINES, Vm, machines
from scaler.clouds.interruptions import board
from scaler.clouds.response_validation import whole
from scaler.clouds.rest import Body
from scaler.config.kinds.azure_pools import Vmss
from scaler.ports import Conflict, Context, Permit, Unavailable

WRITE: Final = "Microsoft.Compute/virtualMachineScaleSets/write"
DELETE: Final = "Microsoft.Compute/virtualMachineScaleSets/delete/action"
READ_OPERATION: Final = "Microsoft.Compute/locations/operations/read"


async def open_vmss(spec: Vmss, context: Context, workload: WorkloadName, pool: PoolName) -> VmssResizer:
    """Open a scale set. Nothing is read yet. Raises `Misconfigured`."""
    view = PoolView(await board(context))
    heard = await listener(context, spec.events_url) if spec.events_url else None
    return VmssResizer(spec, context, await arm(context, spec.account), await recent(context), view, heard)


class VmssResizer:
    """The actuator's port. Remembers the last write that it had accepted, and which machines served."""

    def __init__(  # noqa: PLR0913 - what one pool works with
        self,
        spec: Vmss,
        context: Context,
        arm: Arm,
        recent: RecentAnswers,
        view: PoolView,
        heard: ScheduledEventsListener | None,
    ) -> None:
        self._path = spec.path
        self._name = spec.name
        self._clock = context.clock
        self._arm = arm
        self._recent = recent
        self._view = view
        self._heard = heard
        self._operation = Operation(arm, context.clock, READ_OPERATION)

    @validated
    async def status(self) -> Fresh[PoolStatus]:
        (body, at), late, other = await asyncio.gather(
            self._recent.get(self._path, TURN_S, self._read), self._operation.shortfall(), self._rival()
        )
        vms, vms_at = await self._recent.get(
            self._machines, TURN_S, lambda: machines(self._arm, self._path, body, self._clock.now())
        )
        if self._heard is not None:
            self._heard.watch(self, [vm.host for vm in vms if vm.state == "ready"])
        size, group = reservation(body)
        self._view.kind = kind_of(size, is_spot(body), body.get("zones") or ())
        held = await reserved(self._arm, self._recent, group, size, body.get("zones") or ())
        version = str(body.get("etag") or "")
        found = self._view.status(capacity(body), vms, late, other_writer=other, version=version, reserved=held)
        return Fresh(found, min(at, vms_at))

    @validated
    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        """Machines that failed or were evicted go first, by name: left to Azure, it might remove those that serve."""
        broken = self._view.broken[: max(0, seen.desired - replicas)]
        if broken:
            await self._remove(broken, seen)
        else:
            await self._resize(replicas, seen)

    async def _remove(self, broken: Sequence[Vm], seen: PoolStatus) -> None:
        """The set shrinks by them; what is to go beyond them goes in the next turn."""
        body = await self._arm.get(READ, self._path, urgent=True)
        if capacity(body) != seen.desired:
            raise Conflict(f"{self._name} was {seen.desired} machines, and is {capacity(body)} now")
        try:
            asked = {"instanceIds": [vm.instance for vm in broken]}
            answer = await self._arm.write("POST", DELETE, f"{self._path}/delete", asked)
        finally:
            self._forget()
        self._operation.accepted(answer)

    async def _resize(self, replicas: int, seen: PoolStatus) -> None:
        version = seen.version
        for again in (True, False):
            try:
                await self._write(replicas, version, seen)
            except Conflict as e:
                body = await self._arm.get(READ, self._path, urgent=True)
                if capacity(body) == replicas:
                    return
                if capacity(body) != seen.desired:
                    raise Conflict(f"{self._name} was {seen.desired} machines, and is {capacity(body)} now") from e
                if not again or str(body.get("etag")) == version:
                    raise
                version = str(body.get("etag"))  # something else of it changed
            else:
                return

    @validated
    async def permits(self) -> Sequence[Permit]:
        body = await self._read()
        flexible = (body.get("properties") or {}).get("orchestrationMode") == "Flexible"
        needed = [READ, READ_MACHINES if flexible else READ_INSTANCES, READ_SETTINGS, READ_OPERATION, WRITE, DELETE]
        _, group = reservation(body)
        held = await check_permissions(self._arm, group, (READ_RESERVATIONS,)) if group else ()
        return [*await check_permissions(self._arm, self._path, needed), *held]

    @property
    def _machines(self) -> tuple[str, str]:
        """Under which its machines are shared."""
        return self._path, "machines"

    async def _read(self) -> Body:
        return await self._arm.get(READ, self._path)

    async def _write(self, replicas: int, version: str, seen: PoolStatus) -> None:
        try:
            with self._view.naming():
                asked = {"sku": {"capacity": replicas}}
                answer = await self._arm.write("PATCH", WRITE, self._path, asked, version=version)
        finally:
            self._forget()
        self._operation.accepted(answer)
        self._view.remove(seen.ready - replicas)

    def _forget(self) -> None:
        self._recent.forget(self._path)
        self._recent.forget(self._machines)

    async def _rival(self) -> str | None:
        try:
            return await other_autoscaler(self._arm, self._recent, self._path)
        except Unavailable:  # it is looked for again: sizes do not wait for it
            return None


def capacity(body: Mapping[str, Any]) -> int:
    """The size that the set was last asked for. Raises `Unavailable`."""
    return whole("Azure scale set", (body.get("sku") or {}).get("capacity"))


def is_spot(body: Mapping[str, Any]) -> bool:
    """Whether the set buys spot machines, of itself or by a mix."""
    properties = body.get("properties") or {}
    return (properties.get("virtualMachineProfile") or {}).get("priority") == "Spot"


def reservation(body: Mapping[str, Any]) -> tuple[object, str | None]:
    """The machine size of a set, and the id of the capacity reservation group that it draws from."""
    profile = (body.get("properties") or {}).get("virtualMachineProfile") or {}
    group = ((profile.get("capacityReservation") or {}).get("capacityReservationGroup") or {}).get("id")
    return (body.get("sku") or {}).get("name"), group
