"""Compute Engine's managed instance groups and reservations, with its REST API."""

from __future__ import annotations

import asyncio
import itertools
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

COMPUTE = "https://www.googleapis.com/compute/v1/"
STOCKOUT = "ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS"
QUOTA = "QUOTA_EXCEEDED"
NO_IMAGE = "RESOURCE_NOT_FOUND"
WORDS = {
    STOCKOUT: "The zone does not have enough resources available to fulfill the request: a3-highgpu-8g.",
    NO_IMAGE: "The resource 'projects/my-project/global/images/vllm' was not found",
    QUOTA: "Quota 'PREEMPTIBLE_NVIDIA_H100_GPUS' exceeded. Limit: 16.0 in region us-central1.",
}


@dataclass
class Vm:
    """A machine of a group."""

    name: str
    zone: str
    status: str = ""
    action: str = "CREATING"
    target_status: str = "RUNNING"
    error: str = ""
    health: str = ""


@dataclass
class Mig:
    """A group: it creates machines up to its `target` at once; the test decides their progress."""

    project: str
    location: str
    name: str
    zones: tuple[str, ...]
    target: int = 0
    suspended: int = 0
    stopped: int = 0
    standby: dict[str, Any] = field(default_factory=lambda: {"mode": "MANUAL", "initialDelaySec": 0})
    shape: str = "EVEN"
    selections: dict[str, Any] = field(default_factory=dict)
    autoscaler: str = ""
    version: int = 1
    writes: int = 0
    exhausted_zones: dict[str, str] = field(default_factory=dict)
    """Zones without capacity, each with its error code."""
    boot_s: float | None = None
    """Time until machines run by themselves; None: until `boot`. Seconds."""
    rest_s: float = 0.0
    """Further time of standby machines: they start first, and are stopped then. Seconds."""
    vms: list[Vm] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    _numbers: Any = field(default_factory=itertools.count)

    @property
    def path(self) -> str:
        scope = "zones" if self.location.count("-") == 2 else "regions"
        return f"projects/{self.project}/{scope}/{self.location}/instanceGroupManagers/{self.name}"

    @property
    def fingerprint(self) -> str:
        return f"fp-{self.version}="

    def machine(self, vm: Vm) -> str:
        return f"projects/{self.project}/zones/{vm.zone}/instances/{vm.name}"

    def running(self) -> list[Vm]:
        return [vm for vm in self.vms if vm.status == "RUNNING" and vm.action == "NONE"]

    def serving(self) -> list[Vm]:
        """Machines that should run, in the order of their creation."""
        return [vm for vm in self.vms if vm.target_status == "RUNNING"]

    def resize(self, size: int) -> None:
        self.target = size
        self.version += 1
        while len(self.serving()) > size:
            going = next((vm for vm in reversed(self.serving()) if vm.status != "RUNNING"), self.serving()[-1])
            self.vms.remove(going)
        while len(self.serving()) < size:
            if not self._start():
                self._make("RUNNING")
        self.refuse()
        self._boot_later()

    def rest(self, state: str, size: int) -> None:
        """Set the number of suspended or stopped machines."""
        if state == "SUSPENDED":
            self.suspended = size
        else:
            self.stopped = size
        self.version += 1
        while len(waiting := [vm for vm in self.vms if vm.target_status == state]) > size:
            self.vms.remove(waiting[-1])
        while len([vm for vm in self.vms if vm.target_status == state]) < size:
            self._make(state)
        self.refuse()
        self._boot_later()

    def _make(self, target_status: str) -> None:
        counts = {zone: sum(vm.zone == zone for vm in self.vms) for zone in self.zones}
        able = [zone for zone in self.zones if zone not in self.exhausted_zones] or list(self.zones)
        zone = min(able, key=lambda z: counts[z])
        self.vms.append(Vm(f"{self.name}-{next(self._numbers)}", zone, target_status=target_status))

    def _start(self) -> bool:
        """Start a standby machine, and refill the standby where its policy says so."""
        stands = [vm for vm in self.vms if vm.target_status != "RUNNING" and vm.action == "NONE"]
        if self.standby["mode"] != "SCALE_OUT_POOL" or not stands:
            return False
        self._make(stands[0].target_status)
        stands[0].target_status, stands[0].action = "RUNNING", "STARTING"
        return True

    def _boot_later(self) -> None:
        if self.boot_s is not None:
            loop = asyncio.get_running_loop()
            loop.call_later(self.boot_s, self.boot, "RUNNING")
            loop.call_later(self.boot_s + self.rest_s, self.boot)

    def preempt(self, vm: Vm, again_s: float) -> None:
        """Preempt a machine; the group recreates it some seconds later."""
        vm.status, vm.action = "TERMINATED", "RECREATING"

        def again() -> None:
            vm.status, vm.action = "", "CREATING"
            self.refuse()
            self._boot_later()

        asyncio.get_running_loop().call_later(again_s, again)

    def refuse(self) -> None:
        """Fail the creations in zones without capacity, with one error per machine."""
        for vm in self.vms:
            if vm.action == "CREATING" and vm.zone in self.exhausted_zones and not vm.error:
                vm.error = self.exhausted_zones[vm.zone]
                error = {"code": vm.error, "message": WORDS[vm.error]}
                about = {"action": "CREATING", "instance": COMPUTE + self.machine(vm)}
                self.errors.append({"error": error, "instanceActionDetails": about, "timestamp": stamp()})

    def boot(self, *target_status: str) -> None:
        """Run all machines with capacity, or only those with this target status."""
        for vm in self.vms:
            if target_status and vm.target_status not in target_status:
                continue
            if not vm.error and vm.action in {"CREATING", "STARTING"}:
                vm.action = "NONE"
                vm.status = {"RUNNING": "RUNNING", "STOPPED": "TERMINATED"}.get(vm.target_status, vm.target_status)

    def serve(self, count: int) -> None:
        """Make `count` machines run; the others are being created."""
        for i, vm in enumerate(self.serving()):
            vm.status, vm.action, vm.error = ("RUNNING", "NONE", "") if i < count else ("", "CREATING", "")

    def about(self) -> dict[str, Any]:
        body: dict[str, Any] = {
            "kind": "compute#instanceGroupManager",
            "name": self.name,
            "fingerprint": self.fingerprint,
            "targetSize": self.target,
            "targetSuspendedSize": self.suspended,
            "targetStoppedSize": self.stopped,
            "standbyPolicy": self.standby,
            "distributionPolicy": {"targetShape": self.shape},
            "instanceFlexibilityPolicy": {"instanceSelections": self.selections},
            "status": {"isStable": all(vm.action == "NONE" for vm in self.vms)},
        }
        if self.autoscaler:
            body["status"]["autoscaler"] = f"{COMPUTE}projects/{self.project}/zones/z/autoscalers/{self.autoscaler}"
        return body

    def managed(self) -> list[dict[str, Any]]:
        return [self._managed(vm) for vm in self.vms]

    def _managed(self, vm: Vm) -> dict[str, Any]:
        one: dict[str, Any] = {
            "instance": COMPUTE + self.machine(vm),
            "currentAction": vm.action,
            "targetStatus": vm.target_status,
        }
        if vm.status:
            one["instanceStatus"] = vm.status
        if vm.error:
            one["lastAttempt"] = {"errors": {"errors": [{"code": vm.error, "message": WORDS[vm.error]}]}}
        if vm.health:
            one["instanceHealth"] = [{"detailedHealthState": vm.health}]
        return one


