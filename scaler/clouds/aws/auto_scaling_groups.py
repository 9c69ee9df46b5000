"""Auto Scaling groups as all pools of an account see them: described many at a time, with why launches fail."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from policies.model import Shortfall
from scaler.clouds.aws import session
from scaler.clouds.aws.instances import Ec2Instance, machines
from scaler.clouds.aws.launch_failures import failure
from scaler.clouds.batching import Batch, batch
from scaler.clouds.http_answers import message_of
from scaler.clouds.response_validation import MALFORMED, whole
from scaler.ports import Misconfigured, Unavailable

if TYPE_CHECKING:
    from scaler.clouds.aws.account import AwsAccount
    from scaler.ports import Context

MOST_NAMES: Final = 50
"""Groups that one describe takes by default."""
RECENT: Final = 20
"""Scaling activities looked at: those of the last few launches of a group."""
SKEW_S: Final = 2.0
"""By how much our clock and AWS's may differ when an activity's time is held against our own write."""
MARKETS_KEPT: Final = 20_000
WARM: Final = "warm pool"
"""Stands in the description of activities that concern a warm pool's instances."""


@dataclass(frozen=True, slots=True)
class WarmPool:
    """What a warm pool is to hold: `least` instances, or what `prepared` leaves beside the group's own if that is more.

    `prepared` is None where it follows the group's maximum. `going`: it is being deleted.
    """

    min_instances: int
    max_prepared: int | None
    state: str
    deleting: bool


@dataclass(frozen=True, slots=True)
class AutoScalingGroup:
    """A group as described at `at`. Sizes are in units: instances, or their weights where the group has weights."""

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
        """Units requested that no instance serves or is pending for."""
        return self.desired - sum(m.units for m in self.machines)


class AutoScalingGroups:
    """The groups of an account. EC2 itself is asked only where a group mixes markets."""

    def __init__(
        self, context: Context, account: AwsAccount, autoscaling: session.AwsService, described: Batch[str, Any]
    ) -> None:
        self.service = autoscaling
        self._context = context
        self._account = account
        self._described = described
        self._markets: dict[str, str] = {}

    async def group(self, name: str, market: str, *, urgent: bool = False) -> AutoScalingGroup:
        """Return a group as it is now.

        Raises port errors. `market`: of its instances, where it does not mix markets.

        `urgent`: a write waits for it, and cares for no market.
        """
        at, found = await self._described.get(name, urgent=urgent)
        if found is None:
            raise Misconfigured(
                f"AWS: no Auto Scaling group named {name} in this account and region: see group, region"
            )
        try:
            group = _group(found, at, market)
        except MALFORMED as e:
            raise Unavailable(f"AWS autoscaling:DescribeAutoScalingGroups of {name}: no group: {e!r}") from e
        return await self._with_markets(group) if group.mixed and not urgent else group

    async def _with_markets(self, group: AutoScalingGroup) -> AutoScalingGroup:
        """Return the group, each machine with the market that it was bought in.

        A market never changes, so it is read once.
        """
        unknown = [m.id for m in group.machines if m.id not in self._markets]
        instances = await machines(self._context, self._account)
        for _, known in await asyncio.gather(*map(instances.get, unknown)):
            if known is not None:  # EC2 shows an instance a moment later than its group does
                self._markets[known.id] = known.market
        while len(self._markets) > MARKETS_KEPT:
            del self._markets[next(iter(self._markets))]
        bought = (replace(m, market=self._markets.get(m.id, m.market)) for m in group.machines)
        return replace(group, machines=tuple(bought))

    async def shortfall(self, name: str, since: float, market: str, *, warm: bool = False) -> Shortfall | None:
        """Return why the last launch failed, if it failed and began after `since`.

        Raises port errors.

        `warm`: of the group's warm pool, not of the group itself.
        """
        answer = await self.service.call(
            "DescribeScalingActivities", name, AutoScalingGroupName=name, MaxRecords=RECENT
        )
        for activity in answer.get("Activities", ()):
            description = str(activity.get("Description", ""))
            if not description.startswith("Launching") or (WARM in description) != warm:
                continue
            status, began = activity.get("StatusCode"), activity.get("StartTime")
            if status not in {"Failed", "Cancelled", "Successful"} or not isinstance(began, datetime):
                continue
            if status == "Successful" or began.timestamp() < since - SKEW_S:
                return None
            why = failure(str(activity.get("StatusMessage", "")), zone=_zone(activity), market=market)
            ended = activity.get("EndTime")
            at = ended if isinstance(ended, datetime) else began
            return Shortfall(at.timestamp(), why.reason, why.lasting)
        return None


