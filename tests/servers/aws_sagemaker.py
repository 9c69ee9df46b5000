"""SageMaker and Application Auto Scaling with time: updates, their lock, rollbacks, and a native autoscaler.

It is strict about the lock, the minimum and the quota, in SageMaker's words where they are published. Like the other
counterparts it updates its state at each request. It proves the contract as understood, not SageMaker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from tests.servers.aws_wire import Refusal

if TYPE_CHECKING:
    from tests.servers.aws_world import World

ARN: Final = "arn:aws:sagemaker:us-east-1:123456789012:{rest}"
CAPACITY: Final = (
    "Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. Please retry using a"
    " different ML instance type or after some time."
)
QUOTA: Final = (
    "The account-level service limit 'ml.g5.xlarge for endpoint usage' is {limit} Instances, with current utilization"
    " of {used} Instances and a request delta of {more} Instances. Please use AWS Service Quotas to request an increase"
    " for this quota."
)
IN_PROGRESS: Final = 'Cannot update in-progress endpoint "{arn}".'
COMPONENT_BUSY: Final = 'Cannot update inference component "{arn}" while it is in state "{state}".'
DIMENSIONS: Final = {
    "endpoint": "sagemaker:variant:DesiredInstanceCount",
    "inference-component": "sagemaker:inference-component:DesiredCopyCount",
}


@dataclass(eq=False)
class Sized:
    """A variant or a component. `capacity`: the most that it can get; `quota`: the most that may be requested."""

    name: str
    desired: int = 0
    current: int = 0
    before: int = 0
    capacity: int = 1000
    quota: int = 1000
    failure: str = CAPACITY


@dataclass(eq=False)
class Endpoint:
    """An endpoint. Growth takes `start_s`, None: until `finish`; `rollback_s` is the time of a rollback.

    A variant that shrinks has its size at once, except where updates are `held` until `finish`.
    """

    name: str
    variants: list[Sized]
    start_s: float | None = None
    rollback_s: float = 0.0
    held: bool = False
    allows_zero: bool = False
    state: str = "InService"
    reason: str = ""
    managed: bool = False
    began: float = 0.0
    updating: Sized | None = None
    collisions: int = 0
    """Capacity calls that were refused because of an update in progress."""

    @property
    def arn(self) -> str:
        return ARN.format(rest=f"endpoint/{self.name}")


@dataclass(eq=False)
class Component(Sized):
    """An inference component of an endpoint."""

    endpoint: str = ""
    start_s: float | None = None
    state: str = "InService"
    reason: str = ""
    began: float = 0.0

    @property
    def arn(self) -> str:
        return ARN.format(rest=f"inference-component/{self.name}")


@dataclass(eq=False)
class Scalable:
    """A scalable target. `wanted`: the capacity that its policies want now; None: none."""

    resource: str
    minimum: int = 1
    maximum: int = 10
    flags: dict[str, bool] = field(default_factory=dict)
    wanted: int | None = None
    activities: list[dict[str, Any]] = field(default_factory=list)

    @property
    def dimension(self) -> str:
        return DIMENSIONS[self.resource.partition("/")[0]]

    @property
    def suspended(self) -> bool:
        return self.flags.get("DynamicScalingOutSuspended", False)


@dataclass
class SageMaker:
    """The endpoints, components and scalable targets of an account."""

    endpoints: dict[str, Endpoint] = field(default_factory=dict)
    components: dict[str, Component] = field(default_factory=dict)
    targets: dict[str, Scalable] = field(default_factory=dict)

    def settle(self) -> None:
        """Update the state to the present time."""
        now = time.time()
        for target in self.targets.values():
            self._scale(target)
        for endpoint in self.endpoints.values():
            self._settle_endpoint(endpoint, now)
        for component in self.components.values():
            growing = component.desired > component.current
            if component.state == "Updating" and not (
                growing and not _is_over(component.began, component.start_s, now)
            ):
                finish_component(component)

    def _settle_endpoint(self, endpoint: Endpoint, now: float) -> None:
        variant = endpoint.updating
        if variant is None:
            return
        if endpoint.state == "RollingBack":
            if now - endpoint.began >= endpoint.rollback_s:
                variant.desired = variant.before
                endpoint.state, endpoint.updating = "InService", None
        elif endpoint.held:
            return
        elif variant.desired <= variant.current or _is_over(endpoint.began, endpoint.start_s, now):
            finish(endpoint)

    def _scale(self, target: Scalable) -> None:
        """Apply the target's minimum and its policies, as Application Auto Scaling does."""
        wanted = target.minimum if target.wanted is None or target.suspended else target.wanted
        if target.suspended and target.wanted is not None:
            return
        kind, name, *rest = target.resource.split("/")
        size = self.components[name] if kind != "endpoint" else self._variant(name, rest[-1])
        capacity = min(max(wanted, target.minimum), target.maximum)
        if target.wanted is None and size.desired >= target.minimum:
            return
        if capacity != size.desired:
            try:
                self._apply(kind, name, size, capacity)
            except Refusal:
                return

    def _apply(self, kind: str, name: str, size: Sized, capacity: int) -> None:
        if isinstance(size, Component):
            resize_component(size, capacity)
        else:
            resize_variant(self.endpoints[name], size, capacity)

    def _variant(self, endpoint: str, variant: str) -> Sized:
        return next(v for v in self.endpoints[endpoint].variants if v.name == variant)


