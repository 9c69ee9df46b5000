"""EC2 Fleets with their instances and launch failures.

One call describes many fleets, for all pools of an account.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from policies.model import Shortfall
from scaler.clouds.aws import session
from scaler.clouds.aws.instances import Ec2Instance, instances_by_id
from scaler.clouds.aws.launch_failures import FLEET_QUOTAS, launch_failure
from scaler.clouds.batching import Batch, batch
from scaler.clouds.response_validation import MALFORMED, machine_count
from scaler.ports import Misconfigured, Unavailable

if TYPE_CHECKING:
    from scaler.clouds.aws.account import AwsAccount
    from scaler.ports import Context

MAX_IDS: Final = 100
LOOK_BACK_S: Final = 900.0
"""Age up to which a fleet's events are read: a fleet repeats a lack of capacity every few minutes. Seconds."""
FAILURES: Final = FLEET_QUOTAS | {
    "allLaunchSpecsTemporarilyBlacklisted",
    "fleetProgressHalted",
    "iamFleetRoleInvalid",
    "launchSpecTemporarilyBlacklisted",
    "launchSpecUnusable",
    "spotFleetRequestConfigurationInvalid",
}
"""Sub-types of a fleet's events that name the reason for missing instances."""
LAUNCHES: Final = frozenset({"launched"})


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
    """Client of an account's fleets."""

    def __init__(self, ec2: session.AwsService, described: Batch[str, Any], instances: Batch[str, Ec2Instance]) -> None:
        self.service = ec2
        self._described = described
        self._instances = instances

    async def fleet(self, fleet: str, *, urgent: bool = False) -> Ec2FleetState:
        """Return a fleet.

        `urgent`: a write waits for it, so its instances are not read. Raises port errors.
        """
        reading = self._described.get(fleet, urgent=urgent)
        (at, description), ids = await asyncio.gather(reading, _no_ids() if urgent else self._active_ids(fleet))
        if description is None:
            raise Misconfigured(
                f"AWS: there is no EC2 Fleet {fleet} in this account and region; check fleet and account.region"
            )
        machines = [machine for _, machine in await asyncio.gather(*map(self._instances.get, ids))]
        try:
            return Ec2FleetState(
                id=fleet,
                at=at,
                desired=machine_count(
                    "AWS: TotalTargetCapacity", description["TargetCapacitySpecification"]["TotalTargetCapacity"]
                ),
                state=str(description["FleetState"]),
                kind=str(description.get("Type", "maintain")),
                weighted=any(is_weighted(c) for c in description.get("LaunchTemplateConfigs", ())),
                machines=tuple(m for m in machines if m is not None),
            )
        except MALFORMED as e:
            raise Unavailable(f"AWS ec2:DescribeFleets of {fleet}: malformed fleet: {e!r}") from e

    async def _active_ids(self, fleet: str) -> list[str]:
        instances = await self.service.pages("DescribeFleetInstances", "ActiveInstances", fleet, FleetId=fleet)
        return [str(i["InstanceId"]) for i in instances if i.get("InstanceHealth") != "unhealthy"]

    async def shortfall(self, fleet: str, now: float, since: float, market: str) -> Shortfall | None:
        """Return why the fleet's last launch failed, if it failed after `since`. Raises port errors."""
        start = max(since - 1.0, now - LOOK_BACK_S)
        records = await self.service.pages(
            "DescribeFleetHistory",
            "HistoryRecords",
            fleet,
            FleetId=fleet,
            StartTime=datetime.fromtimestamp(start, UTC),
        )
        last = max(records, key=_sort_key, default=None)
        if last is None or not _sort_key(last)[1]:
            return None
        information = last["EventInformation"]
        cause = launch_failure(
            str(information.get("EventDescription", "")), str(information["EventSubType"]), market=market
        )
        return Shortfall(last["Timestamp"].timestamp(), cause.reason, cause.lasting)


def _sort_key(record: Mapping[str, Any]) -> tuple[float, bool]:
    """Return a sort key for events: time, then failures after launches of the same second.

    All other events sort first.
    """
    kind = record.get("EventInformation", {}).get("EventSubType")
    at: float = record["Timestamp"].timestamp() if kind in FAILURES | LAUNCHES else float("-inf")
    return at, kind in FAILURES


async def _no_ids() -> list[str]:
    return []


def is_weighted(config: Mapping[str, Any]) -> bool:
    """Return whether a launch template gives its instances a weight other than 1."""
    return any(float(o.get("WeightedCapacity", 1)) != 1 for o in config.get("Overrides", ()))


async def fleets(context: Context, account: AwsAccount) -> Ec2Fleets:
    """Return the fleets' client for all pools of this account.

    Raises `Unavailable` or `Misconfigured`.
    """
    ec2 = await session.service(context, "ec2", account)
    fetch = functools.partial(ec2.describe, "DescribeFleets", "Fleets", "FleetId", "FleetIds")
    described = await batch(context, ("aws-fleets", account), fetch, MAX_IDS)
    return Ec2Fleets(ec2, described, await instances_by_id(context, account))


def target_capacity(replicas: int, market: str) -> dict[str, Any]:
    """Return EC2's target capacity for this many instances of a market."""
    if market == "spot":
        return {
            "TotalTargetCapacity": replicas,
            "SpotTargetCapacity": replicas,
            "OnDemandTargetCapacity": 0,
            "DefaultTargetCapacityType": "spot",
        }
    if market == "reserved":  # the fleet's own default type applies: reserved capacity, or a capacity block
        return {"TotalTargetCapacity": replicas}
    return {
        "TotalTargetCapacity": replicas,
        "OnDemandTargetCapacity": replicas,
        "SpotTargetCapacity": 0,
        "DefaultTargetCapacityType": "on-demand",
    }
