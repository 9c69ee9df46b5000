"""Managed online endpoints of the Azure on 127.0.0.1, with their states, two-level lock, and their own clock.

A change of a deployment is accepted at once and ends after `start_s`. Until then the deployment is Scaling and refuses
changes; while its endpoint is Updating, all its deployments do. Azure Monitor counts the instances that serve.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from scaler.clock import SystemClock
from tests.servers.azure import Azure, Operation, refusal
from tests.servers.azure_compute import ROOT, nothing
from tests.servers.azure_metrics import Monitor

WORKSPACE: Final = f"{ROOT}/llm/providers/Microsoft.MachineLearningServices/workspaces/llm"
OPERATION: Final = "Microsoft.MachineLearningServices/locations/mfeOperationsStatus/read"
SETTINGS: Final = f"{ROOT}/llm/providers/Microsoft.Insights/autoscaleSettings"
REGION_CAPACITY: Final = (
    "OutOfQuota",
    "Region-wide VM capacity: the VM size failed to provision due to a lack of Azure Machine Learning capacity.",
)
OUT_OF_QUOTA: Final = (
    "OutOfQuota",
    "Not enough quota available for Standard_NC40ads_H100_v5 in SubscriptionId. Current usage/limit: 80/80.",
)
RESERVE: Final = 1.2
"""Quota that a size takes, relative to it: Azure keeps 20 % for upgrades."""


@dataclass
class Deployment:
    """A managed online deployment. `quota` bounds the size with the reserve, and `stock` without it."""

    cloud: Azure
    name: str
    capacity: int = 1
    endpoint: str = "chat"
    state: str = "Succeeded"
    endpoint_state: str = "Succeeded"
    ready: int | None = None
    """Instances that serve; None: the metric has no sample."""
    starting: int = 0
    start_s: float | None = None
    """Time that a change takes; None: until the test ends it. Seconds."""
    quota: float = math.inf
    stock: float = math.inf
    late_stock: float = math.inf
    """Instances that come; a larger size is accepted, and its change fails when it ends."""
    keeps_size: bool = False
    """Whether a failed deployment still shows the size that it did not reach."""
    scale_type: str = "Default"
    states: tuple[str, str] = ("Healthy", "Starting")
    """Names of the states of instances that serve, and of those that do not."""
    writes: int = 0
    collisions: int = 0
    before: int = 0
    ends_at: float = math.inf
    operation: Operation | None = None
    operation_url: str = ""

    @property
    def endpoint_path(self) -> str:
        return f"{WORKSPACE}/onlineEndpoints/{self.endpoint}"

    @property
    def path(self) -> str:
        return f"{self.endpoint_path}/deployments/{self.name}"

    def register(self, monitor: Monitor) -> Deployment:
        """Add it to the subscription, with its instances in Azure Monitor."""
        self.ready = self.capacity if self.ready is None else self.ready
        self.cloud.resources[self.path.lower()] = self.answer
        self.cloud.resources[self.endpoint_path.lower()] = self.answer_endpoint
        monitor.by_dimensions[self.path.lower(), "DeploymentCapacity"] = self.instances
        self.cloud.resources[f"{self.path}/providers/Microsoft.Insights/metrics".lower()] = monitor.one
        return self

    def instances(self) -> list[tuple[dict[str, str], float]]:
        """Return the series of the metric: the dimensions and the newest value of each."""
        self.advance()
        serves, starts = self.states
        ready, starting = self.ready or 0, self.starting
        named = [(f"i{n}", serves if n < ready else starts) for n in range(ready + starting)]
        return [({"instanceId": name, "State": state}, 1.0) for name, state in named]

    def body(self) -> dict[str, Any]:
        return {
            "id": self.path,
            "name": self.name,
            "kind": "Managed",
            "location": "eastus",
            "sku": {"name": "Default", "capacity": self.capacity},
            "properties": {
                "endpointComputeType": "Managed",
                "instanceType": "Standard_NC40ads_H100_v5",
                "provisioningState": self.state,
                "scaleSettings": {"scaleType": self.scale_type},
                "properties": {"AzureAsyncOperationUri": self.operation_url},
            },
        }

    async def answer_endpoint(self, request: web.Request) -> web.StreamResponse:
        if request.method != "GET":
            return refusal(405, "MethodNotAllowed")
        return web.json_response({"id": self.endpoint_path, "properties": {"provisioningState": self.endpoint_state}})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.advance()
        if request.method == "GET":
            return web.json_response(self.body())
        if request.method != "PATCH":
            return refusal(405, "MethodNotAllowed")
        body = await request.json()
        if set(body) - {"sku", "tags", "identity"} or set(body["sku"]) - {"name", "capacity", "family", "size", "tier"}:
            return refusal(400, "BadArgument", "Only tags, identity and sku can be patched.")
        parts = {f"deployment {self.name}": self.state, f"endpoint {self.endpoint}": self.endpoint_state}
        for what, state in parts.items():
            if state not in {"Succeeded", "Failed", "Canceled"}:
                self.collisions += 1
                text = f"Cannot update {what} because it is in {state} provisioning state."
                return refusal(409, "BadRequest", text)
        capacity = body["sku"]["capacity"]
        if not isinstance(capacity, int) or not 1 <= capacity <= 50:
            return refusal(400, "BadArgument", f"The instance count {capacity} is not within 1 and 50.")
        if capacity > self.capacity and math.ceil(capacity * RESERVE) > self.quota:
            return refusal(400, *OUT_OF_QUOTA)
        if capacity > self.capacity and capacity > self.stock:
            return refusal(409, *REGION_CAPACITY)
        return self.begin(request, capacity)

    def begin(self, request: web.Request, capacity: int) -> web.StreamResponse:
        """Accept a change, which ends later."""
        self.writes += 1
        headers = self.cloud.begin(request, OPERATION)
        self.operation_url = headers["Azure-AsyncOperation"]
        self.operation = list(self.cloud.operations.values())[-1]
        self.before, self.capacity, self.state = self.capacity, capacity, "Scaling"
        self.starting = max(0, capacity - (self.ready or 0))
        self.ready = min(self.ready or 0, capacity)
        self.ends_at = math.inf if self.start_s is None else SystemClock().now() + self.start_s
        return web.json_response(self.body(), status=202, headers={**headers, "Retry-After": "1"})

    def advance(self) -> None:
        """End the change whose time has come."""
        if self.state == "Scaling" and self.ends_at <= SystemClock().now():
            self.end(REGION_CAPACITY if self.capacity > self.late_stock else None)

    def end(self, error: tuple[str, str] | None = None, status: str = "Failed") -> None:
        """End the change in progress: with success, or with an error's code and message."""
        self.starting, self.ends_at = 0, math.inf
        self.state = "Succeeded"
        if error is not None:
            self.state = "Failed" if self.keeps_size else "Succeeded"
            self.capacity = self.capacity if self.keeps_size else self.before
        else:
            self.ready = self.capacity
        if self.operation is not None:
            self.operation.status = status if error else "Succeeded"
            self.operation.error = {"code": error[0], "message": error[1]} if error else None