def _is_over(began: float, duration_s: float | None, now: float) -> bool:
    return duration_s is not None and now - began >= duration_s


def resize_variant(endpoint: Endpoint, variant: Sized, count: int) -> None:
    """Start an update of the endpoint. Raises `Refusal`."""
    if endpoint.state != "InService":
        raise Refusal("ValidationException", IN_PROGRESS.format(arn=endpoint.arn))
    if count < 1 and not endpoint.allows_zero:
        raise Refusal("ValidationException", "DesiredInstanceCount must be at least 1 for this endpoint")
    _require_quota(variant, count)
    variant.before, variant.desired = variant.desired, count
    endpoint.state, endpoint.updating, endpoint.began, endpoint.reason = "Updating", variant, time.time(), ""


def resize_component(component: Component, count: int) -> None:
    """Start an update of the component. Raises `Refusal`."""
    if component.state != "InService":
        state = {"Updating": "UPDATE_RC_IN_PROGRESS", "Creating": "CREATE_IN_PROGRESS"}.get(component.state, "DELETED")
        raise Refusal("ValidationException", COMPONENT_BUSY.format(arn=component.arn, state=state))
    _require_quota(component, count)
    component.before, component.desired = component.desired, count
    component.state, component.began, component.reason = "Updating", time.time(), ""


def _require_quota(size: Sized, count: int) -> None:
    if count > size.quota:
        text = QUOTA.format(limit=size.quota, used=size.current, more=count - size.current)
        raise Refusal("ResourceLimitExceeded", text)


def finish(endpoint: Endpoint) -> None:
    """End the update in progress: the variant has its size, or its rollback begins."""
    variant = endpoint.updating
    assert variant is not None
    if variant.desired > variant.capacity:
        endpoint.state, endpoint.began, endpoint.reason = "RollingBack", time.time(), variant.failure
    else:
        variant.current = variant.desired
        endpoint.state, endpoint.updating = "InService", None


def finish_component(component: Component) -> None:
    """End the update in progress: copies without capacity are missing, and the reason says why."""
    component.current = min(component.desired, component.capacity)
    component.reason = component.failure if component.current < component.desired else ""
    component.state = "InService"


# --- operations


def _endpoint(world: World, name: str) -> Endpoint:
    if name not in world.sagemaker.endpoints:
        raise Refusal("ValidationException", f'Could not find endpoint "{ARN.format(rest=f"endpoint/{name}")}".')
    return world.sagemaker.endpoints[name]


def _component(world: World, name: str) -> Component:
    if name not in world.sagemaker.components:
        arn = ARN.format(rest=f"inference-component/{name}")
        raise Refusal("ValidationException", f'Could not find inference component "{arn}".')
    return world.sagemaker.components[name]


