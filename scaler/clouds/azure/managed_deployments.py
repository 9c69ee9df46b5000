"""Deployments of managed serving on Azure, whose changes take minutes and may fail late.

A change is accepted at once and carried out by an operation. Azure runs one operation under a lock that several
deployments share. A change that fails leaves its reason in the operation, and perhaps the old capacity.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from policies.model import Fresh, PoolStatus, Shortfall
from scaler.clouds.azure.errors import validated
from scaler.clouds.azure.operations import ENDED, Operation
from scaler.clouds.azure.pool_context import check_permissions
from scaler.clouds.azure.session import Arm
from scaler.clouds.azure.shared_reads import RecentAnswers
from scaler.clouds.foreign_writes import ForeignWriteDetector
from scaler.clouds.lock_queue import LockQueue
from scaler.clouds.response_validation import machine_count
from scaler.clouds.rest import Body
from scaler.clouds.size_request import SizeRequest
from scaler.ports import Conflict, Context, Misconfigured, OutOfCapacity, OutOfQuota, Permit, PortError, Unavailable

SHOWN_S: Final = 30.0
"""Time after which Azure surely reports an accepted change. Seconds."""
BROKEN: Final = frozenset({"Deleting", "Disabled"})
"""States of a deployment that has no capacity to change."""


class ManagedPool(Protocol):
    """The settings that every managed deployment has."""

    @property
    def path(self) -> str:
        """The deployment's resource id."""

    @property
    def other_writer_yield_s(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Deployment:
    """A deployment as read.

    `locked` is why Azure refuses a change although the deployment itself is idle; empty where it does not.
    """

    capacity: int
    state: str
    sku: Mapping[str, Any]
    properties: Mapping[str, Any]
    body: Body = field(default_factory=dict)
    locked: str = ""

    @property
    def is_busy(self) -> bool:
        return self.state not in ENDED and self.state not in BROKEN

    @property
    def operation_url(self) -> str:
        """URL of the deployment's last operation; empty where Azure does not report it."""
        return str((self.properties.get("properties") or {}).get("AzureAsyncOperationUri") or "")


@dataclass(frozen=True, slots=True)
class DeploymentClients:
    """The clients of a managed deployment. `name` is the pool's name in the queue of its lock."""

    context: Context
    arm: Arm
    recent: RecentAnswers
    queue: LockQueue
    name: str


class ManagedDeployment(ABC):
    """The actuator's port. `what` names the deployment in messages."""

    write_action: str
    """Permission to change the deployment."""
    operation_action: str
    """Permission to read the result of a change."""
    holds_lock: bool = False
    """Whether a change of this deployment blocks those of the other ones that share its lock."""

    def __init__(self, spec: ManagedPool, clients: DeploymentClients, what: str) -> None:
        self._path = self._read_key = spec.path
        self._what = what
        self._clock = clients.context.clock
        self._arm = clients.arm
        self._recent = clients.recent
        self._queue = clients.queue
        self._name = clients.name
        self._operation = Operation(clients.arm, self._clock, self.operation_action)
        self._writes = ForeignWriteDetector(self._clock, spec.other_writer_yield_s, what)
        self._request: SizeRequest | None = None
        self._failed: Shortfall | None = None
        self._failed_sizes: frozenset[int] = frozenset()
        self._retriable: PortError | None = None
        """Why the last change failed late, where a repetition may help; raised once."""
        self._is_explained = False
        """Whether the reason of a state Failed is already noted."""
        self._has_rival = False
        """Whether another autoscaler of Azure is active, whatever the pool does about it."""
        self._asked = False
        self._is_busy = False

    @abstractmethod
    async def _read(self, *, urgent: bool = False) -> Deployment:
        """Return the deployment. Raises port errors.

        `urgent`: before a write, so from no shared response.
        """

    @abstractmethod
    async def _ready(self, deployment: Deployment) -> tuple[int, str]:
        """Return the ready replicas, and why they are a lower bound; empty where they are not.

        Raises `Unavailable` where the number is unknown.
        """

    @abstractmethod
    async def _require_possible(self, deployment: Deployment, replicas: int) -> None:
        """Raise the port error for a size that Azure would refuse."""

    @abstractmethod
    def _actions(self) -> Sequence[str]: ...

    async def _rival(self, *, urgent: bool = False) -> str:
        """Return the other autoscaler to which the pool is left; empty without one.

        Raises port errors.
        """
        return ""

    @validated
    async def status(self) -> Fresh[PoolStatus]:
        at = self._clock.now()
        deployment, rival = await self._read(), await self._rival()
        await self._operation.shortfall()
        if not self._asked:
            self._queue.withdraw(self._name)
        self._asked, self._is_busy = False, deployment.is_busy
        self._follow(deployment)
        ready, missing = await self._ready(deployment)
        desired = self._desired(deployment)
        other_writer = self._writes.observe(deployment.capacity, named=self._has_rival)
        status = PoolStatus(
            desired=desired,
            ready=min(ready, desired),
            other_writer=rival or other_writer,
            failed=max(0, desired - ready) if self._failed is not None else 0,
            shortfall=self._failed,
        )
        return Fresh(status, at, missing)

    @validated
    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        self._asked = True
        if self._is_busy and replicas == observed.desired:
            return
        if self._is_busy and not self.holds_lock:  # it holds up no other pool, so it takes no place in the queue
            raise self._busy("its last change is still in progress")
        async with self._queue.turn(self._name):
            if self._is_busy:
                raise self._busy("its last change is still in progress")
            deployment = await self._read(urgent=True)
            self._writes.check(deployment.capacity, observed.desired)
            if deployment.capacity == replicas:
                return
            if deployment.state in BROKEN:
                raise Misconfigured(f"{self._what} is {deployment.state}; remove the pool, or create it again")
            if deployment.is_busy or deployment.locked:
                raise self._busy(deployment.locked or f"it is {deployment.state}")
            self._raise_late_failure()
            await self._require_possible(deployment, replicas)
            if rival := await self._rival(urgent=True):
                raise Misconfigured(f"{self._what}: {rival}")
            await self._write(deployment, replicas)

    @validated
    async def permits(self) -> Sequence[Permit]:
        return await check_permissions(self._arm, self._path, self._actions())

    def _desired(self, deployment: Deployment) -> int:
        """Return the last requested size: Azure may report the earlier one until a change ends."""
        request = self._request
        return request.replicas if request is not None and request.accepted else deployment.capacity

    def _busy(self, why: str) -> Conflict:
        return Conflict(f"{self._what}: {why}; Azure accepts one change at a time, and the next tick tries again")

    async def _write(self, deployment: Deployment, replicas: int) -> None:
        self._writes.request(deployment.capacity, [replicas])
        self._operation.follow_url("")
        unanswered, request = self._request, SizeRequest(deployment.capacity, replicas, self._clock.now())
        self._request = request
        body = {"sku": {**deployment.sku, "capacity": replicas}}
        version = str(deployment.body.get("etag") or "")
        try:
            response = await self._arm.write("PATCH", self.write_action, self._path, body, version=version)
        except PortError as e:
            if not isinstance(e, Unavailable):  # an earlier write without a response may be in force
                self._request = unanswered
            raise
        finally:
            self._recent.forget(self._read_key)
        request.accepted, self._failed, self._retriable = True, None, None
        self._operation.follow(response)

    def _follow(self, deployment: Deployment) -> None:
        """Follow the last change: until it is provided, or failed and why."""
        if deployment.capacity not in self._failed_sizes:
            self._failed = None
        request = self._request
        if request is not None:
            self._writes.expect(request.before)  # Azure may still report it, or return to it
            if not request.accepted and deployment.capacity != request.before:  # the write without a response applies
                request.replicas, request.accepted = deployment.capacity, True
        if deployment.is_busy:
            self._failed, self._is_explained = None, False
            if request is not None:
                request.seen = True
            if not self._operation.in_progress and self._operation.error is None:  # a lost response, or a restart
                self._operation.follow_url(deployment.operation_url)
        elif not self._operation.in_progress:
            self._conclude(deployment)

    def _conclude(self, deployment: Deployment) -> None:
        """Note the result of a change whose operation ended."""
        request, error, capacity = self._request, self._operation.error, deployment.capacity
        has_failed = error is not None or (deployment.state == "Failed" and not self._is_explained)
        if request is None:
            if has_failed:
                self._end(error, f"failed to change; its size is {capacity}", capacity)
            return
        is_old, waited_s = capacity == request.before, self._clock.now() - request.at
        if is_old and error is None and not (request.accepted and request.seen) and waited_s <= SHOWN_S:
            return  # Azure may not report the change yet
        self._request = None
        if is_old and not request.accepted:
            return  # the write without a response was not applied
        if has_failed:
            text = f"did not change from {request.before} to {request.replicas} replicas"
            self._end(error, text, request.before, request.replicas)
        elif is_old:
            self._end(None, f"returned to {request.before} replicas instead of {request.replicas}", request.before)

    def _end(self, error: PortError | None, text: str, *sizes: int) -> None:
        """Note a failed change, which a repetition helps or which leaves replicas missing."""
        cause = OutOfCapacity("Azure reports no reason") if error is None else error
        named = type(cause)(f"{self._what} {text}: {cause}")
        if isinstance(cause, OutOfCapacity | OutOfQuota | Misconfigured):
            self._fail(named, *sizes)
        else:
            self._retriable = named
        self._is_explained = True
        self._operation.follow_url("")

    def _fail(self, error: PortError, *sizes: int) -> None:
        """Remember a failed change while the size is one of `sizes`. Its first report counts."""
        if self._failed is None:
            lasting = isinstance(error, OutOfQuota | Misconfigured)
            self._failed = Shortfall(self._clock.now(), str(error), quota=lasting)
            self._failed_sizes = frozenset(sizes)

    def _raise_late_failure(self) -> None:
        """Raise why the last change failed late, once."""
        if self._retriable is not None:
            error, self._retriable = self._retriable, None
            raise error


def parse_deployment(what: str, body: Body, locked: str = "") -> Deployment:
    """Return a deployment from its resource. Raises `Unavailable`: missing is not zero."""
    sku, properties = body.get("sku"), body.get("properties")
    if not isinstance(sku, Mapping) or not isinstance(properties, Mapping):
        raise Unavailable(f"{what}: malformed response: it has no sku or no properties")
    return Deployment(
        machine_count(f"{what}: sku.capacity", sku.get("capacity")), state_of(what, body), sku, properties, body, locked
    )


def state_of(what: str, body: Body) -> str:
    """Return the provisioning state of a resource. Raises `Unavailable` without one."""
    state = (body.get("properties") or {}).get("provisioningState")
    if not isinstance(state, str) or not state:
        raise Unavailable(f"{what}: malformed response: it has no provisioningState")
    return state
