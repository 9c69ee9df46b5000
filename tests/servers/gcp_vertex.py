"""Vertex AI's endpoints, deployed models and long-running operations, with their REST API and their own clock.

A write begins an operation, and the endpoint runs one at a time. The deployed model changes when the operation ends,
and its replicas become available after that.
"""

from __future__ import annotations

import itertools
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.servers.gcp_compute import stamp
from tests.servers.gcp_container import status

STOCKOUT = "Machine type temporarily unavailable, please deploy with a different machine type or retry"
QUOTA = "The following quotas are exceeded: CustomModelServingH100GPUsPerProjectPerRegion"
PER_MINUTE = 60
"""Maximum submissions of long-running operations in a minute, of a project and region."""
MUTABLE = {"minReplicaCount", "maxReplicaCount", "requiredReplicaCount", "autoscalingMetricSpecs"}
METADATA = "type.googleapis.com/google.cloud.aiplatform.v1.MutateDeployedModelOperationMetadata"


@dataclass
class Deployed:
    """A deployed model. `stock`: replicas that the region has machines for."""

    id: str
    minimum: int
    maximum: int
    required: int = 1
    available: int = 0
    stock: float = math.inf
    spot: bool = False
    scale_to_zero: bool = False
    message: str = ""
    updated_at: float = 0.0
    has_status: bool = True
    boots_at: float = math.inf

    def about(self) -> dict[str, Any]:
        """Return it as JSON, in which Google omits zeros."""
        counts = {
            "minReplicaCount": self.minimum,
            "maxReplicaCount": self.maximum,
            "requiredReplicaCount": self.required,
        }
        resources: dict[str, Any] = {
            "machineSpec": {
                "machineType": "a3-highgpu-1g",
                "acceleratorType": "NVIDIA_H100_80GB",
                "acceleratorCount": 1,
            },
            **{key: count for key, count in counts.items() if count},
        }
        if self.spot:
            resources["spot"] = True
        if self.scale_to_zero:
            resources["scaleToZeroSpec"] = {"minScaleupPeriod": "300s", "idleScaledownPeriod": "300s"}
        body: dict[str, Any] = {
            "id": self.id,
            "model": "projects/1/locations/r/models/2",
            "dedicatedResources": resources,
        }
        if self.has_status:
            body["status"] = {"lastUpdateTime": stamp(self.updated_at)}
            body["status"] |= {"availableReplicaCount": self.available} if self.available else {}
            body["status"] |= {"message": self.message} if self.message else {}
        return body


@dataclass
class _Operation:
    name: str
    endpoint: str
    began_at: float
    ends_at: float
    updated_at: float
    """Time of the last change; of an ended operation, its end."""
    model: Deployed | None = None
    fields: dict[str, int] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    done: bool = False

    def about(self) -> dict[str, Any]:
        times = {"createTime": stamp(self.began_at), "updateTime": stamp(self.updated_at)}
        body: dict[str, Any] = {"name": self.name, "metadata": {"@type": METADATA, "genericMetadata": times}}
        if self.done:
            body["done"] = True
            body |= {"error": self.error} if self.error else {"response": {}}
        return body


