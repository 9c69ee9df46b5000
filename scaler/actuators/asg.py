"""An EC2 Auto Scaling group: what configuration says of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Final, Literal

from policies.model import PoolName, WorkloadName
from policies.model.field_metadata import FieldMetadata
from policies.model.spec import Target
from scaler.actuators.aws_pool import AwsPool
from scaler.ports import Context

if TYPE_CHECKING:
    from scaler.actuators.asg_resizer import AsgResizer

GROUP_NAME: Final = r"^[^/:\s]{1,255}$"


@dataclass(frozen=True, kw_only=True)
class Asg(AwsPool):
    """The instances of an EC2 Auto Scaling group."""

    group: Annotated[str, FieldMetadata("Name of the group.", pattern=GROUP_NAME, example="llama-chat-h100")]
    launch: Annotated[
        Literal["desired_capacity", "instances"],
        FieldMetadata(
            "How it grows: by the group's desired capacity, or by LaunchInstances, zone by zone, which tells a lack of"
            " capacity at once (groups with a launch template, all on demand or all spot)."
        ),
    ] = "desired_capacity"

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("EC2 Auto Scaling group", self.account.identity, self.group),)

    async def open(self, context: Context, workload: WorkloadName, pool: PoolName) -> AsgResizer:
        from scaler.actuators.asg_resizer import AsgResizer  # noqa: PLC0415 - no SDK until needed

        resizer = AsgResizer(self, context)
        await resizer.connect()
        return resizer