@dataclass
class Setting:
    """An autoscale setting of Azure Monitor."""

    cloud: Azure
    target: str
    name: str = "by-rate"
    enabled: bool = True
    bounds: tuple[int, int, int] = (1, 10, 2)
    """Minimum, maximum and default of its profile."""
    written: list[dict[str, Any]] = field(default_factory=list)

    def register(self) -> Setting:
        others = self.cloud.lists.get(SETTINGS.lower(), nothing)
        self.cloud.lists[SETTINGS.lower()] = lambda r: [*others(r), self.body()]
        self.cloud.resources[f"{SETTINGS}/{self.name}".lower()] = self.answer
        return self

    def body(self) -> dict[str, Any]:
        minimum, maximum, default = (str(bound) for bound in self.bounds)
        profile = {
            "name": "always",
            "capacity": {"minimum": minimum, "maximum": maximum, "default": default},
            "rules": [{"metricTrigger": {"metricName": "RequestsPerMinute", "threshold": 60}}],
        }
        properties = {"enabled": self.enabled, "targetResourceUri": self.target, "profiles": [profile]}
        return {
            "id": f"{SETTINGS}/{self.name}",
            "name": self.name,
            "type": "Microsoft.Insights/autoscaleSettings",
            "location": "eastus",
            "tags": {"team": "llm"},
            "properties": properties,
        }

    async def answer(self, request: web.Request) -> web.StreamResponse:
        if request.method == "GET":
            return web.json_response(self.body())
        body = await request.json()
        properties = body.get("properties") or {}
        if request.method != "PUT" or not {"location", "tags"} <= body.keys() or not properties["profiles"][0]["rules"]:
            return refusal(400, "InvalidParameter", "The whole setting must be written.")
        if body.keys() & {"id", "name", "type"}:
            return refusal(400, "InvalidParameter", "Read-only fields cannot be written.")
        capacity = properties["profiles"][0]["capacity"]
        minimum, maximum, default = (int(capacity[bound]) for bound in ("minimum", "maximum", "default"))
        if not minimum <= default <= maximum:
            return refusal(400, "InvalidParameter", "The default must be within the minimum and the maximum.")
        self.enabled, self.bounds = properties["enabled"], (minimum, maximum, default)
        self.written.append(properties)
        return web.json_response(self.body())