def _group(found: dict[str, Any], at: float, market: str) -> AutoScalingGroup:
    distribution = found.get("MixedInstancesPolicy", {}).get("InstancesDistribution", {})
    on_demand = int(distribution.get("OnDemandPercentageAboveBaseCapacity", 100))
    base = int(distribution.get("OnDemandBaseCapacity", 0))
    seen = (_machine(i, market) for i in found.get("Instances", ()))
    warm = found.get("WarmPoolConfiguration")
    return AutoScalingGroup(
        name=found["AutoScalingGroupName"],
        arn=str(found.get("AutoScalingGroupARN", "")),
        at=at,
        min_size=whole("AWS: MinSize", found["MinSize"]),
        max_size=whole("AWS: MaxSize", found["MaxSize"]),
        desired=whole("AWS: DesiredCapacity", found["DesiredCapacity"]),
        zones=tuple(found.get("AvailabilityZones", ())),
        machines=tuple(m for m in seen if m is not None),
        mixed=on_demand < 100 and (on_demand > 0 or base > 0),
        suspended=frozenset(p["ProcessName"] for p in found.get("SuspendedProcesses", ())),
        warm_pool=None if warm is None else _warm(warm),
    )


def _machine(instance: dict[str, Any], market: str) -> Ec2Instance | None:
    """Return an instance of a group; None where it is leaving, or on standby."""
    state = str(instance["LifecycleState"])
    ready = state == "InService" and instance.get("HealthStatus", "Healthy").lower() == "healthy"
    if not ready and not state.startswith("Pending"):
        return None
    zone, weight = str(instance.get("AvailabilityZone", "")), int(instance.get("WeightedCapacity") or 1)
    units = whole("AWS: WeightedCapacity", weight)
    return Ec2Instance(str(instance["InstanceId"]), zone, market, ready, units)


def _warm(found: dict[str, Any]) -> WarmPool:
    prepared = found.get("MaxGroupPreparedCapacity")
    return WarmPool(
        min_instances=whole("AWS: a warm pool's MinSize", found["MinSize"]),
        max_prepared=int(prepared) if prepared is not None and int(prepared) >= 0 else None,
        state=str(found.get("PoolState", "Stopped")),
        deleting=found.get("Status") == "PendingDelete",
    )


def _zone(activity: dict[str, Any]) -> str:
    """Return the zone that an activity was about; empty where its details have none."""
    return str(message_of(str(activity.get("Details") or "{}")).get("Availability Zone", ""))


async def groups(context: Context, account: AwsAccount) -> AutoScalingGroups:
    """Return the groups of this account that all pools share.

    Raises `Unavailable` or `Misconfigured`.
    """
    autoscaling = await session.service(context, "autoscaling", account)

    async def fetch(names: Sequence[str], *, urgent: bool) -> dict[str, Any]:
        found = await autoscaling.pages(
            "DescribeAutoScalingGroups",
            "AutoScalingGroups",
            ", ".join(names[:3]),
            urgent=urgent,
            AutoScalingGroupNames=list(names),
        )
        return {g["AutoScalingGroupName"]: g for g in found}

    described = await batch(context, ("aws-groups", account), fetch, MOST_NAMES)
    return AutoScalingGroups(context, account, autoscaling, described)
