"""Pools on AWS."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata, Pattern
from policies.model.pool import YIELD_S, HeadroomPool, OtherWriterYield, Pool, Target
from scaler.clouds.aws.account import AwsAccount, AwsNotices

GROUP_NAME: Final = Pattern(r"^[^/:\s]{1,255}$", "at most 255 characters without spaces, / and :")
RESERVATION: Final = re.compile(r"cr-[0-9a-f]{8,17}")


@dataclass(frozen=True, kw_only=True)
class AwsAccountPool(Pool):
    """Settings of every AWS pool: account, and other writers."""

    account: Annotated[
        AwsAccount, FieldMetadata("AWS region, profile and endpoint. Default: those of the AWS SDK's environment.")
    ] = field(default_factory=AwsAccount)
    other_writer_yield_s: OtherWriterYield = YIELD_S


@dataclass(frozen=True, kw_only=True)
class AwsPool(AwsAccountPool):
    """Settings of every pool of EC2 instances: interruption notices and reservations."""

    notices: Annotated[AwsNotices, FieldMetadata("Sources of interruption notices. Default: none.")] = field(
        default_factory=AwsNotices
    )
    reservation: Annotated[
        tuple[str, ...],
        FieldMetadata(
            "IDs of the capacity reservations or Capacity Blocks that the pool's instances use. They are paid whether"
            " used or not. Default: none."
        ),
    ] = ()

    def problems(self) -> Iterator[tuple[str, str]]:
        for reservation_id in self.reservation:
            if not RESERVATION.fullmatch(reservation_id):
                yield (
                    "reservation",
                    f"{reservation_id!r} is not the ID of a capacity reservation, such as cr-0123456789abcdef0",
                )


@dataclass(frozen=True, kw_only=True)
class Asg(AwsPool):
    """The instances of an EC2 Auto Scaling group."""

    group: Annotated[
        str, FieldMetadata("Name of the Auto Scaling group.", pattern=GROUP_NAME, example="llama-chat-h100")
    ]
    launch: Annotated[
        Literal["desired_capacity", "instances"],
        FieldMetadata(
            "desired_capacity sets the group's desired capacity; capacity errors appear later, in its scaling"
            " activities. instances calls LaunchInstances for each zone, which reports them at once; it requires a"
            " launch template, and a group with only on-demand or only spot instances. Default: desired_capacity, which"
            " every group supports."
        ),
    ] = "desired_capacity"

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("EC2 Auto Scaling group", self.account.identity, self.group),)


@dataclass(frozen=True, kw_only=True)
class AsgWarmPool(HeadroomPool, AwsPool):
    """The warm pool of an EC2 Auto Scaling group."""

    tier: Annotated[
        Literal["awake_spare", "slept", "warm_node"],
        FieldMetadata(
            "Role of the pool's replicas. Instances of a warm pool do not serve. Default: warm_node, as their engine"
            " starts only in the group."
        ),
    ] = "warm_node"
    group: Annotated[
        str, FieldMetadata("Name of the Auto Scaling group.", pattern=GROUP_NAME, example="llama-chat-h100")
    ]
    state: Annotated[
        Literal["stopped", "hibernated", "running"],
        FieldMetadata(
            "State of the waiting instances. stopped and hibernated instances cost only their disks and hold no GPU,"
            " so a start can fail for lack of capacity. Default: stopped, as in EC2."
        ),
    ] = "stopped"
    reuse: Annotated[
        bool,
        FieldMetadata(
            "Whether instances return to the warm pool when the group scales in. Default: false, they are terminated."
        ),
    ] = False

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.market == "spot":
            yield "market", "must be on_demand or reserved: EC2 warm pools support no spot instances"

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("warm pool of EC2 Auto Scaling group", self.account.identity, self.group),)

    def locks(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("EC2 Auto Scaling group", self.account.identity, self.group),)


@dataclass(frozen=True, kw_only=True)
class Ec2Fleet(AwsPool):
    """The instances of an EC2 Fleet of type maintain."""

    fleet: Annotated[
        str,
        FieldMetadata(
            "ID of the EC2 Fleet, which must be of type maintain.",
            pattern=Pattern(r"^fleet-[0-9a-f-]{8,40}$", "the ID of an EC2 Fleet"),
            example="fleet-12a34b55-67cd-8ef9-ba9b-9208d1ea2f01",
        ),
    ]

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("EC2 Fleet", (), self.fleet),)  # a fleet's id is globally unique


@dataclass(frozen=True, kw_only=True)
class Ec2InstantFleet(AwsPool):
    """EC2 instances that this daemon launches with instant fleets and identifies by a tag."""

    launch_template: Annotated[
        str,
        FieldMetadata(
            "ID or name of the launch template.",
            pattern=Pattern(r"^[A-Za-z0-9()./_-]{3,128}$", "3 to 128 letters, digits and ( ) . / _ -"),
            example="llama-chat-h100",
        ),
    ]
    version: Annotated[
        str,
        FieldMetadata(
            "Version of the launch template: a number, $Default or $Latest. Default: $Default.",
            pattern=Pattern(r"^([0-9]+|\$Default|\$Latest)$", "a number, $Default or $Latest"),
        ),
    ] = "$Default"
    subnets: Annotated[
        tuple[str, ...],
        FieldMetadata(
            "IDs of the subnets to launch into. Each subnet is in one zone; list one per zone to use several zones.",
            example=["subnet-0123456789abcdef0"],
        ),
    ]
    instance_types: Annotated[
        tuple[str, ...],
        FieldMetadata("Instance types to launch, most preferred first. Default: empty, the launch template's type."),
    ] = ()

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if not self.subnets:
            yield "subnets", "must name at least one subnet, such as subnet-0123456789abcdef0"
        if self.market == "reserved" and not self.reservation:
            yield "reservation", "is required with market: reserved; set it to the IDs of the capacity reservations"

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("EC2 instances with the tag", self.account.identity, f"{workload}/{pool}"),)


@dataclass(frozen=True, kw_only=True)
class EksNodeGroup(AwsPool):
    """The nodes of an EKS managed node group."""

    cluster: Annotated[
        str,
        FieldMetadata(
            "Name of the EKS cluster.",
            pattern=Pattern(
                r"^[0-9A-Za-z][A-Za-z0-9_-]{0,99}$",
                "at most 100 letters, digits, - and _, with a letter or digit first",
            ),
            example="serving",
        ),
    ]
    node_group: Annotated[
        str,
        FieldMetadata(
            "Name of the managed node group.",
            pattern=Pattern(
                r"^[0-9A-Za-z][A-Za-z0-9_-]{0,62}$", "at most 63 letters, digits, - and _, with a letter or digit first"
            ),
            example="h100-spot",
        ),
    ]

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("EKS node group", self.account.identity, f"{self.cluster}/{self.node_group}"),)
