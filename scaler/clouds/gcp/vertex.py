"""Vertex AI's API: the deployed models of an endpoint, and its long-running operations.

An endpoint runs one operation at a time, which takes minutes: it is the lock of all its deployed models.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from scaler.clouds.gcp import session
from scaler.clouds.gcp.operations import OperationFollower
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.response_validation import list_of, machine_count, one_line, validated
from scaler.clouds.rest import Body
from scaler.clouds.singleflight import Singleflight
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Conflict, Context, Misconfigured, Unavailable

READ: Final = "aiplatform.endpoints.get"
WRITE: Final = "aiplatform.endpoints.deploy"
FOLLOW: Final = "aiplatform.operations.list"
PAGES: Final = 10
"""Maximum pages of an endpoint's operations."""
SKEW_S: Final = 60.0
"""Maximum difference between our clock and Google's by which an operation counts as begun after a write. Seconds."""


@dataclass(frozen=True, slots=True)
class DeployedModel:
    """A deployed model as it was at `at`. `ready` is None where the API does not report it."""

    id: str
    at: float
    minimum: int
    maximum: int
    ready: int | None
    message: str
    """Why replicas are missing; empty where the API reports nothing."""
    message_at: float
    spot: bool
    accelerator: str
    may_be_zero: bool
    """Whether it has a scaleToZeroSpec."""

    @property
    def is_autoscaled(self) -> bool:
        """Whether Vertex AI's autoscaler chooses the size; it does not between 0 and 1."""
        return self.maximum > max(1, self.minimum)

    @property
    def bounds(self) -> str:
        return f"{self.minimum} to {self.maximum}"


class Endpoint:
    """One endpoint, shared by all pools of its deployed models. `lock` serializes their writes."""

    def __init__(self, reads: session.GcpService, submissions: session.GcpService, context: Context, path: str) -> None:
        self._reads = reads
        self._submissions = submissions
        self._clock = context.clock
        self._path = path
        self._flights = Singleflight()
        self._followers: dict[str, OperationFollower] = {}
        self._known_operations: set[str] = set()
        self.lock = asyncio.Lock()

    async def aclose(self) -> None:
        await self._flights.aclose()

    def follower(self, model: str) -> OperationFollower:
        """Return the follower of the operations on one deployed model."""
        if model not in self._followers:
            self._followers[model] = OperationFollower(self._clock, self._operation)
        return self._followers[model]

    def check_free(self) -> None:
        """Raise `Conflict` while an operation of this process is in progress on the endpoint."""
        for model, follower in self._followers.items():
            if follower.requested is not None:
                to = f"the resize of deployed model {model} to {follower.requested} replicas"
                raise Conflict(f"endpoint {self.name}: {to} is still in progress; an endpoint runs one operation")

    @property
    def name(self) -> str:
        return self._path.rpartition("/")[2]

    async def poll(self) -> None:
        """Read the operations in progress, of all deployed models. Raises port errors."""
        for follower in self._followers.values():
            await follower.poll()

    async def model(self, model: str, *, preview: bool, urgent: bool = False) -> DeployedModel:
        """Return one deployed model. Raises port errors; `Misconfigured` where it cannot be resized.

        `preview`: by the v1beta1 API, in which a minimum may be 0. `urgent`: a write waits for it.
        """
        key = ("endpoint", preview, urgent)
        at, body = await self._flights.share(key, lambda: self._read(preview=preview, urgent=urgent))
        models = list_of(
            f"GCP {READ} of {self.name}", {"deployedModels": body.get("deployedModels", [])}, "deployedModels"
        )
        for item in models:
            if item.get("id") == model:
                return _deployed_model(self.name, item, at, preview=preview)
        listed = ", ".join(sorted(str(item.get("id")) for item in models)) or "none"
        raise Misconfigured(f"GCP {READ} of {self.name}: there is no deployed model {model}; the endpoint has {listed}")

    async def _read(self, *, preview: bool, urgent: bool) -> tuple[float, Body]:
        requested_at = self._clock.now()
        return requested_at, await self._reads.call(
            READ, f"/{_version(preview)}/{self._path}", self.name, write=urgent, repeat=True
        )

    async def mutate(self, model: str, resources: Mapping[str, Any], *, preview: bool) -> Body:
        """Set fields of a deployed model's resources; return the operation. Raises port errors."""
        mask = ",".join(f"dedicatedResources.{field}" for field in sorted(resources))
        body = {"deployedModel": {"id": model, "dedicatedResources": dict(resources)}, "updateMask": mask}
        path = f"/{_version(preview)}/{self._path}:mutateDeployedModel"
        operation = await self._submissions.call(WRITE, path, self.name, method="POST", body=body, write=True)
        name = operation.get("name")
        if not isinstance(name, str) or "/operations/" not in name:
            raise Unavailable(f"GCP {WRITE} of {self.name}: malformed response: {one_line(repr(name))} is no operation")
        self._known_operations.add(name)
        return operation

    async def begun_since(self, sent_at: float) -> Body | None:
        """Return the newest operation that began since; None without one.

        Operations that are known from their write do not count. Raises port errors.
        """
        names = {str(o.get("name")): o for o in await self._operations() if _began_at(o) >= sent_at - SKEW_S}
        unknown = [o for name, o in names.items() if name not in self._known_operations]
        self._known_operations = set(names)
        return max(unknown, key=_began_at, default=None)

    async def _operation(self, name: str) -> Body:
        for operation in await self._operations():
            if operation.get("name") == name:
                return operation
        raise Misconfigured(f"GCP {FOLLOW} of {self.name}: operation {name} not found")

    async def _operations(self) -> list[Body]:
        return await self._flights.share("operations", self._list_operations)

    @validated("GCP")
    async def _list_operations(self) -> list[Body]:
        operations: list[Body] = []
        query = {"pageSize": "100"}
        for _ in range(PAGES):
            body = await self._reads.call(FOLLOW, f"/v1/{self._path}/operations", self.name, query=query)
            operations += list_of(
                f"GCP {FOLLOW} of {self.name}", {"operations": body.get("operations", [])}, "operations"
            )
            if not body.get("nextPageToken"):
                break
            query = {**query, "pageToken": str(body["nextPageToken"])}
        return operations


