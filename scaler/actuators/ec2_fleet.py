"""An EC2 Fleet that maintains its size: what configuration says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from policies.model import PoolName, WorkloadName
from policies.model.field_metadata import FieldMetadata
from policies.model.spec import Target
from scaler.actuators.aws_pool import AwsPool
from scaler.ports import Context

if TYPE_CHECKING:
    from scaler.actuators.ec2_fleet_resizer import FleetResizer


@dataclass(frozen=True, kw_only=True)
class Ec2Fleet(AwsPool):
    """The instances of an EC2 Fleet of type maintain."""

    fleet: Annotated[
        str,
        FieldMetadata(
            "Id of the fleet.", pattern=r"^fleet-[0-9a-f-]{8,40}$", example="fleet-12a34b55-67cd-8ef9-ba9b-9208d1ea2f01"
        ),
    ]

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("EC2 Fleet", (), self.fleet),)  # an id is unique everywhere

    async def open(self, context: Context, workload: WorkloadName, pool: PoolName) -> FleetResizer:
        from scaler.actuators.ec2_fleet_resizer import FleetResizer  # noqa: PLC0415 - no SDK until needed

        resizer = FleetResizer(self, context)
        await resizer.connect()
        return resizer
