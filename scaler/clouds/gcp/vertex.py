"""Vertex AI's API: the deployed models of an endpoint, and their writes."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from scaler.clouds.gcp import session
from scaler.clouds.gcp.operations import OperationFollower
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.gcp.vertex_operations import EndpointOperations
from scaler.clouds.lock_queue import LockQueue
from scaler.clouds.response_validation import list_of, machine_count, one_line
from scaler.clouds.rest import Body
from scaler.clouds.singleflight import Singleflight
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Conflict, Context, Misconfigured, Unavailable

READ: Final = "aiplatform.endpoints.get"
WRITE: Final = "aiplatform.endpoints.deploy"


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
    is_alone: bool
    """Whether its endpoint has no other deployed model."""

    @property
    def is_autoscaled(self) -> bool:
        """Whether Vertex AI's autoscaler chooses the size; it does not between 0 and 1."""
        return self.maximum > max(1, self.minimum)

    @property
    def bounds(self) -> str:
        return f"{self.minimum} to {self.maximum}"


class Endpoint:
    """One endpoint of all pools of its deployed models, whose writes take turns in `queue`."""

    def __init__(self, reads: session.GcpService, submissions: session.GcpService, context: Context, path: str) -> None:
        self._reads = reads
        self._submissions = submissions
        self._clock = context.clock
        self._path = path
        self._flights = Singleflight()
        self._followers: dict[str, OperationFollower] = {}
        self.operations = EndpointOperations(reads, context.clock, path)
        self.queue = LockQueue(context.clock, f"Vertex AI endpoint {self.name}")

    async def aclose(self) -> None:
        await self._flights.aclose()
        await self.operations.aclose()

    def follower(self, model: str) -> OperationFollower:
        """Return the follower of the operations on one deployed model."""
        if model not in self._followers:
            self._followers[model] = OperationFollower(self._clock, self.operations.find)
        return self._followers[model]

    async def check_free(self) -> Collection[str]:
        """Return the names of the endpoint's operations, all of which ended.

        Raises `Conflict` while one is in progress, of any client, and other port errors.
        """
        for model, follower in self._followers.items():
            if follower.requested is not None:
                to = f"the resize of deployed model {model} to {follower.requested} replicas"
                raise Conflict(f"endpoint {self.name}: {to} is still in progress; an endpoint runs one operation")
        return await self.operations.check_free()

    @property
    def name(self) -> str:
        return self._path.rpartition("/")[2]

    async def poll(self) -> None:
        """Read the operations in progress, of all deployed models and processes. Raises port errors."""
        for follower in self._followers.values():
            await follower.poll()
        await self.operations.poll()

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
                return _deployed_model(self.name, item, at, preview=preview, is_alone=len(models) == 1)
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
        self.operations.begin(name)
        return operation


def _version(preview: bool) -> str:
    return "v1beta1" if preview else "v1"


def _deployed_model(endpoint: str, body: Body, at: float, *, preview: bool, is_alone: bool) -> DeployedModel:
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
        is_alone=is_alone,
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
