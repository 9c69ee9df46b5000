"""Azure virtual machine scale sets.

The capacity is written by PATCH under its etag. Machines are read one by one. An accepted write is an operation that
may fail minutes later: every tick follows it, and reports missing machines with the reason. Both orchestration modes
are supported; a Flexible set may mix spot and regular machines by its priority mix policy, and the parts have each
market's count.
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
from scaler.clouds.azure.shared_reads import TICK_S, RecentAnswers, recent
from scaler.clouds.azure.virtual_machines import READ, READ_INSTANCES, READ_MACHINES, Vm, machines
from scaler.clouds.interruptions import board
from scaler.clouds.response_validation import machine_count
from scaler.clouds.rest import Body
from scaler.config.kinds.azure_pools import Vmss
from scaler.ports import Conflict, Context, Permit, Unavailable

WRITE: Final = "Microsoft.Compute/virtualMachineScaleSets/write"
DELETE: Final = "Microsoft.Compute/virtualMachineScaleSets/delete/action"
READ_OPERATION: Final = "Microsoft.Compute/locations/operations/read"


async def open_vmss(spec: Vmss, context: Context, workload: WorkloadName, pool: PoolName) -> VmssResizer:
    """Open a scale set without reading it. Raises `Misconfigured`."""
    view = PoolView(await board(context))
    events = await listener(context, spec.events_url) if spec.events_url else None
    return VmssResizer(spec, context, await arm(context, spec.account), await recent(context), view, events)


class VmssResizer:
    """The actuator's port.

    It remembers the last accepted write and the machines that served.
    """

    def __init__(  # noqa: PLR0913 - its components
        self,
        spec: Vmss,
        context: Context,
        arm: Arm,
        recent: RecentAnswers,
        view: PoolView,
        events: ScheduledEventsListener | None,
    ) -> None:
        self._path = spec.path
        self._name = spec.name
        self._clock = context.clock
        self._arm = arm
        self._recent = recent
        self._view = view
        self._events = events
        self._operation = Operation(arm, context.clock, READ_OPERATION)

    @validated
    async def status(self) -> Fresh[PoolStatus]:
        (body, at), write_failure, other_writer = await asyncio.gather(
            self._recent.get(self._path, TICK_S, self._read), self._operation.shortfall(), self._other_autoscaler()
        )
        vms, vms_at = await self._recent.get(
            self._machines, TICK_S, lambda: machines(self._arm, self._path, body, self._clock.now())
        )
        if self._events is not None:
            self._events.watch(self, [vm.host for vm in vms if vm.state == "ready"])
        size, group = reservation(body)
        self._view.kind = kind_of(size, is_spot(body), body.get("zones") or ())
        capacity_reserved = await reserved(self._arm, self._recent, group, size, body.get("zones") or ())
        version = str(body.get("etag") or "")
        pool_status = self._view.status(
            capacity(body), vms, write_failure, other_writer=other_writer, version=version, reserved=capacity_reserved
        )
        return Fresh(pool_status, min(at, vms_at))

    @validated
    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        """Remove failed or evicted machines first, by name.

        Otherwise Azure might remove serving ones.
        """
        broken = self._view.broken[: max(0, observed.desired - replicas)]
        if broken:
            await self._remove(broken, observed)
        else:
            await self._resize(replicas, observed)

    async def _remove(self, broken: Sequence[Vm], observed: PoolStatus) -> None:
        """Remove these machines; the next tick removes further ones."""
        body = await self._arm.get(READ, self._path, urgent=True)
        if capacity(body) != observed.desired:
            raise Conflict(
                f"{self._name} changed from {observed.desired} to {capacity(body)} VMs: another writer set it"
            )
        try:
            request = {"instanceIds": [vm.instance for vm in broken]}
            response = await self._arm.write("POST", DELETE, f"{self._path}/delete", request)
        finally:
            self._forget()
        self._operation.follow(response)

    async def _resize(self, replicas: int, observed: PoolStatus) -> None:
        version = observed.version
        for may_retry in (True, False):
            try:
                await self._write(replicas, version, observed)
            except Conflict as e:
                body = await self._arm.get(READ, self._path, urgent=True)
                if capacity(body) == replicas:
                    return
                if capacity(body) != observed.desired:
                    raise Conflict(
                        f"{self._name} changed from {observed.desired} to {capacity(body)} VMs: another writer set it"
                    ) from e
                if not may_retry or str(body.get("etag")) == version:
                    raise
                version = str(body.get("etag"))  # another field changed
            else:
                return

    @validated
    async def permits(self) -> Sequence[Permit]:
        body = await self._read()
        flexible = (body.get("properties") or {}).get("orchestrationMode") == "Flexible"
        needed = [READ, READ_MACHINES if flexible else READ_INSTANCES, READ_SETTINGS, READ_OPERATION, WRITE, DELETE]
        _, group = reservation(body)
        reservation_permits = await check_permissions(self._arm, group, (READ_RESERVATIONS,)) if group else ()
        return [*await check_permissions(self._arm, self._path, needed), *reservation_permits]

    @property
    def _machines(self) -> tuple[str, str]:
        """Key of the shared read of its machines."""
        return self._path, "machines"

    async def _read(self) -> Body:
        return await self._arm.get(READ, self._path)

    async def _write(self, replicas: int, version: str, observed: PoolStatus) -> None:
        try:
            with self._view.name_kind_in_errors():
                request = {"sku": {"capacity": replicas}}
                response = await self._arm.write("PATCH", WRITE, self._path, request, version=version)
        finally:
            self._forget()
        self._operation.follow(response)
        self._view.expect_removals(observed.ready - replicas)

    def _forget(self) -> None:
        self._recent.forget(self._path)
        self._recent.forget(self._machines)

    async def _other_autoscaler(self) -> str | None:
        try:
            return await other_autoscaler(self._arm, self._recent, self._path)
        except Unavailable:  # the next tick reads it again: sizes do not wait for it
            return None


def capacity(body: Mapping[str, Any]) -> int:
    """Return the set's last requested size. Raises `Unavailable`."""
    return machine_count("Azure scale set", (body.get("sku") or {}).get("capacity"))


def is_spot(body: Mapping[str, Any]) -> bool:
    """Return whether the set launches spot machines, alone or in a mix."""
    properties = body.get("properties") or {}
    return (properties.get("virtualMachineProfile") or {}).get("priority") == "Spot"


def reservation(body: Mapping[str, Any]) -> tuple[object, str | None]:
    """Return the machine size of a set, and the id of its capacity reservation group."""
    profile = (body.get("properties") or {}).get("virtualMachineProfile") or {}
    group = ((profile.get("capacityReservation") or {}).get("capacityReservationGroup") or {}).get("id")
    return (body.get("sku") or {}).get("name"), group