def describe_endpoint(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    e = _endpoint(world, fields["EndpointName"])
    managed = {"ManagedInstanceScaling": {"Status": "ENABLED", "MinInstanceCount": 0}} if e.managed else {}
    variants = [
        {
            "VariantName": v.name,
            "DesiredInstanceCount": v.desired,
            "CurrentInstanceCount": v.current,
            "CurrentWeight": 1.0,
            "DesiredWeight": 1.0,
            **managed,
        }
        for v in e.variants
    ]
    return {
        "EndpointName": e.name,
        "EndpointArn": e.arn,
        "EndpointConfigName": e.name,
        "EndpointStatus": e.state,
        "ProductionVariants": variants,
        "CreationTime": _when(0),
        "LastModifiedTime": _when(e.began),
        **({"FailureReason": e.reason} if e.reason else {}),
    }


def update_capacities(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    e, changes = _endpoint(world, fields["EndpointName"]), fields["DesiredWeightsAndCapacities"]
    if len(changes) != 1:
        raise Refusal("ValidationException", "one variant's capacity may change at a time")
    name = changes[0]["VariantName"]
    variant = next((v for v in e.variants if v.name == name), None)
    if variant is None:
        text = f'The variant name(s) "{name}" is/are not present within endpoint configuration "{e.name}".'
        raise Refusal("ValidationException", text)
    e.collisions += e.state != "InService"
    resize_variant(e, variant, changes[0]["DesiredInstanceCount"])
    return {"EndpointArn": e.arn}


def describe_component(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    c = _component(world, fields["InferenceComponentName"])
    return {
        "InferenceComponentName": c.name,
        "InferenceComponentArn": c.arn,
        "EndpointName": c.endpoint,
        "EndpointArn": ARN.format(rest=f"endpoint/{c.endpoint}"),
        "InferenceComponentStatus": c.state,
        "RuntimeConfig": {"DesiredCopyCount": c.desired, "CurrentCopyCount": c.current},
        "CreationTime": _when(0),
        "LastModifiedTime": _when(c.began),
        **({"FailureReason": c.reason} if c.reason else {}),
    }


def update_component(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    c = _component(world, fields["InferenceComponentName"])
    resize_component(c, fields["DesiredRuntimeConfig"]["CopyCount"])
    return {"InferenceComponentArn": c.arn}


def describe_targets(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    ids, dimension = fields.get("ResourceIds") or list(world.sagemaker.targets), fields.get("ScalableDimension")
    if len(ids) > 50:
        raise Refusal("ValidationException", "at most 50 resource IDs")
    found = [t for i in ids if (t := world.sagemaker.targets.get(i)) is not None and dimension in {None, t.dimension}]
    return {
        "ScalableTargets": [
            {
                "ServiceNamespace": "sagemaker",
                "ResourceId": t.resource,
                "ScalableDimension": t.dimension,
                "MinCapacity": t.minimum,
                "MaxCapacity": t.maximum,
                "RoleARN": "arn:aws:iam::123456789012:role/aws-service-role/AWSServiceRoleForApplicationAutoScaling",
                "CreationTime": _when(0),
                "SuspendedState": t.flags,
            }
            for t in found
        ]
    }


def register_target(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    target = world.sagemaker.targets.get(fields["ResourceId"])
    if target is None:
        raise Refusal("ValidationException", "MinCapacity and MaxCapacity are required for a new scalable target")
    minimum, maximum = fields.get("MinCapacity", target.minimum), fields.get("MaxCapacity", target.maximum)
    if minimum > maximum:
        raise Refusal("ValidationException", "Maximum capacity cannot be less than minimum capacity")
    target.minimum, target.maximum = minimum, maximum
    target.flags = {**target.flags, **fields.get("SuspendedState", {})}
    return {"ScalableTargetARN": "arn:aws:application-autoscaling:us-east-1:123456789012:scalable-target/1"}


def describe_scaling_activities(world: World, fields: dict[str, Any]) -> Mapping[str, Any]:
    target = world.sagemaker.targets.get(fields["ResourceId"])
    activities = [] if target is None else target.activities[-fields.get("MaxResults", 50) :]
    return {"ScalingActivities": list(reversed(activities))}


def activity(target: Scalable, status: str, message: str, at: float) -> None:
    """Add a scaling activity to a target."""
    target.activities.append(
        {
            "ActivityId": f"{len(target.activities)}",
            "ServiceNamespace": "sagemaker",
            "ResourceId": target.resource,
            "ScalableDimension": target.dimension,
            "Description": "Setting desired instance count.",
            "Cause": "minimum capacity was set",
            "StartTime": _when(at),
            "StatusCode": status,
            "StatusMessage": message,
        }
    )


def _when(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)


HANDLERS: Final[Mapping[tuple[str, str], Callable[[World, dict[str, Any]], Mapping[str, Any]]]] = {
    ("application-autoscaling", "DescribeScalableTargets"): describe_targets,
    ("application-autoscaling", "DescribeScalingActivities"): describe_scaling_activities,
    ("application-autoscaling", "RegisterScalableTarget"): register_target,
    ("sagemaker", "DescribeEndpoint"): describe_endpoint,
    ("sagemaker", "DescribeInferenceComponent"): describe_component,
    ("sagemaker", "UpdateEndpointWeightsAndCapacities"): update_capacities,
    ("sagemaker", "UpdateInferenceComponentRuntimeConfig"): update_component,
}
