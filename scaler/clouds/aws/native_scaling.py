"""Application Auto Scaling, the native autoscaler of SageMaker.

A scalable target is taken over by its `SuspendedState`. It is given back with the flags found before when the daemon
ends, or once no pool has read it for a while (`take_overs.py`).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from policies.model import Shortfall
from scaler.clouds.aws import session
from scaler.clouds.aws.launch_failures import launch_failure
from scaler.clouds.batching import batch
from scaler.clouds.response_validation import MALFORMED, list_of, machine_count
from scaler.clouds.take_overs import TakeOvers
from scaler.ports import Misconfigured, Unavailable

if TYPE_CHECKING:
    from scaler.clouds.aws.account import AwsAccount
    from scaler.clouds.aws.session import AwsService
    from scaler.clouds.batching import Batch
    from scaler.ports import Context

SERVICE: Final = "application-autoscaling"
NAMESPACE: Final = "sagemaker"
MAX_IDS: Final = 50
"""Maximum targets of one DescribeScalableTargets call."""
FLAGS: Final = ("DynamicScalingInSuspended", "DynamicScalingOutSuspended", "ScheduledScalingSuspended")
STATUSES: Final = {
    "Failed": True,
    "InProgress": False,
    "Overridden": False,
    "Pending": False,
    "Successful": False,
    "Unfulfilled": True,
}
"""Statuses of a scaling activity, and whether it failed."""


class TargetKey(NamedTuple):
    """A scalable target of SageMaker, as Application Auto Scaling names it."""

    resource: str
    dimension: str


@dataclass(frozen=True, slots=True)
class ScalableTarget:
    """A registered target: the bounds of its capacity, and which of its `FLAGS` are set."""

    minimum: int
    maximum: int
    flags: tuple[bool, ...]

    @property
    def active(self) -> bool:
        """Whether anything of it may still change the capacity."""
        return not all(self.flags)


class NativeScaling:
    """The scalable targets of SageMaker in one account, and those that this daemon took over."""

    def __init__(self, context: Context, service: AwsService, described: Batch[TargetKey, ScalableTarget]) -> None:
        self._service = service
        self._described = described
        remedy = "resume its scaling with aws application-autoscaling register-scalable-target"
        self.taken_over = TakeOvers(context.clock, self._resume, lambda key: key.resource, remedy)

    async def target(self, key: TargetKey, *, urgent: bool = False) -> ScalableTarget | None:
        """Return a target; None where it is not registered. Raises port errors."""
        _, target = await self._described.get(key, urgent=urgent)
        self.taken_over.use(key)
        return target

    async def take_over(self, key: TargetKey, target: ScalableTarget) -> None:
        """Suspend a target, and remember its flags. Raises port errors.

        After a lost response the next tick reads the target: it is suspended then, or suspended again.
        """
        if target.active:
            self.taken_over.remember(key, target.flags)
            await self._register(key, SuspendedState=dict.fromkeys(FLAGS, True))

    async def set_minimum(self, key: TargetKey, replicas: int) -> None:
        """Set the minimum capacity of a target. Raises port errors."""
        await self._register(key, MinCapacity=replicas)

    async def last_failure(self, key: TargetKey, since: float) -> Shortfall | None:
        """Return why the newest scaling activity after `since` failed; None where it did not.

        Raises port errors.
        """
        response = await self._service.call(
            "DescribeScalingActivities",
            key.resource,
            ServiceNamespace=NAMESPACE,
            ResourceId=key.resource,
            ScalableDimension=key.dimension,
            MaxResults=1,
        )
        activities = list_of(f"AWS {SERVICE}:DescribeScalingActivities", response, "ScalingActivities")
        if not activities:
            return None
        status, at = activities[0]["StatusCode"], activities[0]["StartTime"]
        if status not in STATUSES or not isinstance(at, datetime):
            text = f"an activity with status {status!r} and time {at!r}"
            raise Unavailable(f"AWS {SERVICE}:DescribeScalingActivities of {key.resource}: malformed response: {text}")
        if not STATUSES[status] or at.timestamp() < since:
            return None
        cause = launch_failure(str(activities[0].get("StatusMessage") or activities[0].get("Cause", "")))
        return Shortfall(at.timestamp(), cause.reason, cause.lasting)

    async def _resume(self, key: TargetKey, flags: tuple[bool, ...]) -> None:
        await self._register(key, SuspendedState=dict(zip(FLAGS, flags, strict=True)))

    async def _register(self, key: TargetKey, **settings: Any) -> None:
        await self._service.call(
            "RegisterScalableTarget",
            key.resource,
            write=True,
            ServiceNamespace=NAMESPACE,
            ResourceId=key.resource,
            ScalableDimension=key.dimension,
            **settings,
        )


async def native_scaling(context: Context, account: AwsAccount) -> NativeScaling:
    """Return the account's targets, which all pools share. Raises port errors."""
    service = await session.service(context, SERVICE, account)

    async def fetch(keys: Sequence[TargetKey], *, urgent: bool) -> dict[TargetKey, ScalableTarget]:
        resources, dimension = [key.resource for key in keys], keys[0].dimension
        targets = await service.pages(
            "DescribeScalableTargets",
            "ScalableTargets",
            ", ".join(resources[:3]),
            urgent=urgent,
            ServiceNamespace=NAMESPACE,
            ResourceIds=resources,
            ScalableDimension=dimension,
        )
        found = {TargetKey(str(t["ResourceId"]), str(t["ScalableDimension"])): _parse(t) for t in targets}
        if unknown := found.keys() - set(keys):
            raise Unavailable(f"AWS {SERVICE}:DescribeScalableTargets: malformed response: unrequested {unknown}")
        return found

    described = await batch(context, ("aws-scalable-targets", account), fetch, MAX_IDS)

    @asynccontextmanager
    async def opening() -> AsyncIterator[NativeScaling]:
        native = NativeScaling(context, service, described)
        async with native.taken_over.open(context.tasks):
            yield native

    return await context.shared(("aws-native-scaling", account), opening)


def _parse(target: Mapping[str, Any]) -> ScalableTarget:
    try:
        flags = target.get("SuspendedState") or {}
        return ScalableTarget(
            machine_count(f"AWS {SERVICE}: MinCapacity", target["MinCapacity"]),
            machine_count(f"AWS {SERVICE}: MaxCapacity", target["MaxCapacity"]),
            tuple(flags.get(flag, False) is True for flag in FLAGS),
        )
    except MALFORMED as e:
        raise Unavailable(f"AWS {SERVICE}:DescribeScalableTargets: malformed target: {e!r}") from e


def require_target(key: TargetKey, target: ScalableTarget | None, replicas: int) -> ScalableTarget:
    """Return the target whose minimum is to be set.

    Raises `Misconfigured` where that cannot reach `replicas`.
    """
    if target is None:
        raise Misconfigured(
            f"{key.resource} is not registered with Application Auto Scaling, which native: floor needs"
        )
    if replicas > target.maximum:
        raise Misconfigured(
            f"{key.resource}: its MaxCapacity {target.maximum} in Application Auto Scaling does not allow {replicas}"
            " replicas; raise it, or lower the pool's max_replicas"
        )
    return target
