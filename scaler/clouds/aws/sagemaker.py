"""SageMaker pools: a size of an endpoint, whose updates take minutes and may fail late.

SageMaker accepts one change of an endpoint at a time. A change may be rolled back minutes later: the endpoint returns
to InService at the old size. Application Auto Scaling may resize the same objects (`SageMakerPool.native`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from policies.model import Fresh, PoolStatus, Shortfall
from scaler.clouds.aws import native_scaling, session
from scaler.clouds.aws.launch_failures import launch_failure
from scaler.clouds.aws.native_scaling import NativeScaling, ScalableTarget, TargetKey, require_target
from scaler.clouds.aws.resizer import AwsActuator
from scaler.clouds.lock_queue import LockQueue, lock_queue
from scaler.clouds.response_validation import machine_count
from scaler.clouds.size_request import SizeRequest
from scaler.ports import Conflict, Misconfigured, PortError, Unavailable

if TYPE_CHECKING:
    from scaler.clouds.aws.session import AwsService
    from scaler.config.kinds.sagemaker_pools import SageMakerPool
    from scaler.ports import Context

BUSY: Final = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})
"""States in which SageMaker refuses every change."""
NOT_SERVING: Final = frozenset({"Creating", "Deleting", "Failed", "OutOfService"})
BROKEN: Final[Mapping[str, str]] = {
    "Deleting": "remove the pool",
    "Failed": "delete it and create it again",
    "OutOfService": "create it again",
    "UpdateRollbackFailed": "repair it in SageMaker: its variants may have different configurations",
}
"""States that end only by a person, with the remedy."""
STATES: Final = BUSY | NOT_SERVING | BROKEN.keys() | {"InService"}
SHOWN_S: Final = 30.0
"""Time after which SageMaker surely reports an accepted change. Seconds."""


@dataclass(frozen=True, slots=True)
class Described:
    """One size of SageMaker as described. `reason` is its text on a failure; empty without one."""

    endpoint: str
    desired: int
    current: int
    state: str
    reason: str
    arn: str
    rival: str = ""
    """The part of SageMaker itself that also resizes it; empty where none does."""

    @property
    def ready(self) -> int:
        return 0 if self.state in NOT_SERVING else min(self.desired, self.current)


class SageMakerResizer(AwsActuator):
    """The actuator's port. `pool` names it in the queue of its endpoint."""

    _sagemaker: AwsService
    _native: NativeScaling

    def __init__(self, spec: SageMakerPool, context: Context, what: str, pool: str) -> None:
        super().__init__(spec.account, spec.other_writer_yield_s, context, what)
        self._mode = spec.native
        self._max_replicas = spec.max_replicas
        self._name = pool
        self._arn = "*"
        self._request: SizeRequest | None = None
        self._failed: Shortfall | None = None
        self._failed_sizes: frozenset[int] = frozenset()
        self._is_broken = False
        self._asked = False

    async def _connect(self) -> None:
        self._sagemaker = await session.service(self._context, "sagemaker", self._account)
        self._native = await native_scaling.native_scaling(self._context, self._account)

    @property
    @abstractmethod
    def _key(self) -> TargetKey:
        """The size's name in Application Auto Scaling."""

    @abstractmethod
    async def _describe(self, *, urgent: bool = False) -> Described: ...

    @abstractmethod
    async def _locked(self, replicas: int) -> str:
        """Return the endpoint whose lock a write of this size takes. Raises port errors."""

    @abstractmethod
    async def _write(self, replicas: int) -> str:
        """Request a size, and return the object's ARN from the response. Raises port errors."""

    async def _queue(self, endpoint: str) -> LockQueue:
        key = ("sagemaker", self._account.identity, endpoint)
        return await lock_queue(self._context, key, f"SageMaker endpoint {endpoint}")

    async def _status(self) -> Fresh[PoolStatus]:
        at = self._context.clock.now()
        described, target = await self._describe(), await self._native.target(self._key)
        self._arn = described.arn
        if not self._asked:
            (await self._queue(described.endpoint)).withdraw(self._name)
        self._asked = False
        self._follow(described)
        desired = self._desired(described)
        shortfall = self._failed
        if self._mode == "floor":
            desired = max(desired, require_target(self._key, target, 0).minimum)
            if desired > described.ready:
                shortfall = await self._native.last_failure(self._key, self._writes.raised_at) or shortfall
        rival = self._rival(described, target)
        is_native = target is not None and target.active
        other_writer = self._writes.observe(desired, named=is_native or bool(described.rival))
        failed = max(0, desired - described.ready) if shortfall is not None else 0
        status = PoolStatus(
            desired, described.ready, other_writer=rival or other_writer, failed=failed, shortfall=shortfall
        )
        return Fresh(status, at)

    def _desired(self, described: Described) -> int:
        """Return the last requested size, or the one to which SageMaker returns after it failed."""
        request = self._request
        is_own_rollback = described.state == "RollingBack" and request is not None and request.accepted
        return request.before if request is not None and is_own_rollback else described.desired

    def _rival(self, described: Described, target: ScalableTarget | None) -> str:
        """Return the other autoscaler to which the pool is left; empty without one."""
        if described.rival:
            return described.rival
        if self._mode == "refuse" and target is not None and target.active:
            return (
                f"Application Auto Scaling resizes {self._key.resource}; deregister it, or set native to take_over or"
                " floor"
            )
        return ""

    def _follow(self, described: Described) -> None:
        """Follow the own request: until it is provided, or failed and why."""
        request = self._request
        if described.desired not in self._failed_sizes or (self._is_broken and described.state not in BROKEN):
            self._failed, self._is_broken = None, False
        if described.state in BROKEN:
            self._is_broken = True
            text = f"is {described.state}: {described.reason or BROKEN[described.state]}"
            self._fail(text, described.desired, lasting=True)
        elif request is not None:
            self._follow_request(request, described)

    def _follow_request(self, request: SizeRequest, described: Described) -> None:
        if not request.accepted and described.desired != request.before:  # this write, or an earlier unanswered one
            request.replicas, request.accepted, self._failed = described.desired, True, None
        before, replicas = request.before, request.replicas
        if described.state == "RollingBack":
            text = f"rolls back from {replicas} to {before} replicas{_because(described.reason)}"
            self._writes.expect(before)
            self._fail(text, before, replicas)
        if described.state in BUSY:
            request.seen = True
            return
        is_old = described.desired == before
        is_shown = request.seen or self._context.clock.now() - request.at > SHOWN_S
        if is_old and not (request.accepted and is_shown):
            return
        self._request = None
        if is_old:
            self._writes.expect(before)
            text = f"returned to {before} replicas instead of {replicas}{_because(described.reason)}"
            self._fail(text, before)
        elif described.desired == replicas and described.current < replicas:
            text = f"has {described.current} of {replicas} replicas{_because(described.reason)}"
            self._fail(text, replicas)

    def _fail(self, text: str, *sizes: int, lasting: bool = False) -> None:
        """Remember a failed resize while the size is one of `sizes`. Its first report counts."""
        if self._failed is None:
            cause = launch_failure(f"{self._what} {text}")
            self._failed = Shortfall(self._context.clock.now(), cause.reason, lasting or cause.lasting)
            self._failed_sizes = frozenset(sizes)

    async def _resize(self, replicas: int, observed: PoolStatus) -> None:
        self._asked = True
        if self._mode == "floor":
            await self._set_floor(replicas, observed)
            return
        queue = await self._queue(await self._locked(replicas))
        async with queue.turn(self._name):
            described = await self._describe(urgent=True)
            present = self._desired(described)
            self._writes.check(present, observed.desired)
            if present != replicas:
                await self._require_writable(described)
                await self._request_size(present, replicas)

    async def _request_size(self, present: int, replicas: int) -> None:
        self._writes.request(present, [replicas])
        unanswered, request = self._request, SizeRequest(present, replicas, self._context.clock.now())
        self._request = request
        try:
            arn = await self._write(replicas)
        except PortError as e:
            if not isinstance(e, Unavailable):  # an earlier write without a response may be in force
                self._request = unanswered
            raise
        if not arn:
            raise Unavailable(f"{self._what}: malformed response: the accepted resize has no ARN")
        request.accepted, self._failed = True, None

    async def _require_writable(self, described: Described) -> None:
        """Take the size over from the native autoscaler where configured.

        Raises port errors where SageMaker accepts no change now, or where another autoscaler has the size.
        """
        if described.state in BROKEN:
            raise Misconfigured(f"{self._what} is {described.state}; {BROKEN[described.state]}")
        if described.state in BUSY:
            raise Conflict(f"{self._what} is {described.state}: SageMaker accepts one change at a time; it waits")
        target = await self._native.target(self._key, urgent=True)
        if rival := self._rival(described, target):
            raise Misconfigured(f"{self._what}: {rival}")
        if self._mode == "take_over" and target is not None:
            await self._native.take_over(self._key, target)

    async def _set_floor(self, replicas: int, observed: PoolStatus) -> None:
        target = require_target(self._key, await self._native.target(self._key, urgent=True), replicas)
        if target.minimum != replicas:
            self._writes.request(observed.desired, [replicas])
            self._failed = None
            await self._native.set_minimum(self._key, replicas)

    async def scale_out_refusals(self) -> Sequence[str]:
        """Return why a scale-out would be refused, with remedies."""
        described, target = await self._describe(), await self._native.target(self._key)
        refusals = [rival] if (rival := self._rival(described, target)) else []
        if described.state in BROKEN:
            refusals.append(f"{self._what} is {described.state}; {BROKEN[described.state]}")
        if self._mode == "floor":
            try:
                require_target(self._key, target, self._max_replicas or 0)
            except Misconfigured as e:
                refusals.append(str(e))
        return refusals

    def _native_actions(self) -> dict[str, str]:
        writes = {} if self._mode == "refuse" else {f"{native_scaling.SERVICE}:RegisterScalableTarget": "*"}
        reads = ["DescribeScalableTargets", *(["DescribeScalingActivities"] if self._mode == "floor" else [])]
        return {**{f"{native_scaling.SERVICE}:{action}": "*" for action in reads}, **writes}


def _because(reason: str) -> str:
    return f": {reason}" if reason else "; SageMaker reports no reason"


def size(what: str, value: object) -> int:
    """Return a number of instances or copies.

    Raises `Unavailable` for anything else: missing is not zero.
    """
    return machine_count(f"AWS sagemaker: {what}", value)


def known_state(what: str, value: object) -> str:
    """Return a state of SageMaker. Raises `Unavailable` for an unknown one."""
    if value not in STATES:
        raise Unavailable(f"AWS sagemaker: malformed response: {what} has state {value!r}")
    return str(value)
