"""An EC2 Fleet that maintains its size.

This adapter sets the total target capacity, and the fleet launches and terminates instances. The fleet's launch
template overrides and allocation strategy choose types and zones. A target counts instances, so fleets with weights are
refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from policies.model import Fresh, PoolName, PoolStatus, Shortfall, WorkloadName
from scaler.clouds.aws import fleets
from scaler.clouds.aws.account import partition
from scaler.clouds.aws.fleets import Ec2Fleets, Ec2FleetState, target_capacity
from scaler.clouds.aws.resizer import AwsResizer
from scaler.config.kinds.aws_pools import Ec2Fleet
from scaler.ports import Conflict, Context, Misconfigured

ENDED_STATES: Final = frozenset({"deleted", "deleted_running", "deleted_terminating", "failed"})


async def open_ec2_fleet(spec: Ec2Fleet, context: Context, workload: WorkloadName, pool: PoolName) -> FleetResizer:
    """Open an EC2 Fleet. Raises `Misconfigured`."""
    return await FleetResizer(spec, context).connect()


class FleetResizer(AwsResizer):
    """The actuator's port."""

    _fleets: Ec2Fleets

    def __init__(self, spec: Ec2Fleet, context: Context) -> None:
        super().__init__(spec, context, f"EC2 Fleet {spec.fleet}")
        self._spec = spec

    async def _connect(self) -> None:
        self._fleets = await fleets.fleets(self._context, self._spec.account)

    async def _fleet(self, *, urgent: bool = False) -> Ec2FleetState:
        fleet = await self._fleets.fleet(self._spec.fleet, urgent=urgent)
        if fleet.kind != "maintain" or fleet.state in ENDED_STATES:
            raise Misconfigured(
                f"{self._what} has type {fleet.kind} and state {fleet.state}; use an active fleet of type maintain"
            )
        if fleet.weighted:
            raise Misconfigured(
                f"{self._what} uses instance weights, but a replica is one instance; remove the weights"
            )
        return fleet

    async def _status(self) -> Fresh[PoolStatus]:
        fleet = await self._fleet()
        shortfall: Shortfall | None = None
        if fleet.missing > 0:
            now = self._context.clock.now()
            shortfall = await self._fleets.shortfall(fleet.id, now, self._writes.raised_at, self._spec.market)
        return await self._pool_status(fleet.at, fleet.desired, fleet.machines, shortfall)

    async def _resize(self, replicas: int, observed: PoolStatus) -> None:
        fleet = await self._fleet(urgent=True)
        self._writes.check(fleet.desired, observed.desired)
        if fleet.desired == replicas:
            return
        if fleet.state == "modifying":
            raise Conflict(f"{self._what} is being modified and accepts one change at a time; the next tick retries")
        self._writes.request(fleet.desired, [replicas])
        await self._fleets.service.call(
            "ModifyFleet",
            fleet.id,
            write=True,
            FleetId=fleet.id,
            ExcessCapacityTerminationPolicy="termination",
            TargetCapacitySpecification=target_capacity(replicas, self._spec.market),
        )

    def _actions(self) -> Mapping[str, str]:
        region = self._spec.account.region
        fleet_arn = f"arn:{partition(region)}:ec2:{region or '*'}:*:fleet/{self._spec.fleet}"
        read_actions = ("DescribeFleets", "DescribeFleetInstances", "DescribeFleetHistory", "DescribeInstances")
        return {
            **{f"ec2:{action}": "*" for action in read_actions},
            "ec2:ModifyFleet": fleet_arn,
        }