def _version(preview: bool) -> str:
    return "v1beta1" if preview else "v1"


def _began_at(operation: Mapping[str, Any]) -> float:
    metadata = operation.get("metadata")
    generic = metadata.get("genericMetadata") if isinstance(metadata, Mapping) else None
    return seconds_of(generic.get("createTime") if isinstance(generic, Mapping) else None, float("-inf"))


def _deployed_model(endpoint: str, body: Body, at: float, *, preview: bool) -> DeployedModel:
    about = f"GCP {READ} of {endpoint}: deployed model {body['id']}"
    resources = body.get("dedicatedResources")
    if not isinstance(resources, Mapping):
        raise Misconfigured(f"{about} has no dedicatedResources; deploy it with dedicated resources to resize it")
    minimum = machine_count(f"{about}: minReplicaCount", resources.get("minReplicaCount", 0 if preview else None))
    status = body.get("status") or {}
    machine = resources.get("machineSpec") or {}
    return DeployedModel(
        id=str(body["id"]),
        at=at,
        minimum=minimum,
        maximum=machine_count(f"{about}: maxReplicaCount", resources.get("maxReplicaCount", minimum)),
        ready=_ready(about, status),
        message=one_line(status.get("message", "")),
        message_at=seconds_of(status.get("lastUpdateTime"), at),
        spot=resources.get("spot") is True,
        accelerator=str(machine.get("acceleratorType") or machine.get("machineType") or ""),
        may_be_zero="scaleToZeroSpec" in resources,
    )


def _ready(about: str, status: Mapping[str, Any]) -> int | None:
    """Return the ready replicas of a status; None without one.

    Google's JSON omits a count of 0.
    """
    if "availableReplicaCount" in status:
        return machine_count(f"{about}: availableReplicaCount", status["availableReplicaCount"])
    return 0 if "lastUpdateTime" in status else None


async def endpoint(context: Context, project: GcpProject, location: str, name: str) -> Endpoint:
    """Return the endpoint's client that all its pools share. Raises `Misconfigured`."""
    reads = await session.service(context, project, "aiplatform", location)
    submissions = await session.service(context, project, "aiplatform_operations", location)
    path = f"projects/{project.id}/locations/{location}/endpoints/{name}"

    return await context.shared(
        ("gcp", "vertex endpoint", project, location, name),
        lambda: aclosing(Endpoint(reads, submissions, context, path)),
    )
