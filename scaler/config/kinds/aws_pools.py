"""Pools on AWS."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata
from policies.model.spec import Pool, Target
from scaler.clouds.aws.account import AwsAccount, AwsNotices

GROUP_NAME: Final = r"^[^/:\s]{1,255}$"
RESERVATION: Final = re.compile(r"cr-[0-9a-f]{8,17}")


@dataclass(frozen=True, kw_only=True)
class AwsPool(Pool):
    """Where it is, what announces its interruptions, and what is paid for it anyway."""

    account: Annotated[AwsAccount, FieldMetadata("Account and region.")] = field(default_factory=AwsAccount)
    notices: Annotated[AwsNotices, FieldMetadata("Where interruptions are announced.")] = field(
        default_factory=AwsNotices
    )
    reservation: Annotated[
        tuple[str, ...],
        FieldMetadata(
            "Ids of the capacity reservations or capacity blocks that its instances use: paid for, used or not."
        ),
    ] = ()
    other_writer_yield_s: Annotated[
        float, FieldMetadata("How long the size is left alone after somebody else changed it. Seconds.", ge=0, le=86400)
    ] = 600.0

    def problems(self) -> Iterator[tuple[str, str]]:
        for reservation_id in self.reservation:
            if not RESERVATION.fullmatch(reservation_id):
                yield (
                    "reservation",
                    f"{reservation_id!r} is no id of a capacity reservation (cr- and hexadecimal digits)",
                )


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
        return (Target("EC2 Fleet", (), self.fleet),)  # a fleet's id is globally unique


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


@dataclass(frozen=True, kw_only=True)
class EksNodeGroup(AwsPool):
    """The nodes of an EKS managed node group."""

    cluster: Annotated[
        str, FieldMetadata("Name of the cluster.", pattern=r"^[0-9A-Za-z][A-Za-z0-9_-]{0,99}$", example="serving")
    ]
    node_group: Annotated[
        str, FieldMetadata("Name of the node group.", pattern=r"^[0-9A-Za-z][A-Za-z0-9_-]{0,62}$", example="h100-spot")
    ]

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("EKS node group", self.account.identity, f"{self.cluster}/{self.node_group}"),)
