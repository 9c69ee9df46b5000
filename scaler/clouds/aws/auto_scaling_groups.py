"""Auto Scaling groups and the reasons of their failed launches.

One call describes many groups, for all pools of an account.
"""

from __future__ import annotations

import asyncio
import functools
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from policies.model import Shortfall
from scaler.clouds.aws import session
from scaler.clouds.aws.instances import Ec2Instance, instances_by_id
from scaler.clouds.aws.launch_failures import launch_failure
from scaler.clouds.batching import Batch, batch
from scaler.clouds.http_answers import message_of
from scaler.clouds.response_validation import MALFORMED, machine_count
from scaler.ports import Misconfigured, Unavailable

if TYPE_CHECKING:
    from scaler.clouds.aws.account import AwsAccount
    from scaler.ports import Context

MAX_NAMES: Final = 50
"""Maximum groups in one describe call, by its default page size."""
RECENT_ACTIVITIES: Final = 20
"""Number of scaling activities read: those of a group's last few launches."""
SKEW_S: Final = 2.0
"""Tolerated clock difference to AWS when an activity's time is compared with this process's write. Seconds."""
MAX_KNOWN_MARKETS: Final = 20_000
WARM: Final = "warm pool"
"""Text in the description of activities of a warm pool's instances."""


@dataclass(frozen=True, slots=True)
class WarmPool:
    """Configured size of a warm pool.

    The size is at least `min_instances`, and `max_prepared` less the group's own instances. `max_prepared` None stands
    for the group's maximum size.
    """

    min_instances: int
    max_prepared: int | None
    state: str
    deleting: bool


@dataclass(frozen=True, slots=True)
class AutoScalingGroup:
    """A group as described at `at`.

    Sizes are in units: instances, or their weights where the group defines weights.
    """

    name: str
    arn: str
    at: float
    min_size: int
    max_size: int
    desired: int
    zones: tuple[str, ...]
    machines: tuple[Ec2Instance, ...]
    mixed: bool
    suspended: frozenset[str]
    warm_pool: WarmPool | None

    @property
    def missing(self) -> int:
        """Requested units without a serving or pending instance."""
        return self.desired - sum(m.units for m in self.machines)


class AutoScalingGroups:
    """Client of an account's groups. EC2 itself is read only where a group mixes markets."""

    def __init__(
        self, context: Context, account: AwsAccount, autoscaling: session.AwsService, described: Batch[str, Any]
    ) -> None:
        self.service = autoscaling
        self._context = context
        self._account = account
        self._described = described
        self._markets: dict[str, str] = {}

    async def group(self, name: str, market: str, *, urgent: bool = False) -> AutoScalingGroup:
        """Return a group as it is now. Raises port errors.

        `market`: the market of its instances, unless the group mixes markets.
        `urgent`: a write waits for it, so the instances' own markets are not read.
        """
        at, description = await self._described.get(name, urgent=urgent)
        if description is None:
            raise Misconfigured(
                f"AWS: there is no Auto Scaling group {name} in this account and region; check group and account.region"
            )
        try:
            group = _parse_group(description, at, market)
        except MALFORMED as e:
            raise Unavailable(f"AWS autoscaling:DescribeAutoScalingGroups of {name}: malformed group: {e!r}") from e
        return await self._with_markets(group) if group.mixed and not urgent else group

    async def _with_markets(self, group: AutoScalingGroup) -> AutoScalingGroup:
        """Return the group with each machine's own market, which never changes and so is read once."""
        unknown = [m.id for m in group.machines if m.id not in self._markets]
        described_instances = await instances_by_id(self._context, self._account)
        for _, instance in await asyncio.gather(*map(described_instances.get, unknown)):
            if instance is not None:  # EC2 lists an instance a moment later than its group does
                self._markets[instance.id] = instance.market
        while len(self._markets) > MAX_KNOWN_MARKETS:
            del self._markets[next(iter(self._markets))]
        machines_with_market = (replace(m, market=self._markets.get(m.id, m.market)) for m in group.machines)
        return replace(group, machines=tuple(machines_with_market))

    async def shortfall(self, name: str, since: float, market: str, *, warm: bool = False) -> Shortfall | None:
        """Return why the last launch failed, if it failed and began after `since`.

        Raises port errors.

        `warm`: the launches of the group's warm pool instead of the group's own.
        """
        response = await self.service.call(
            "DescribeScalingActivities", name, AutoScalingGroupName=name, MaxRecords=RECENT_ACTIVITIES
        )
        for activity in response.get("Activities", ()):
            description = str(activity.get("Description", ""))
            if not description.startswith("Launching") or (WARM in description) != warm:
                continue
            status, started = activity.get("StatusCode"), activity.get("StartTime")
            if status not in {"Failed", "Cancelled", "Successful"} or not isinstance(started, datetime):
                continue
            if status == "Successful" or started.timestamp() < since - SKEW_S:
                return None
            cause = launch_failure(str(activity.get("StatusMessage", "")), zone=_zone(activity), market=market)
            end = activity.get("EndTime")
            at = end if isinstance(end, datetime) else started
            return Shortfall(at.timestamp(), cause.reason, cause.lasting)
        return None