class Vertex:
    """Endpoints by path, each with its deployed models by ID."""

    def __init__(self) -> None:
        self.now: Callable[[], float] = lambda: datetime.now(UTC).timestamp()
        self.endpoints: dict[str, dict[str, Deployed]] = {}
        self.operations: list[_Operation] = []
        self.submissions: deque[float] = deque()
        self.writes = 0
        self.operation_s = 0.0
        """Time of an operation; infinite: until `finish`. Seconds."""
        self.boot_s = math.inf
        """Time from an operation's end to its replicas; infinite: until `serve`. Seconds."""
        self.exhausted = False
        """Refuse scale-outs at once for lack of machines."""
        self.quota: float = math.inf
        """Maximum of maxReplicaCount."""
        self.fails: dict[str, Any] | None = None
        """Error of all operations; None: success, or a lack of stock."""
        self.page = 100
        self._numbers = itertools.count(1)

    def add(self, endpoint: str, model: str, replicas: int, **more: Any) -> Deployed:
        """Add a deployed model of a fixed size, all of it available."""
        settings = {"minimum": replicas, "maximum": max(1, replicas), "available": replicas, **more}
        deployed = Deployed(model, updated_at=self.now(), **settings)
        self.endpoints.setdefault(endpoint, {})[model] = deployed
        return deployed

    def begin(self, endpoint: str) -> None:
        """Begin another client's operation on the endpoint, which lasts until `finish`."""
        self._begin(endpoint, math.inf)

    def finish(self) -> None:
        """End the operations in progress."""
        for operation in self.operations:
            operation.ends_at = min(operation.ends_at, self.now())
        self.advance()

    def serve(self, model: Deployed, count: int) -> None:
        model.available, model.updated_at = count, self.now()

    def advance(self) -> None:
        """End the operations whose time has come, and start the replicas whose time has come."""
        for operation in self.operations:
            if not operation.done and operation.ends_at <= self.now():
                self._end(operation)
        for models in self.endpoints.values():
            for model in models.values():
                if model.boots_at <= self.now():
                    model.boots_at = math.inf
                    self.serve(model, int(min(model.minimum, model.stock)))

    async def get(self, request: web.Request) -> web.Response:
        self.advance()
        path = request.path.partition("/projects/")[2]
        models = self.endpoints.get(f"projects/{path}")
        if models is None:
            return status(404, "NOT_FOUND", f"The Endpoint does not exist: projects/{path}")
        return web.json_response({"name": f"projects/{path}", "deployedModels": [m.about() for m in models.values()]})

    async def listed(self, request: web.Request) -> web.Response:
        self.advance()
        endpoint = "projects/" + request.path.partition("/projects/")[2].removesuffix("/operations")
        items = [o.about() for o in self.operations if o.endpoint == endpoint]
        first, size = int(request.query.get("pageToken", "0")), min(self.page, int(request.query["pageSize"]))
        body: dict[str, Any] = {"operations": items[first : first + size]} if items else {}
        if first + size < len(items):
            body["nextPageToken"] = str(first + size)
        return web.json_response(body)

    async def mutate(self, request: web.Request) -> web.Response:
        self.advance()
        version, _, path = request.path.lstrip("/").partition("/")
        endpoint, body = path.removesuffix(":mutateDeployedModel"), await request.json()
        fields, model = body["deployedModel"]["dedicatedResources"], self._model(endpoint, body["deployedModel"]["id"])
        if model is None:
            return status(404, "NOT_FOUND", f"The DeployedModel does not exist in {endpoint}")
        if problem := _problem(body, fields, model, preview=version == "v1beta1"):
            return status(400, "INVALID_ARGUMENT", problem)
        if refused := self._refused(endpoint, fields, model):
            return refused
        self.writes += 1
        return web.json_response(self._begin(endpoint, self.operation_s, model, fields).about())

    def _refused(self, endpoint: str, fields: dict[str, int], model: Deployed) -> web.Response | None:
        while self.submissions and self.submissions[0] <= self.now() - 60:
            self.submissions.popleft()
        if len(self.submissions) >= PER_MINUTE:
            info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "RATE_LIMIT_EXCEEDED"}
            text = "Quota exceeded for quota metric 'Long running operation submissions' and limit 'per minute'."
            return status(429, "RESOURCE_EXHAUSTED", text, details=[info])
        self.submissions.append(self.now())
        if running := [o.name for o in self.operations if not o.done and o.endpoint == endpoint]:
            text = f'There are other operations running on the Endpoint "{endpoint}". Operation(s) are: {running[0]}.'
            return status(400, "FAILED_PRECONDITION", text)
        if fields.get("maxReplicaCount", 0) > self.quota:
            return status(429, "RESOURCE_EXHAUSTED", QUOTA)
        if self.exhausted and fields["minReplicaCount"] > model.minimum:
            return status(503, "UNAVAILABLE", STOCKOUT)
        return None

    def _begin(
        self, endpoint: str, takes_s: float, model: Deployed | None = None, fields: dict[str, int] | None = None
    ) -> _Operation:
        name, now = f"{endpoint}/operations/{next(self._numbers)}", self.now()
        self.operations.append(_Operation(name, endpoint, now, now + takes_s, now, model, fields or {}, self.fails))
        return self.operations[-1]

    def _end(self, operation: _Operation) -> None:
        operation.done, operation.updated_at = True, operation.ends_at
        model, fields = operation.model, operation.fields
        if model is None or operation.error is not None:
            return
        minimum = fields.get("minReplicaCount", model.minimum)
        required = min(fields.get("requiredReplicaCount", model.required), minimum)
        if required > model.stock:
            operation.error = {"code": 14, "message": STOCKOUT}
            return
        model.minimum, model.required = minimum, required
        model.maximum = fields.get("maxReplicaCount", model.maximum)
        model.message = STOCKOUT if minimum > model.stock else ""
        self.serve(model, min(model.available, model.maximum))
        model.boots_at = self.now() + self.boot_s

    def _model(self, endpoint: str, name: str) -> Deployed | None:
        return self.endpoints.get(endpoint, {}).get(name)


def _problem(body: dict[str, Any], fields: dict[str, int], model: Deployed, *, preview: bool) -> str:
    """Return what is wrong with a request; empty where nothing is."""
    mask = {path.removeprefix("dedicatedResources.") for path in body["updateMask"].split(",")}
    if body.keys() != {"deployedModel", "updateMask"} or body["deployedModel"].keys() != {"id", "dedicatedResources"}:
        return "Invalid JSON payload received. Unknown name."
    if mask != fields.keys() or not mask <= MUTABLE:
        return f"The update mask {sorted(mask)} does not match the fields {sorted(fields)}."
    minimum = fields.get("minReplicaCount", model.minimum)
    maximum = fields.get("maxReplicaCount", model.maximum)
    if minimum < (0 if preview and model.scale_to_zero else 1):
        return "DeployedModel.dedicated_resources.min_replica_count must be at least 1."
    if maximum < max(1, minimum):
        return "DeployedModel.dedicated_resources.max_replica_count must be at least min_replica_count."
    if not 1 <= fields.get("requiredReplicaCount", 1) <= max(1, minimum):
        return "DeployedModel.dedicated_resources.required_replica_count must be from 1 to min_replica_count."
    return ""
