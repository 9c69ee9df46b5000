"""Pools on Google Cloud."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata
from policies.model.spec import Pool, Target
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.gcp.settings import NAME, REGION, YIELD_S, ZONE, GcpNotices, GcpReservation, instance_group_path

Project = Annotated[GcpProject, FieldMetadata("Project, credentials and addresses.", example={"id": "my-project"})]
ClusterName = Annotated[str, FieldMetadata("Name of the cluster.", pattern=NAME, example="serving")]
Reservation = Annotated[
    GcpReservation | None, FieldMetadata("Reservation that it fills first; null: none.", example=None)
]
Notices = Annotated[GcpNotices, FieldMetadata("Where interruptions are heard of.")]
OtherWriterYield = Annotated[
    float, FieldMetadata("How long the size is left alone after somebody else changed it. Seconds.", ge=0, le=86400)
]
MACHINE: Final = re.compile(r"^ct[0-9]+[a-z]*-hightpu-([1-8])t$")


@dataclass(frozen=True, kw_only=True)
class InstanceGroupPool(Pool):
    """A pool of machines of a managed instance group."""

    project: Project
    name: Annotated[str, FieldMetadata("Name of the managed instance group.", pattern=NAME, example="vllm-h100-spot")]
    location: Annotated[
        str,
        FieldMetadata(
            "Its zone, or its region where it is a regional one.", pattern=rf"{ZONE}|{REGION}", example="us-central1"
        ),
    ]

    @property
    def path(self) -> str:
        return instance_group_path(self.project.id, self.location, self.name)


@dataclass(frozen=True, kw_only=True)
class GceMig(InstanceGroupPool):
    """The machines of a managed instance group."""

    shape: Annotated[
        Literal["any", "any_single_zone", "balanced", "even"] | None,
        FieldMetadata("How a regional group spreads over its zones: any suits scarce GPUs; null: as the group has it."),
    ] = None
    machine_types: Annotated[
        tuple[str, ...],
        FieldMetadata("Machine types that a regional group may take, the best first; empty: as the group has it."),
    ] = ()
    reservation: Reservation = None
    notices: Notices = field(default_factory=GcpNotices)
    other_writer_yield_s: OtherWriterYield = YIELD_S

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.tier in {"slept", "warm_node"}:
            yield "tier", f"{self.tier} is no tier of running machines: gce_mig_standby keeps suspended or stopped ones"
        if self.location.count("-") == 2:
            for key in ("shape", "machine_types"):
                if getattr(self, key):
                    yield key, f"is for regional groups, and {self.location} is a zone"

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("managed instance group", (), self.path),)


@dataclass(frozen=True, kw_only=True)
class GceMigStandby(InstanceGroupPool):
    """The standby machines of a managed instance group; tier must be slept or warm_node."""

    name: Annotated[str, FieldMetadata("Name of the managed instance group.", pattern=NAME, example="vllm-l4")]
    state: Annotated[
        Literal["suspended", "stopped"], FieldMetadata("How they wait. Machines with GPUs can be stopped only.")
    ] = "stopped"
    refill: Annotated[
        bool | None,
        FieldMetadata(
            "Whether the group itself starts them when it grows, and refills what it took (its standby policy's mode"
            " SCALE_OUT_POOL); null: as the group has it.",
        ),
    ] = None
    other_writer_yield_s: OtherWriterYield = YIELD_S

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target(f"{self.state} machines of managed instance group", (), self.path),)


@dataclass(frozen=True, kw_only=True)
class GkeNodePool(Pool):
    """The nodes of a GKE node pool."""

    project: Project
    cluster: ClusterName
    location: Annotated[
        str, FieldMetadata("The cluster's region or zone.", pattern=rf"{ZONE}|{REGION}", example="us-central1")
    ]
    name: Annotated[str, FieldMetadata("Name of the node pool.", pattern=NAME, example="h100-spot")]
    sized_by: Annotated[
        Literal["size", "bounds"],
        FieldMetadata(
            "What is written: the size, or the least nodes that GKE's autoscaler keeps, where it is on. It goes on"
            " adding above them for pods that find no place, and takes away what is idle."
        ),
    ] = "size"
    reservation: Reservation = None
    notices: Notices = field(default_factory=GcpNotices)
    other_writer_yield_s: OtherWriterYield = YIELD_S

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        cluster = f"projects/{self.project.id}/locations/{self.location}/clusters/{self.cluster}"
        return (Target("GKE node pool", (cluster,), self.name),)


@dataclass(frozen=True, kw_only=True)
class GkeTpuSlices(Pool):
    """TPU slices on GKE, a node pool each."""

    project: Project
    cluster: ClusterName
    location: Annotated[
        str, FieldMetadata("The cluster's region or zone.", pattern=rf"{ZONE}|{REGION}", example="us-west4")
    ]
    name: Annotated[
        str,
        FieldMetadata(
            "What the slices' node pools are named, each with a number after it.", pattern=NAME, example="v5e-4x4"
        ),
    ]
    slice_zone: Annotated[str, FieldMetadata("Zone of the slices.", pattern=ZONE, example="us-west4-a")]
    machine_type: Annotated[
        str,
        FieldMetadata(
            "Machine type of a host: ct5lp-hightpu-4t (v5e), ct4p-hightpu-4t (v4).",
            pattern=r"^ct[0-9]+[a-z]*-hightpu-[1-8]t$",
            example="ct5lp-hightpu-4t",
        ),
    ]
    topology: Annotated[
        str,
        FieldMetadata(
            "Chips of a slice by side: 4x4 (v5e), 2x2x4 (v4).", pattern=r"^[0-9]+(x[0-9]+){1,2}$", example="4x4"
        ),
    ]
    service_account: Annotated[
        str | None,
        FieldMetadata("Whom the hosts run as; null: Compute Engine's default.", pattern=r"^[^@\s]+@[^@\s]+$"),
    ] = None
    labels: Annotated[dict[str, str], FieldMetadata("Kubernetes labels of the hosts.")] = field(default_factory=dict)
    reservation: Annotated[
        GcpReservation | None, FieldMetadata("Reservation that the slices are taken from; null: none.", example=None)
    ] = None
    notices: Notices = field(default_factory=GcpNotices)

    @property
    def hosts(self) -> int:
        """Number of hosts of one slice; 0 where the topology does not fit, which `problems` reports."""
        return slice_hosts(self.machine_type, self.topology) or 0

    @property
    def kind_of_slice(self) -> str:
        """The kind of slice by which shortages are reported."""
        return self.accelerator or f"{self.machine_type} {self.topology}"

    def problems(self) -> Iterator[tuple[str, str]]:
        sides = self.topology.count("x") + 1
        expected_sides = {"ct5lp": 2, "ct6e": 2, "ct4p": 3, "ct5p": 3}.get(self.machine_type.partition("-")[0])
        if not self.hosts:
            yield "topology", f"{self.topology} has no whole number of hosts of type {self.machine_type}"
        elif expected_sides is not None and sides != expected_sides:
            yield "topology", f"{self.topology} has {sides} sides; slices of {self.machine_type} have {expected_sides}"
        if self.quantum != 1:
            yield "quantum", "a replica is a whole slice already: leave it 1"

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        cluster = f"projects/{self.project.id}/locations/{self.location}/clusters/{self.cluster}"
        return (Target("TPU slices", (cluster,), self.name),)


def slice_hosts(machine_type: str, topology: str) -> int | None:
    """Return the number of hosts of a slice; None where its chips do not divide among hosts of this type.

    Example: topology 4x4 has 16 chips, and a host of type ct5lp-hightpu-4t has 4, so that a slice has 4 hosts.
    """
    match = MACHINE.match(machine_type)
    chips = math.prod(int(side) for side in topology.split("x"))
    if match is None or chips % int(match[1]):
        return None
    return chips // int(match[1])
