"""The warm pool of an EC2 Auto Scaling group.

Its size is absolute: MinSize and MaxGroupPreparedCapacity are equal. AWS refills the instances that the group takes
from it on scale-out. The serving pool is a pool of its own: `asg`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policies.model import Fresh, PoolName, PoolStatus, Shortfall, WorkloadName
from scaler.clouds.aws import auto_scaling_groups
from scaler.clouds.aws.auto_scaling_groups import AutoScalingGroup, AutoScalingGroups
from scaler.clouds.aws.instances import Ec2Instance
from scaler.clouds.aws.resizer import AwsResizer
from scaler.config.kinds.aws_pools import AsgWarmPool
from scaler.ports import Conflict, Context


async def open_asg_warm_pool(
    spec: AsgWarmPool, context: Context, workload: WorkloadName, pool: PoolName
) -> WarmResizer:
    """Open the warm pool of an Auto Scaling group."""
    return await WarmResizer(spec, context).connect()


class WarmResizer(AwsResizer):
    """The actuator's port."""

    _groups: AutoScalingGroups

    def __init__(self, spec: AsgWarmPool, context: Context) -> None:
        super().__init__(spec, context, f"warm pool of Auto Scaling group {spec.group}")
        self._spec = spec
        self._arn = "*"

    async def _connect(self) -> None:
        self._groups = await auto_scaling_groups.groups(self._context, self._spec.account)

    async def _status(self) -> Fresh[PoolStatus]:
        group = await self._groups.group(self._spec.group, self._spec.market)
        self._arn = group.arn or "*"
        size = prepared_capacity(group)
        machines = await self._machines() if group.warm_pool is not None else ()
        shortfall: Shortfall | None = None
        if size > sum(m.units for m in machines):
            market = self._spec.market
            shortfall = await self._groups.shortfall(group.name, self._writes.raised_at, market, warm=True)
        # A size that is not absolute moves with the group's own size.
        other_writer = self._writes.observe(size) if has_absolute_size(group) else None
        return await self._pool_status(group.at, size, machines, shortfall, other_writer=other_writer)

    async def _machines(self) -> tuple[Ec2Instance, ...]:
        name = self._spec.group
        instances = await self._groups.service.pages("DescribeWarmPool", "Instances", name, AutoScalingGroupName=name)
        ready = f"Warmed:{self._spec.state.capitalize()}"
        return tuple(m for m in (parse_warm_instance(i, ready, self._spec.market) for i in instances) if m is not None)

    async def _resize(self, replicas: int, observed: PoolStatus) -> None:
        group = await self._groups.group(self._spec.group, self._spec.market, urgent=True)
        if group.warm_pool is not None and group.warm_pool.deleting:
            raise Conflict(f"{self._what} is being deleted; a later tick creates it again")
        size = prepared_capacity(group)
        if has_absolute_size(group):
            self._writes.check(size, observed.desired)
        if size == replicas:
            return
        self._writes.request(size, [replicas])
        await self._groups.service.call(
            "PutWarmPool",
            self._spec.group,
            write=True,
            AutoScalingGroupName=self._spec.group,
            MinSize=replicas,
            MaxGroupPreparedCapacity=replicas,
            PoolState=self._spec.state.capitalize(),
            InstanceReusePolicy={"ReuseOnScaleIn": self._spec.reuse},
        )

    def _actions(self) -> Mapping[str, str]:
        return {
            "autoscaling:DescribeAutoScalingGroups": "*",
            "autoscaling:DescribeScalingActivities": "*",
            "autoscaling:DescribeWarmPool": "*",
            "autoscaling:PutWarmPool": self._arn,
        }


def prepared_capacity(group: AutoScalingGroup) -> int:
    """Return the number of instances that the group's warm pool must hold.

    Example: MinSize 2, MaxGroupPreparedCapacity 10 and a desired capacity of 4 give max(2, 10 - 4) = 6.
    """
    warm = group.warm_pool
    if warm is None or warm.deleting:
        return 0
    if has_absolute_size(group):
        return warm.min_instances
    return max(warm.min_instances, (group.max_size if warm.max_prepared is None else warm.max_prepared) - group.desired)


def has_absolute_size(group: AutoScalingGroup) -> bool:
    """Return whether the warm pool's size is independent of the group's size."""
    return group.warm_pool is None or group.warm_pool.max_prepared == group.warm_pool.min_instances


def parse_warm_instance(instance: Mapping[str, Any], ready: str, market: str) -> Ec2Instance | None:
    """Parse an instance of a warm pool; None where it is leaving."""
    state = str(instance["LifecycleState"])
    if state != ready and not state.startswith("Warmed:Pending"):
        return None
    return Ec2Instance(str(instance["InstanceId"]), str(instance.get("AvailabilityZone", "")), market, state == ready)
