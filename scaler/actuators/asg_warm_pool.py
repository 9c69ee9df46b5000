"""The warm pool of an EC2 Auto Scaling group: what configuration says of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

from policies.model import PoolName, WorkloadName
from policies.model.field_metadata import FieldMetadata
from policies.model.spec import Target
from scaler.actuators.asg import GROUP_NAME
from scaler.actuators.aws_pool import AwsPool
from scaler.ports import Context, Misconfigured

if TYPE_CHECKING:
    from scaler.actuators.asg_warm_resizer import WarmResizer


@dataclass(frozen=True, kw_only=True)
class AsgWarmPool(AwsPool):
    """The instances that an EC2 Auto Scaling group keeps prepared; tier must be warm_node, slept or awake_spare."""

    group: Annotated[str, FieldMetadata("Name of the group.", pattern=GROUP_NAME, example="llama-chat-h100")]
    state: Annotated[
        Literal["stopped", "hibernated", "running"],
        FieldMetadata(
            "What its instances do while they wait. Stopped and hibernated ones pay for disks only, and hold no GPU."
        ),
    ] = "stopped"
    reuse: Annotated[bool, FieldMetadata("Whether the group's instances come back here when it shrinks.")] = False

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.market == "spot":
            yield "market", "warm pools hold no spot instances"

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("warm pool of EC2 Auto Scaling group", self.account.identity, self.group),)

    async def open(self, context: Context, workload: WorkloadName, pool: PoolName) -> WarmResizer:
        from scaler.actuators.asg_warm_resizer import WarmResizer  # noqa: PLC0415 - no SDK until needed

        if self.tier == "serving":
            hint = "say warm_node or slept, and in serves the pool of the group itself"
            raise Misconfigured(f"{pool}: tier is serving, but a warm pool's instances do not serve: {hint}")

        resizer = WarmResizer(self, context)
        await resizer.connect()
        return resizer
