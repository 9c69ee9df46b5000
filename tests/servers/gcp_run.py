"""Cloud Run's services and worker pools with their REST API and their own clock, and their samples in Cloud Monitoring.

A write is accepted at once and reconciled later. The instances that run are only in Cloud Monitoring, late, and without
a sample while there is none.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.servers.gcp_compute import stamp
from tests.servers.gcp_container import status
from tests.servers.gcp_monitoring import Monitoring

INSTANCES = "run.googleapis.com/container/instance_count"
STOCKOUT = "Minimum instances could not be provisioned."
QUOTA = "Quota violated: NvidiaL4GpuAllocNoZonalRedundancyPerProjectRegion requested: 5 allowed: 3"
PATHS = {"scaling.manualInstanceCount", "scaling.minInstanceCount"}
LABELS = {"services": "service_name", "workerPools": "worker_pool_name"}


@dataclass
class Resource:
    """A service or worker pool. `stock`: instances that the region has GPUs for."""

    path: str
    scaling: dict[str, Any]
    running: int = 0
    stock: float = math.inf
    failure: str = STOCKOUT
    """Message where the stock does not suffice."""
    version: int = 1
    observed: int = 1
    settles_at: float = math.inf
    modifier: str = "admin@example.com"
    condition: dict[str, Any] = field(default_factory=lambda: {"type": "Ready", "state": "CONDITION_SUCCEEDED"})

    @property
    def kind(self) -> str:
        return self.path.split("/")[-2]

    @property
    def target(self) -> int:
        """The instances that its scaling asks for."""
        automatic = self.scaling.get("scalingMode") == "AUTOMATIC"
        return int(self.scaling.get("minInstanceCount" if automatic else "manualInstanceCount", 0))

    def about(self) -> dict[str, Any]:
        return {
            "name": self.path,
            "generation": str(self.version),
            "observedGeneration": str(self.observed),
            **({"reconciling": True} if self.observed != self.version else {}),
            "lastModifier": self.modifier,
            "scaling": self.scaling,
            "template": {"nodeSelector": {"accelerator": "nvidia-l4"}, "containers": [{"image": "vllm"}]},
            "terminalCondition": self.condition,
            "etag": f'"{self.version}"',
        }

    def set(self, field_name: str, count: int, modifier: str, settles_at: float) -> None:
        self.scaling = {**self.scaling, field_name: count}
        self.modifier, self.version, self.settles_at = modifier, self.version + 1, settles_at
        self.condition = {"type": "Ready", "state": "CONDITION_RECONCILING"}


class Run:
    """Resources by path."""

    def __init__(self, monitoring: Monitoring) -> None:
        self.now: Callable[[], float] = lambda: datetime.now(UTC).timestamp()
        self.resources: dict[str, Resource] = {}
        self.writes = 0
        self.settle_s = 0.0
        """Time of a reconciliation; infinite: until `settle`. Seconds."""
        self.sample_s = 60.0
        self.delay_s = 120.0
        """Interval of the samples, and time until one is visible. Seconds."""
        self.starts = False
        """Whether a reconciliation starts instances; otherwise only `serve` does."""
        self.refused: web.Response | None = None
        """Response to all writes."""
        self._monitoring = monitoring
        self._samples: list[tuple[float, float, int, Resource]] = []
        self._sampled_at = -math.inf
        monitoring.refresh = self.advance

    def add(self, path: str, running: int, **scaling: Any) -> Resource:
        self.resources[path] = Resource(path, scaling, running)
        self.sample()
        return self.resources[path]

    def settle(self) -> None:
        """End the reconciliations in progress."""
        for resource in self.resources.values():
            resource.settles_at = min(resource.settles_at, self.now())
        self.advance()

    def serve(self, resource: Resource, count: int) -> None:
        """Run this many instances, and let Cloud Monitoring show it."""
        resource.running = count
        self.sample()

    def advance(self) -> None:
        """End the reconciliations whose time has come, and show the samples whose time has come."""
        now = self.now()
        for resource in self.resources.values():
            if resource.settles_at <= now:
                self._settle(resource)
        if now - self._sampled_at >= self.sample_s:
            self._sampled_at = now
            self._samples += [(now + self.delay_s, now, r.running, r) for r in self.resources.values()]
        for sample in [s for s in self._samples if s[0] <= now]:
            self._samples.remove(sample)
            self._show(sample[3], sample[2], sample[1])

    def sample(self) -> None:
        """Sample all resources now, visible at once."""
        for resource in self.resources.values():
            self._show(resource, resource.running, self.now())

    def _show(self, resource: Resource, running: int, at: float) -> None:
        _, _, _, location, kind, name = resource.path.split("/")
        labels = {LABELS[kind]: name, "location": location, "revision_name": f"{name}-00001"}
        active = min(1, running)
        for state, count in (("active", active), ("idle", running - active)):
            if running:
                self._monitoring.record(INSTANCES, count, at, labels={"state": state}, **labels)

    def _settle(self, resource: Resource) -> None:
        resource.settles_at, resource.observed = math.inf, resource.version
        if resource.target > resource.stock:
            reason = {"revisionReason": "MIN_INSTANCES_NOT_PROVISIONED", "message": resource.failure}
            resource.condition = {"type": "Ready", "state": "CONDITION_FAILED", **reason}
        else:
            resource.condition = {"type": "Ready", "state": "CONDITION_SUCCEEDED"}
        resource.condition["lastTransitionTime"] = stamp(self.now())
        most = resource.stock if self.starts else resource.running
        resource.running = int(min(resource.target, most))

    async def get(self, request: web.Request) -> web.Response:
        self.advance()
        resource = self.resources.get(request.path.removeprefix("/v2/"))
        return _missing(request) if resource is None else web.json_response(resource.about())

    async def patch(self, request: web.Request) -> web.Response:
        self.advance()
        resource, body = self.resources.get(request.path.removeprefix("/v2/")), await request.json()
        if resource is None:
            return _missing(request)
        mask = request.query.get("updateMask", "")
        name = mask.removeprefix("scaling.")
        if mask not in PATHS or request.query.keys() != {"updateMask"} or body.keys() != {"name", "etag", "scaling"}:
            return status(400, "INVALID_ARGUMENT", f"Invalid update mask path: {mask}")
        if body["scaling"].keys() != {name} or not isinstance(body["scaling"][name], int):
            return status(400, "INVALID_ARGUMENT", f"Invalid scaling: {body['scaling']}")
        if (name == "minInstanceCount") != (resource.scaling.get("scalingMode") == "AUTOMATIC"):
            return status(400, "INVALID_ARGUMENT", f"{name} does not apply in this scaling mode.")
        if body["etag"] != f'"{resource.version}"':
            given, last = body["etag"].strip('"'), resource.version
            short = resource.path.rpartition("/")[2]
            text = f"Conflict for resource '{short}': version '{given}' was specified but current version is '{last}'."
            return status(409, "ABORTED", text)
        if self.refused is not None:
            return self.refused
        self.writes += 1
        resource.set(name, body["scaling"][name], "scaler@my-project.iam", self.now() + self.settle_s)
        location = "/".join(resource.path.split("/")[:4])
        return web.json_response({"name": f"{location}/operations/{self.writes}", "metadata": resource.about()})


def _missing(request: web.Request) -> web.Response:
    _, _, _, project, _, location, kind, name = request.path.split("/")
    noun = {"services": "SERVICE", "workerPools": "WORKER_POOL"}[kind]
    text = f"Resource '{name}' of kind '{noun}' in region '{location}' in project '{project}' does not exist."
    return status(404, "NOT_FOUND", text)