def stamp(at: float | None = None) -> str:
    """Return a time in the API's format."""
    when = datetime.now(UTC) if at is None else datetime.fromtimestamp(at, UTC)
    return when.isoformat(timespec="milliseconds")


class Compute:
    """Groups by path and reservations of all projects."""

    def __init__(self) -> None:
        self.migs: dict[str, Mig] = {}
        self.reservations: dict[str, dict[str, Any]] = {}
        self.requests: set[str] = set()
        self.page = 500

    def add(self, mig: Mig) -> Mig:
        self.migs[mig.path] = mig
        return mig

    def reserve(self, project: str, zone: str, name: str, count: int, **more: Any) -> None:
        path = f"projects/{project}/zones/{zone}/reservations/{name}"
        self.reservations[path] = {
            "name": name,
            "status": "READY",
            "specificReservation": {"count": str(count), "inUseCount": "0", "assuredCount": str(count)},
            **more,
        }

    def mig(self, request: web.Request) -> Mig:
        mig: Mig = found(self.migs, request.path.removeprefix("/compute/v1/"), "instanceGroupManagers")
        return mig

    async def get(self, request: web.Request) -> web.Response:
        return web.json_response(self.mig(request).about())

    async def reservation(self, request: web.Request) -> web.Response:
        return web.json_response(found(self.reservations, request.path.removeprefix("/compute/v1/"), "reservations"))

    async def resize(self, request: web.Request) -> web.Response:
        mig = self.mig(request)
        if self._new(request):
            mig.writes += 1
            mig.resize(int(request.query["size"]))
        return operation("resize")

    async def patch(self, request: web.Request) -> web.Response:
        mig, body = self.mig(request), await request.json()
        if body.get("fingerprint") != mig.fingerprint:
            return refusal(412, "conditionNotMet", "Supplied fingerprint does not match current metadata fingerprint.")
        if self._new(request):
            mig.writes += 1
            mig.version += 1
            mig.standby = body.get("standbyPolicy", mig.standby)
            mig.shape = body.get("distributionPolicy", {}).get("targetShape", mig.shape)
            mig.selections = body.get("instanceFlexibilityPolicy", {}).get("instanceSelections", mig.selections)
            if "targetSuspendedSize" in body:
                mig.rest("SUSPENDED", int(body["targetSuspendedSize"]))
            if "targetStoppedSize" in body:
                mig.rest("STOPPED", int(body["targetStoppedSize"]))
        return operation("patch")

    async def managed(self, request: web.Request) -> web.Response:
        return self._paged(request, "managedInstances", self.mig(request).managed())

    async def listed_errors(self, request: web.Request) -> web.Response:
        return self._paged(request, "items", self.mig(request).errors)

    def _paged(self, request: web.Request, key: str, items: list[dict[str, Any]]) -> web.Response:
        first, size = int(request.query.get("pageToken", "0")), min(self.page, int(request.query["maxResults"]))
        body: dict[str, Any] = {key: items[first : first + size]} if items else {}
        if first + size < len(items):
            body["nextPageToken"] = str(first + size)
        return web.json_response(body)

    def _new(self, request: web.Request) -> bool:
        """Return whether this request is new: its id makes it idempotent."""
        request_id = request.query.get("requestId", "")
        known = request_id in self.requests
        self.requests.add(request_id)
        return not known or not request_id


def found(among: dict[str, Any], path: str, kind: str) -> Any:
    """Return the group at this path, with or without a method after it."""
    head, mark, method = path.partition(f"/{kind}/")
    name = head + mark + method.split("/")[0]
    if name not in among:
        raise web.HTTPNotFound(
            text=refusal(404, "notFound", f"The resource '{name}' was not found").text, content_type="application/json"
        )
    return among[name]


def operation(kind: str) -> web.Response:
    return web.json_response({"kind": "compute#operation", "name": f"operation-{kind}", "status": "RUNNING"})


def refusal(status: int, reason: str, message: str, retry_after_s: int | None = None) -> web.Response:
    """Return an error in the format of Compute's API."""
    errors = [{"message": message, "domain": "global", "reason": reason}]
    body = {"error": {"code": status, "message": message, "errors": errors}}
    headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}
    return web.json_response(body, status=status, headers=headers)
