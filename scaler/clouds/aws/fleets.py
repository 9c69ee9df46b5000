"""EC2 Fleets as all pools of an account see them: described many at a time, with their instances and why some fail."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from policies.model import Shortfall
from scaler.clouds.aws import session
from scaler.clouds.aws.instances import Ec2Instance, machines
from scaler.clouds.aws.launch_failures import FLEET_QUOTAS, failure
from scaler.clouds.batching import Batch, batch
from scaler.clouds.response_validation import MALFORMED, whole
from scaler.ports import Misconfigured, Unavailable

if TYPE_CHECKING:
    from scaler.clouds.aws.account import AwsAccount
    from scaler.ports import Context

MOST_IDS: Final = 100
LOOK_BACK_S: Final = 900.0
"""How far back a fleet's events are looked at: one that lacks capacity says so again every few minutes."""
LACKS: Final = FLEET_QUOTAS | {
    "allLaunchSpecsTemporarilyBlacklisted",
    "fleetProgressHalted",
    "iamFleetRoleInvalid",
    "launchSpecTemporarilyBlacklisted",
    "launchSpecUnusable",
    "spotFleetRequestConfigurationInvalid",
}
"""Sub-types of a fleet's events that tell why instances do not come."""
COMES: Final = frozenset({"launched"})


@dataclass(frozen=True, slots=True)
class Ec2FleetState:
    """A fleet as described at `at`, with its instances."""

    id: str
    at: float
    desired: int
    state: str
    kind: str
    weighted: bool
    machines: tuple[Ec2Instance, ...]

    @property
    def missing(self) -> int:
        return self.desired - len(self.machines)


class Ec2Fleets:
    """The fleets of an account."""

    def __init__(self, ec2: session.AwsService, described: Batch[str, Any], instances: Batch[str, Ec2Instance]) -> None:
        self.service = ec2
        self._described = described
        self._instances = instances

    async def fleet(self, fleet: str, *, urgent: bool = False) -> Ec2FleetState:
        """Return a fleet as it is now.

        Raises port errors. `urgent`: a write waits for it, so its instances are not read.
        """
        described = self._described.get(fleet, urgent=urgent)
        (at, found), active = await asyncio.gather(described, _none() if urgent else self._active(fleet))
        if found is None:
            raise Misconfigured(f"AWS: no EC2 Fleet {fleet} in this account and region: see fleet, account.region")
        seen = [machine for _, machine in await asyncio.gather(*map(self._instances.get, active))]
        try:
            return Ec2FleetState(
                id=fleet,
                at=at,
                desired=whole("AWS: TotalTargetCapacity", found["TargetCapacitySpecification"]["TotalTargetCapacity"]),
                state=str(found["FleetState"]),
                kind=str(found.get("Type", "maintain")),
                weighted=any(weighted_capacity(c) for c in found.get("LaunchTemplateConfigs", ())),
                machines=tuple(m for m in seen if m is not None),
            )
        except MALFORMED as e:
            raise Unavailable(f"AWS ec2:DescribeFleets of {fleet}: no fleet: {e!r}") from e

    async def _active(self, fleet: str) -> list[str]:
        found = await self.service.pages("DescribeFleetInstances", "ActiveInstances", fleet, FleetId=fleet)
        return [str(i["InstanceId"]) for i in found if i.get("InstanceHealth") != "unhealthy"]

    async def shortfall(self, fleet: str, now: float, since: float, market: str) -> Shortfall | None:
        """Return why the fleet's last launch failed, if it failed after `since`. Raises port errors."""
        start = max(since - 1.0, now - LOOK_BACK_S)
        found = await self.service.pages(
            "DescribeFleetHistory",
            "HistoryRecords",
            fleet,
            FleetId=fleet,
            StartTime=datetime.fromtimestamp(start, UTC),
        )
        last = max(found, key=_order, default=None)
        if last is None or not _order(last)[1]:
            return None
        information = last["EventInformation"]
        why = failure(str(information.get("EventDescription", "")), str(information["EventSubType"]), market=market)
        return Shortfall(last["Timestamp"].timestamp(), why.reason, why.lasting)


def _order(record: Mapping[str, Any]) -> tuple[float, bool]:
    """Return when an event was, and whether it reports a lack, which wins within one second.

    Events that are neither launch nor lack sort before all others.

    count; all else comes before them.
    """
    kind = record.get("EventInformation", {}).get("EventSubType")
    at: float = record["Timestamp"].timestamp() if kind in LACKS | COMES else float("-inf")
    return at, kind in LACKS


async def _none() -> list[str]:
    return []


def weighted_capacity(config: Mapping[str, Any]) -> bool:
    """Return whether instances of a launch template count for more or less than one."""
    return any(float(o.get("WeightedCapacity", 1)) != 1 for o in config.get("Overrides", ()))


async def fleets(context: Context, account: AwsAccount) -> Ec2Fleets:
    """Return the fleets of this account that all pools share.

    Raises `Unavailable` or `Misconfigured`.
    """
    ec2 = await session.service(context, "ec2", account)

    async def fetch(ids: Sequence[str], *, urgent: bool) -> dict[str, Any]:
        found = await ec2.pages("DescribeFleets", "Fleets", ", ".join(ids[:3]), urgent=urgent, FleetIds=list(ids))
        return {f["FleetId"]: f for f in found}

    described = await batch(context, ("aws-fleets", account), fetch, MOST_IDS)
    return Ec2Fleets(ec2, described, await machines(context, account))


def target_capacity(replicas: int, market: str) -> dict[str, Any]:
    """Return a target capacity in instances of a market, as EC2 takes it."""
    if market == "spot":
        return {
            "TotalTargetCapacity": replicas,
            "SpotTargetCapacity": replicas,
            "OnDemandTargetCapacity": 0,
            "DefaultTargetCapacityType": "spot",
        }
    if market == "reserved":  # its default type is the fleet's own: reserved capacity, or a capacity block
        return {"TotalTargetCapacity": replicas}
    return {
        "TotalTargetCapacity": replicas,
        "OnDemandTargetCapacity": replicas,
        "SpotTargetCapacity": 0,
        "DefaultTargetCapacityType": "on-demand",
    }
