"""Azure OpenAI accounts of the Azure on 127.0.0.1: provisioned deployments, their account's lock, and their own clock.

A change is accepted at once and ends after `change_s`; until then the account refuses all other changes. Another
operation may be first without a refusal: then the change fails late. Capacity that is given back is gone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from scaler.clock import SystemClock
from tests.servers.azure import SUBSCRIPTION, Azure, Operation, refusal
from tests.servers.azure_compute import ROOT

ACCOUNTS: Final = f"{ROOT}/llm/providers/Microsoft.CognitiveServices/accounts"
CAPACITIES: Final = (
    f"/subscriptions/{SUBSCRIPTION}/providers/Microsoft.CognitiveServices/locations/eastus/modelCapacities"
)
OPERATION: Final = "Microsoft.CognitiveServices/locations/operationResults/read"
REQUEST_CONFLICT: Final = (
    "RequestConflict",
    "Another operation is being performed on the parent resource 'llm'. Please try again later.",
)
NO_CAPACITY: Final = ("InsufficientCapacity", "The region has no capacity for this model.")
INSUFFICIENT_QUOTA: Final = (
    "InsufficientQuota",
    "It requires {more} new capacity, bigger than the current available capacity {left}; the quota limit is {limit}.",
)


@dataclass
class Ptu:
    """A deployment of an account. `modified_at`: the time of its last change, seconds since the Unix epoch."""

    name: str
    capacity: int = 15
    sku: str = "GlobalProvisionedManaged"
    state: str = "Succeeded"
    current: int | None = None
    """PTUs that serve; None: not reported."""
    spillover: str | None = None
    modified_at: float = 0.0
    etag: int = 1
    before: int = 0

    def body(self) -> dict[str, Any]:
        model = {"format": "OpenAI", "name": "gpt-4.1", "version": "2025-04-14"}
        properties: dict[str, Any] = {"model": model, "provisioningState": self.state}
        if self.current is not None:
            properties["currentCapacity"] = self.current
        if self.spillover is not None:
            properties["spilloverDeploymentName"] = self.spillover
        return {
            "id": f"{ACCOUNTS}/llm/deployments/{self.name}",
            "name": self.name,
            "etag": f'"{self.etag}"',
            "sku": {"name": self.sku, "capacity": self.capacity},
            "systemData": {"lastModifiedAt": datetime.fromtimestamp(self.modified_at, UTC).isoformat()},
            "properties": properties,
        }


@dataclass
class Account:
    """An account with its deployments, its region's free PTUs (`stock`) and its quota."""

    cloud: Azure
    deployments: list[Ptu]
    name: str = "llm"
    minimum: int = 15
    step: int = 5
    stock: float = math.inf
    quota: float = math.inf
    change_s: float | None = None
    """Time that a change takes; None: until the test ends it. Seconds."""
    background: bool = False
    """Whether another operation of the account is in progress, which no deployment shows."""
    writes: int = 0
    collisions: int = 0
    changing: Ptu | None = None
    ends_at: float = math.inf
    operation: Operation | None = None
    listed: bool = True
    """Whether the region lists the capacity of the model."""
    log: list[tuple[str, int]] = field(default_factory=list)

    @property
    def path(self) -> str:
        return f"{ACCOUNTS}/{self.name}"

    def register(self) -> Account:
        path = self.path.lower()
        self.cloud.resources[path] = self.answer_account
        self.cloud.lists[f"{path}/deployments"] = lambda _: self.list_deployments()
        self.cloud.lists[CAPACITIES.lower()] = lambda _: self.capacities()
        for ptu in self.deployments:
            ptu.current = ptu.capacity if ptu.current is None else ptu.current
            self.cloud.resources[f"{path}/deployments/{ptu.name}".lower()] = self.answer
            self.cloud.lists[f"{path}/deployments/{ptu.name}/skus".lower()] = lambda _: self.skus()
        return self

    def list_deployments(self) -> list[dict[str, Any]]:
        self.advance()
        return [ptu.body() for ptu in self.deployments]

    def skus(self) -> list[dict[str, Any]]:
        capacity = {"minimum": self.minimum, "maximum": 100_000, "step": self.step, "default": self.minimum}
        return [{"sku": {"name": "GlobalProvisionedManaged"}, "capacity": capacity}]

    def capacities(self) -> list[dict[str, Any]]:
        if not self.listed:
            return []
        available = 1_000_000 if self.stock == math.inf else int(self.stock)
        return [{"properties": {"skuName": "GlobalProvisionedManaged", "availableCapacity": available}}]

    async def answer_account(self, request: web.Request) -> web.StreamResponse:
        if request.method != "GET":
            return refusal(405, "MethodNotAllowed")
        return web.json_response(
            {"id": self.path, "location": "eastus", "properties": {"provisioningState": "Succeeded"}}
        )

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.advance()
        name = request.path.rpartition("/")[2].lower()
        ptu = next(p for p in self.deployments if p.name.lower() == name)
        if request.method == "GET":
            return web.json_response(ptu.body())
        if request.method != "PATCH":
            return refusal(405, "MethodNotAllowed")
        body = await request.json()
        if set(body) - {"sku", "tags"}:
            return refusal(400, "BadRequest", "Only tags and sku can be patched.")
        if self.changing is not None or self.background:
            self.collisions += 1
            return refusal(409, *REQUEST_CONFLICT)
        if request.headers.get("If-Match", f'"{ptu.etag}"') != f'"{ptu.etag}"':
            return refusal(412, "PreconditionFailed", "The etag does not match.")
        return self.refused(ptu, body["sku"]["capacity"]) or self.begin(request, ptu, body["sku"]["capacity"])

    def refused(self, ptu: Ptu, capacity: int) -> web.Response | None:
        more = capacity - ptu.capacity
        if capacity < self.minimum or (capacity - self.minimum) % self.step:
            return refusal(
                400, "InvalidCapacity", f"The capacity must be {self.minimum} or more in steps of {self.step}."
            )
        used = sum(p.capacity for p in self.deployments)
        if used + more > self.quota:
            code, text = INSUFFICIENT_QUOTA
            return refusal(400, code, text.format(more=more, left=self.quota - used, limit=self.quota))
        return refusal(409, *NO_CAPACITY) if more > self.stock else None

    def begin(self, request: web.Request, ptu: Ptu, capacity: int) -> web.StreamResponse:
        """Accept a change, which ends later. Capacity that it gives back is gone at once."""
        self.writes += 1
        self.log.append((ptu.name, capacity))
        headers = self.cloud.begin(request, OPERATION)
        self.operation = list(self.cloud.operations.values())[-1]
        self.stock -= max(0, capacity - ptu.capacity)
        ptu.before, ptu.capacity, ptu.state = ptu.capacity, capacity, "Accepted"
        ptu.etag += 1
        ptu.modified_at = SystemClock().now()
        self.changing = ptu
        self.ends_at = math.inf if self.change_s is None else SystemClock().now() + self.change_s
        return web.json_response(ptu.body(), status=202, headers={**headers, "Retry-After": "1"})

    def advance(self) -> None:
        """End the change whose time has come."""
        if self.changing is not None and self.ends_at <= SystemClock().now():
            self.end()

    def end(self, error: tuple[str, str] | None = None) -> None:
        """End the change in progress: with success, or with an error's code and message."""
        ptu, self.changing, self.ends_at = self.changing, None, math.inf
        if ptu is None:
            return
        ptu.state = "Failed" if error else "Succeeded"
        ptu.capacity = ptu.before if error else ptu.capacity
        ptu.current, ptu.etag = ptu.capacity, ptu.etag + 1
        if self.operation is not None:
            self.operation.status = ptu.state
            self.operation.error = {"code": error[0], "message": error[1]} if error else None
