"""An EC2 Auto Scaling group: its desired capacity, its instances by zone and market, and why launches fail.

Two ways to grow. `desired_capacity` sets the size and lets the group launch; what fails is told later, by its scaling
activities. `instances` asks for instances zone by zone and hears at once what a zone has not. Shrinking sets the size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from policies.model import Fresh, PoolName, PoolStatus, Shortfall, WorkloadName
from scaler.clouds.aws import auto_scaling_groups
from scaler.clouds.aws.auto_scaling_groups import AutoScalingGroup, AutoScalingGroups
from scaler.clouds.aws.launch_failures import LaunchFailure, failure, join_failures
from scaler.clouds.aws.resizer import AwsResizer
from scaler.clouds.aws.writes import require_within
from scaler.config.kinds.aws_pools import Asg
from scaler.ports import Conflict, Context, Misconfigured, PortError, Unavailable

MOST_AT_ONCE: Final = 100
"""Instances that one LaunchInstances starts."""
SHOWN_S: Final = 60.0
"""By then a group shows what it launched, or it is gone again."""


async def open_asg(spec: Asg, context: Context, workload: WorkloadName, pool: PoolName) -> AsgResizer:
    """Open an Auto Scaling group. Raises `Misconfigured`."""
    return await AsgResizer(spec, context).connect()


class AsgResizer(AwsResizer):
    """The actuator's port."""

    _groups: AutoScalingGroups

    def __init__(self, spec: Asg, context: Context) -> None:
        super().__init__(spec, context, f"Auto Scaling group {spec.group}")
        self._spec = spec
        self._arn = "*"
        self._mixed = False
        self._launched: dict[str, float] = {}

    async def _connect(self) -> None:
        self._groups = await auto_scaling_groups.groups(self._context, self._spec.account)

    async def _group(self, *, urgent: bool = False) -> AutoScalingGroup:
        return await self._groups.group(self._spec.group, self._spec.market, urgent=urgent)

    async def _status(self) -> Fresh[PoolStatus]:
        group = await self._group()
        self._arn, self._mixed = group.arn or "*", group.mixed
        self._unseen(group)
        short: Shortfall | None = None
        if group.missing > 0:
            short = await self._groups.shortfall(group.name, self._writes.raised_at, self._spec.market)
        return await self._pool_status(group.at, group.desired, group.machines, short)

    async def _resize(self, replicas: int, seen: PoolStatus) -> None:
        group = await self._group(urgent=True)
        self._writes.check(group.desired, seen.desired)
        if group.desired == replicas:
            return
        require_within(self._what, replicas, group.min_size, group.max_size, "MinSize and MaxSize")
        if replicas > group.desired and "Launch" in group.suspended:
            raise Misconfigured(f"{self._what}: its process Launch is suspended; resume it, or nothing will come")
        if replicas > group.desired and self._spec.launch == "instances":
            await self._launch(group, replicas)
        else:
            await self._set(group, replicas)

    async def _set(self, group: AutoScalingGroup, replicas: int) -> None:
        self._writes.request(group.desired, [replicas])
        await self._groups.service.call(
            "SetDesiredCapacity",
            group.name,
            write=True,
            AutoScalingGroupName=group.name,
            DesiredCapacity=replicas,
            HonorCooldown=False,
        )

    async def _launch(self, group: AutoScalingGroup, replicas: int) -> None:
        """Instances zone by zone, the emptiest zone first, until all are there or no zone has any more."""
        if any(m.units != 1 for m in group.machines):
            raise Misconfigured(f"{self._what} weighs its instances: that goes with launch: desired_capacity only")
        self._wait_for(group)
        self._writes.request(group.desired, range(group.desired + 1, replicas + 1))
        failures: list[LaunchFailure] = []
        left = replicas - group.desired
        for zone in self._zones(group):
            if left > 0:
                launched, refused = await self._launch_in(zone, min(left, MOST_AT_ONCE), group.desired)
                left -= launched
                failures += refused
        if left > 0 and failures:
            raise join_failures(failures).error()

    def _wait_for(self, group: AutoScalingGroup) -> None:
        """Raise `Conflict` while the group does not show what it launched: what is missing would be launched again."""
        if unseen := self._unseen(group):
            raise Conflict(f"{self._what} does not show {unseen} instances that it has just launched")

    def _unseen(self, group: AutoScalingGroup) -> int:
        """How many of those launched a moment ago the group has not shown yet."""
        now, shown = self._context.clock.now(), {m.id for m in group.machines}
        self._launched = {
            machine: at for machine, at in self._launched.items() if machine not in shown and 0 <= now - at < SHOWN_S
        }
        return len(self._launched)

    def _zones(self, group: AutoScalingGroup) -> list[str]:
        """The pool's own zone, or all of the group's."""
        zone = self._spec.zone
        if zone is not None and zone not in group.zones:
            raise Misconfigured(f"{self._what} has no zone {zone}: its zones are {', '.join(group.zones)}")
        if zone is not None:
            return [zone]
        held = Counter(m.zone for m in group.machines)
        return sorted(group.zones, key=lambda zone: (held[zone], zone))

    async def _launch_in(self, zone: str, count: int, present: int) -> tuple[int, list[LaunchFailure]]:
        """How many instances come in a zone, and what was refused. Raises port errors.

        Where the answer is lost, whether it was done is not known: said again, it has the same token.
        """
        write = ("launch", zone, count)
        try:
            answer = await self._groups.service.call(
                "LaunchInstances",
                f"{self._spec.group} in {zone}",
                write=True,
                AutoScalingGroupName=self._spec.group,
                AvailabilityZones=[zone],
                RequestedCapacity=count,
                ClientToken=self._tokens.of(present, write),
                RetryStrategy="none",
            )
        except PortError as e:
            if not isinstance(e, Unavailable):
                self._tokens.answered(present, write)
            raise
        launched = [machine for i in answer.get("Instances", ()) for machine in i["InstanceIds"]]
        refused = [self._refused(e, zone) for e in answer.get("Errors", ())]
        if len(launched) < count and not refused:  # cut short: said again, it has the same token
            told = f"{len(launched)} of {count} instances, and no error"
            raise Unavailable(f"AWS autoscaling:LaunchInstances in {zone}: an answer with {told}")
        self._tokens.answered(present, write)
        self._launched |= dict.fromkeys(launched, self._context.clock.now())
        return len(launched), refused

    def _refused(self, error: Mapping[str, Any], zone: str) -> LaunchFailure:
        return failure(
            str(error.get("ErrorMessage", "")),
            str(error.get("ErrorCode", "")),
            zone=str(error.get("AvailabilityZone", zone)),
            instance_type=str(error.get("InstanceType", "")),
            market=str(error.get("MarketType", self._spec.market)),
        )

    def _actions(self) -> Mapping[str, str]:
        growing = "LaunchInstances" if self._spec.launch == "instances" else "SetDesiredCapacity"
        return {
            **({"ec2:DescribeInstances": "*"} if self._mixed else {}),
            "autoscaling:DescribeAutoScalingGroups": "*",
            "autoscaling:DescribeScalingActivities": "*",
            "autoscaling:SetDesiredCapacity": self._arn,
            f"autoscaling:{growing}": self._arn,
        }
