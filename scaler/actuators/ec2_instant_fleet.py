"""EC2 instances bought at once, without a group: what configuration says of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from policies.model import PoolName, WorkloadName
from policies.model.field_metadata import FieldMetadata
from policies.model.spec import Target
from scaler.actuators.aws_pool import AwsPool
from scaler.ports import Context

if TYPE_CHECKING:
    from scaler.actuators.ec2_instant_resizer import InstantResizer


@dataclass(frozen=True, kw_only=True)
class Ec2InstantFleet(AwsPool):
    """EC2 instances that this daemon launches and terminates itself, by instant fleets, and knows by a tag."""

    launch_template: Annotated[
        str,
        FieldMetadata(
            "Id or name of the launch template.", pattern=r"^[A-Za-z0-9()./_-]{3,128}$", example="llama-chat-h100"
        ),
    ]
    version: Annotated[
        str, FieldMetadata("Version of the launch template.", pattern=r"^([0-9]+|\$Default|\$Latest)$")
    ] = "$Default"
    subnets: Annotated[
        tuple[str, ...],
        FieldMetadata("Ids of the subnets to launch into; each is in one zone.", example=["subnet-0123456789abcdef0"]),
    ]
    instance_types: Annotated[
        tuple[str, ...], FieldMetadata("Types that will do, the preferred one first; none: the launch template's.")
    ] = ()

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if not self.subnets:
            yield "subnets", "name at least one subnet"
        if self.market == "reserved" and not self.reservation:
            yield "reservation", "instances of a reserved pool use a reservation: name it"

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("EC2 instances with the tag", self.account.identity, f"{workload}/{pool}"),)

    async def open(self, context: Context, workload: WorkloadName, pool: PoolName) -> InstantResizer:
        from scaler.actuators.ec2_instant_resizer import InstantResizer  # noqa: PLC0415 - no SDK until needed

        resizer = InstantResizer(self, context, f"{workload}/{pool}")
        await resizer.connect()
        return resizer