def _parse_group(description: dict[str, Any], at: float, market: str) -> AutoScalingGroup:
    distribution = description.get("MixedInstancesPolicy", {}).get("InstancesDistribution", {})
    on_demand = int(distribution.get("OnDemandPercentageAboveBaseCapacity", 100))
    base = int(distribution.get("OnDemandBaseCapacity", 0))
    machines = (_machine(i, market) for i in description.get("Instances", ()))
    warm = description.get("WarmPoolConfiguration")
    return AutoScalingGroup(
        name=description["AutoScalingGroupName"],
        arn=str(description.get("AutoScalingGroupARN", "")),
        at=at,
        min_size=machine_count("AWS: MinSize", description["MinSize"]),
        max_size=machine_count("AWS: MaxSize", description["MaxSize"]),
        desired=machine_count("AWS: DesiredCapacity", description["DesiredCapacity"]),
        zones=tuple(description.get("AvailabilityZones", ())),
        machines=tuple(m for m in machines if m is not None),
        mixed=on_demand < 100 and (on_demand > 0 or base > 0),
        suspended=frozenset(p["ProcessName"] for p in description.get("SuspendedProcesses", ())),
        warm_pool=None if warm is None else _parse_warm_pool(warm),
    )


def _machine(instance: dict[str, Any], market: str) -> Ec2Instance | None:
    """Parse an instance of a group; None where it is leaving, or on standby."""
    state = str(instance["LifecycleState"])
    ready = state == "InService" and instance.get("HealthStatus", "Healthy").lower() == "healthy"
    if not ready and not state.startswith("Pending"):
        return None
    zone, weight = str(instance.get("AvailabilityZone", "")), int(instance.get("WeightedCapacity") or 1)
    units = machine_count("AWS: WeightedCapacity", weight)
    return Ec2Instance(str(instance["InstanceId"]), zone, market, ready, units)


def _parse_warm_pool(description: dict[str, Any]) -> WarmPool:
    prepared = description.get("MaxGroupPreparedCapacity")
    return WarmPool(
        min_instances=machine_count("AWS: a warm pool's MinSize", description["MinSize"]),
        max_prepared=int(prepared) if prepared is not None and int(prepared) >= 0 else None,
        state=str(description.get("PoolState", "Stopped")),
        deleting=description.get("Status") == "PendingDelete",
    )


def _zone(activity: dict[str, Any]) -> str:
    """Return the zone of a scaling activity; empty where its details name none."""
    return str(message_of(str(activity.get("Details") or "{}")).get("Availability Zone", ""))


async def groups(context: Context, account: AwsAccount) -> AutoScalingGroups:
    """Return the groups' client for all pools of this account.

    Raises `Unavailable` or `Misconfigured`.
    """
    autoscaling = await session.service(context, "autoscaling", account)
    fetch = functools.partial(
        autoscaling.describe,
        "DescribeAutoScalingGroups",
        "AutoScalingGroups",
        "AutoScalingGroupName",
        "AutoScalingGroupNames",
    )
    described = await batch(context, ("aws-groups", account), fetch, MAX_NAMES)
    return AutoScalingGroups(context, account, autoscaling, described)
