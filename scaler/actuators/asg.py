"""An EC2 Auto Scaling group.

Observed are its desired capacity, its instances by zone and market, and failed launches.

There are two ways to grow. `desired_capacity` sets the size and lets the group launch; failures appear later in the
scaling activities. `instances` launches zone by zone, and the response has each zone's errors. Shrinking sets the size.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from policies.model import Fresh, PoolName, PoolStatus, Shortfall, WorkloadName
from scaler.clouds.aws import auto_scaling_groups
from scaler.clouds.aws.auto_scaling_groups import AutoScalingGroup, AutoScalingGroups
from scaler.clouds.aws.launch_failures import LaunchFailure, join_failures, launch_failure
from scaler.clouds.aws.resizer import AwsResizer
from scaler.clouds.aws.writes import require_within
from scaler.config.kinds.aws_pools import Asg
from scaler.ports import Conflict, Context, Misconfigured, PortError, Unavailable

MAX_LAUNCH: Final = 100
"""Maximum instances of one LaunchInstances call."""
SHOWN_S: Final = 60.0
"""Time after which a group lists its launched instances, or they are gone again. Seconds."""


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
        self._count_unlisted(group)
        shortfall: Shortfall | None = None
        if group.missing > 0:
            shortfall = await self._groups.shortfall(group.name, self._writes.raised_at, self._spec.market)
        return await self._pool_status(group.at, group.desired, group.machines, shortfall)

    async def _resize(self, replicas: int, observed: PoolStatus) -> None:
        group = await self._group(urgent=True)
        self._writes.check(group.desired, observed.desired)
        if group.desired == replicas:
            return
        require_within(self._what, replicas, group.min_size, group.max_size, "MinSize and MaxSize")
        if replicas > group.desired:
            for refusal in self._refusals(group):
                raise Misconfigured(refusal)
        if replicas > group.desired and self._spec.launch == "instances":
            await self._launch(group, replicas)
        else:
            await self._set_desired(group, replicas)

    async def scale_out_refusals(self) -> Sequence[str]:
        """Return why the group refuses a scale-out within the pool's bounds, with remedies."""
        group, limit = await self._group(), self._spec.max_replicas
        refusals = list(self._refusals(group))
        if limit is not None and group.max_size < limit:
            refusals.append(f"{self._what} has MaxSize {group.max_size}; raise it to max_replicas, which is {limit}")
        return refusals

    def _refusals(self, group: AutoScalingGroup) -> Iterator[str]:
        if "Launch" in group.suspended:
            yield f"{self._what}: its process Launch is suspended, so no instance starts; resume it"
        if self._spec.launch == "instances":
            if any(m.units != 1 for m in group.machines):
                yield f"{self._what} uses instance weights, which require launch: desired_capacity"
            if self._spec.zone is not None and self._spec.zone not in group.zones:
                yield f"{self._what} has no zone {self._spec.zone}; set zone to one of {', '.join(group.zones)}"

    async def _set_desired(self, group: AutoScalingGroup, replicas: int) -> None:
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
        """Launch zone by zone, the emptiest zone first.

        It ends when all are launched or no zone has capacity left.
        """
        self._require_listed(group)
        self._writes.request(group.desired, range(group.desired + 1, replicas + 1))
        failures: list[LaunchFailure] = []
        remaining = replicas - group.desired
        for zone in self._zones(group):
            if remaining > 0:
                launched, errors = await self._launch_in(zone, min(remaining, MAX_LAUNCH), group.desired)
                remaining -= launched
                failures += errors
        if remaining > 0 and failures:
            raise join_failures(failures).error()

    def _require_listed(self, group: AutoScalingGroup) -> None:
        """Raise `Conflict` while the group does not list its launched instances.

        Otherwise they would be launched again.
        """
        if unlisted := self._count_unlisted(group):
            raise Conflict(
                f"{self._what} does not list {unlisted} instances yet that it just launched; the next tick retries"
            )

    def _count_unlisted(self, group: AutoScalingGroup) -> int:
        """Return the number of recently launched instances that the group does not list yet."""
        now, listed = self._context.clock.now(), {m.id for m in group.machines}
        self._launched = {
            machine: at for machine, at in self._launched.items() if machine not in listed and 0 <= now - at < SHOWN_S
        }
        return len(self._launched)

    def _zones(self, group: AutoScalingGroup) -> list[str]:
        """Return the pool's own zone, or all zones of the group, the emptiest first."""
        zone = self._spec.zone
        if zone is not None:
            return [zone]
        count_by_zone = Counter(m.zone for m in group.machines)
        return sorted(group.zones, key=lambda zone: (count_by_zone[zone], zone))

    async def _launch_in(self, zone: str, count: int, present: int) -> tuple[int, list[LaunchFailure]]:
        """Launch `count` instances in a zone.

        Return the number launched, and the errors. Raises port errors.

        After a lost response it is unknown whether they were launched: the repeated call has the same token.
        """
        write = ("launch", zone, count)
        try:
            response = await self._groups.service.call(
                "LaunchInstances",
                f"{self._spec.group} in {zone}",
                write=True,
                AutoScalingGroupName=self._spec.group,
                AvailabilityZones=[zone],
                RequestedCapacity=count,
                ClientToken=self._tokens.token_for(present, write),
                RetryStrategy="none",
            )
        except PortError as e:
            if not isinstance(e, Unavailable):
                self._tokens.discard(present, write)
            raise
        launched = [machine for i in response.get("Instances", ()) for machine in i["InstanceIds"]]
        errors = [self._parse_error(e, zone) for e in response.get("Errors", ())]
        if len(launched) < count and not errors:  # truncated: the repeated call has the same token
            result = f"{len(launched)} of {count} instances and no error"
            raise Unavailable(f"AWS autoscaling:LaunchInstances in {zone}: truncated response: {result}")
        self._tokens.discard(present, write)
        self._launched |= dict.fromkeys(launched, self._context.clock.now())
        return len(launched), errors

    def _parse_error(self, error: Mapping[str, Any], zone: str) -> LaunchFailure:
        return launch_failure(
            str(error.get("ErrorMessage", "")),
            str(error.get("ErrorCode", "")),
            zone=str(error.get("AvailabilityZone", zone)),
            instance_type=str(error.get("InstanceType", "")),
            market=str(error.get("MarketType", self._spec.market)),
        )

    def _actions(self) -> Mapping[str, str]:
        growth_action = "LaunchInstances" if self._spec.launch == "instances" else "SetDesiredCapacity"
        return {
            **({"ec2:DescribeInstances": "*"} if self._mixed else {}),
            "autoscaling:DescribeAutoScalingGroups": "*",
            "autoscaling:DescribeScalingActivities": "*",
            "autoscaling:SetDesiredCapacity": self._arn,
            f"autoscaling:{growth_action}": self._arn,
        }
