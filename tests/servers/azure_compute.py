"""Scale sets and capacity reservations of the Azure on 127.0.0.1."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from tests.servers.azure import SUBSCRIPTION, Azure, refusal

ROOT: Final = f"/subscriptions/{SUBSCRIPTION}/resourceGroups"
SETS: Final = "Microsoft.Compute/virtualMachineScaleSets"
NODES: Final = "MC_llm_eastus"
H100: Final = "Standard_NC40ads_H100_v5"
COMPUTE_OPERATION: Final = "Microsoft.Compute/locations/operations/read"


def nothing(_: web.Request) -> list[dict[str, Any]]:
    """Return an empty list."""
    return []


@dataclass
class Machine:
    """A machine of a set. `state`: creating, ready, stopped, deleting or failed (with `failure`: code and message)."""

    number: int
    zone: str
    state: str = "creating"
    priority: str = "Regular"
    failure: tuple[str, str] | None = None

    def statuses(self) -> list[dict[str, str]]:
        if self.failure is not None:
            code, message = self.failure
            return [{"code": f"ProvisioningState/failed/{code}", "level": "Error", "message": message}]
        if self.state == "creating":
            return [{"code": "ProvisioningState/creating"}]
        power = {"ready": "running", "stopped": "deallocated", "deleting": "stopping"}[self.state]
        return [{"code": "ProvisioningState/succeeded"}, {"code": f"PowerState/{power}"}]

    @property
    def provisioning(self) -> str:
        if self.failure is not None:
            return "Failed"
        return {"creating": "Creating", "deleting": "Deleting"}.get(self.state, "Succeeded")


@dataclass
class ScaleSet:
    """A scale set. `capacity_error` refuses growth at once, with an error's code and message."""

    cloud: Azure
    name: str
    group: str = "llm"
    capacity: int = 0
    zones: tuple[str, ...] = ("1",)
    priority: str = "Regular"
    mode: str = "Uniform"
    machines: list[Machine] = field(default_factory=list)
    tags: dict[str, str] = field(default_factory=dict)
    reservation_group: str | None = None
    capacity_error: tuple[str, str] | None = None
    serving: bool = False
    """Whether requested machines serve at once."""
    boot_s: float | None = None
    """Time until requested machines serve; None: until the test calls `ready`. Seconds."""
    resized: Callable[[], None] | None = None
    """Called with every new size: the standby pool of the set."""
    etag: int = 1
    writes: int = 0
    provisioning: str = "Succeeded"
    numbers: Any = field(default_factory=itertools.count)

    @property
    def path(self) -> str:
        return f"{ROOT}/{self.group}/providers/{SETS}/{self.name}"

    @property
    def alive(self) -> list[Machine]:
        return [m for m in self.machines if m.state in {"ready", "creating"} and m.failure is None]

    def register(self) -> ScaleSet:
        """Add it to the subscription."""
        self.cloud.resources[self.path.lower()] = self.answer
        self.cloud.resources[f"{self.path}/delete".lower()] = self.delete
        group = f"{ROOT}/{self.group}/providers".lower()
        self.cloud.lists[f"{self.path}/virtualMachines".lower()] = lambda _: [
            self.instance_view(m) for m in self.machines
        ]
        listed = f"{group}/{SETS}".lower()
        others = self.cloud.lists.get(listed, nothing)
        self.cloud.lists[listed] = lambda r: [*others(r), self.body()]
        if self.mode == "Flexible":
            plain = f"{group}/microsoft.compute/virtualmachines"
            elders = self.cloud.lists.get(plain, nothing)
            self.cloud.lists[plain] = lambda r: [*elders(r), *self._filtered(r)]
        return self

    def _filtered(self, request: web.Request) -> list[dict[str, Any]]:
        is_of_set = request.query.get("$filter") == f"'virtualMachineScaleSet/id' eq '{self.path}'"
        return [self.instance_view(m) for m in self.machines] if is_of_set else []

    def machine_name(self, machine: Machine) -> str:
        return f"{self.name}_{machine.number}"

    def host(self, machine: Machine) -> str:
        return f"{self.name}{machine.number:06}"

    def instance_view(self, machine: Machine) -> dict[str, Any]:
        properties = {
            "provisioningState": machine.provisioning,
            "instanceView": {"statuses": machine.statuses()},
            "osProfile": {"computerName": self.host(machine)},
        }
        if self.mode == "Flexible":
            properties["priority"] = machine.priority
        known = {} if self.mode == "Flexible" else {"instanceId": str(machine.number)}
        return {"name": self.machine_name(machine), "zones": [machine.zone], **known, "properties": properties}

    def body(self) -> dict[str, Any]:
        profile: dict[str, Any] = {"priority": self.priority}
        if self.reservation_group:
            profile["capacityReservation"] = {"capacityReservationGroup": {"id": self.reservation_group}}
        return {
            "id": self.path,
            "name": self.name,
            "etag": f'"{self.etag}"',
            "sku": {"name": H100, "tier": "Standard", "capacity": self.capacity},
            "zones": list(self.zones),
            "tags": self.tags,
            "properties": {
                "orchestrationMode": self.mode,
                "provisioningState": self.provisioning,
                "virtualMachineProfile": profile,
            },
        }

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response(self.body())
        if request.method != "PATCH":
            return refusal(405, "MethodNotAllowed")
        if request.headers.get("If-Match", self.body()["etag"]) != self.body()["etag"]:
            return refusal(412, "PreconditionFailed", "The etag does not match.")
        capacity = (await request.json())["sku"]["capacity"]
        if capacity > self.capacity and self.capacity_error is not None:
            return refusal(409, *self.capacity_error)
        self.writes += 1
        headers = self.cloud.begin(request, COMPUTE_OPERATION)
        self.resize(capacity)
        return web.json_response(self.body(), headers=headers)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        """Remove machines by their ids in a Uniform set, by their names in a Flexible one."""
        ids = (await request.json())["instanceIds"]
        name = self.machine_name if self.mode == "Flexible" else lambda m: str(m.number)
        self.drop([m for m in self.machines if name(m) in ids])
        return web.json_response({}, status=202, headers=self.cloud.begin(request, COMPUTE_OPERATION))

    def drop(self, gone: list[Machine]) -> None:
        self.machines = [m for m in self.machines if m not in gone]
        self.capacity -= len(gone)
        self.etag += 1
        self.writes += 1

    def resize(self, capacity: int) -> None:
        """Apply a new capacity as Azure does: add in the emptiest zone, or remove the newest machines."""
        self.capacity = capacity
        self.etag += 1
        while len(self.machines) < capacity:
            zone = min(self.zones, key=lambda z: sum(m.zone == z for m in self.machines))
            spot = self.priority == "Spot"
            machine = Machine(next(self.numbers), zone, priority="Spot" if spot else "Regular")
            machine.state = "ready" if self.serving else "creating"
            self.machines.append(machine)
        del self.machines[capacity:]
        if self.serving:
            self.cloud.end()
        elif self.boot_s is not None:
            asyncio.get_running_loop().call_later(self.boot_s, self.boot)
        if self.resized is not None:
            self.resized()

    def boot(self) -> None:
        """Make pending machines serve."""
        for machine in self.machines:
            if machine.state == "creating":
                machine.state = "ready"
        self.cloud.end()

    def ready(self, count: int) -> None:
        """Make the oldest `count` machines serve."""
        for i, machine in enumerate(self.machines):
            machine.state = "ready" if i < count else "creating"
        if count >= self.capacity:
            self.cloud.end()

    def evict(self, count: int, policy: str = "deallocate", *, names: set[str] | None = None) -> None:
        """Evict spot machines without replacement."""
        chosen = [m for m in self.machines if m.state == "ready" and (not names or self.machine_name(m) in names)]
        for machine in chosen[:count]:
            if policy == "deallocate":
                machine.state = "stopped"
            else:
                self.machines.remove(machine)
                self.capacity -= 1
                self.etag += 1

    def fail(self, code: str, message: str) -> None:
        """Fail the pending machines."""
        self.machines = [m for m in self.machines if m.state != "creating"]
        self.cloud.end((code, message), "2026-11-27T15:00:00.1234567Z")


def reserve(cloud: Azure, name: str, held: int, zone: str = "1", sku: str = H100, state: str = "Succeeded") -> str:
    """Create a capacity reservation group with one reservation; return the group's id."""
    group = f"{ROOT}/llm/providers/Microsoft.Compute/capacityReservationGroups/{name}"
    reservation = {
        "name": f"{name}-{zone}",
        "zones": [zone],
        "sku": {"name": sku, "capacity": held},
        "properties": {"provisioningState": state},
    }
    listed = f"{group}/capacityReservations".lower()
    others = cloud.lists.get(listed, nothing)
    cloud.lists[listed] = lambda r: [*others(r), reservation]
    return group
