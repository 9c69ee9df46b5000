"""Pools on Google Cloud."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata, Pattern
from policies.model.pool import YIELD_S, HeadroomPool, OtherWriterYield, Pool, Target
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.gcp.settings import LOCATION, NAME, ZONE, GcpNotices, GcpReservation, instance_group_path

Project = Annotated[
    GcpProject, FieldMetadata("Google Cloud project, credentials and endpoints.", example={"id": "my-project"})
]
ClusterName = Annotated[str, FieldMetadata("Name of the GKE cluster.", pattern=NAME, example="serving")]
Reservation = Annotated[
    GcpReservation | None,
    FieldMetadata("Reservation whose machines the pool uses first. Default: null, none.", example=None),
]
Notices = Annotated[GcpNotices, FieldMetadata("Sources of interruption notices. Default: none.")]
MACHINE: Final = re.compile(r"^ct[0-9]+[a-z]*-hightpu-([1-8])t$")


@dataclass(frozen=True, kw_only=True)
class InstanceGroupPool(Pool):
    """The machines of a managed instance group (common settings)."""

    project: Project
    name: Annotated[str, FieldMetadata("Name of the managed instance group.", pattern=NAME, example="vllm-h100-spot")]
    location: Annotated[
        str,
        FieldMetadata("Zone of the group, or region of a regional group.", pattern=LOCATION, example="us-central1"),
    ]

    @property
    def path(self) -> str:
        return instance_group_path(self.project.id, self.location, self.name)


@dataclass(frozen=True, kw_only=True)
class GceMig(InstanceGroupPool):
    """The machines of a managed instance group."""

    tier: Annotated[
        Literal["serving", "awake_spare"],
        FieldMetadata(
            "Role of the pool's replicas. The machines run; for suspended or stopped ones use kind gce_mig_standby."
            " Default: serving."
        ),
    ] = "serving"
    shape: Annotated[
        Literal["any", "any_single_zone", "balanced", "even"] | None,
        FieldMetadata(
            "Distribution of a regional group over its zones: any finds scarce GPUs best. Default: null, the group's"
            " own setting."
        ),
    ] = None
    machine_types: Annotated[
        tuple[str, ...],
        FieldMetadata(
            "Machine types that a regional group may use, most preferred first. Default: empty, the group's own"
            " setting."
        ),
    ] = ()
    reservation: Reservation = None
    notices: Notices = field(default_factory=GcpNotices)
    other_writer_yield_s: OtherWriterYield = YIELD_S

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.location.count("-") == 2:
            for key in ("shape", "machine_types"):
                if getattr(self, key):
                    yield (
                        key,
                        f"requires a regional group, and {self.location} is a zone; remove {key}",
                    )

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("managed instance group", (), self.path),)


@dataclass(frozen=True, kw_only=True)
class GceMigStandby(HeadroomPool, InstanceGroupPool):
    """The standby machines of a managed instance group."""

    tier: Annotated[
        Literal["slept", "warm_node"],
        FieldMetadata(
            "Role of the pool's replicas. Standby machines do not run. Default: warm_node, as their engine starts with"
            " the machine."
        ),
    ] = "warm_node"
    name: Annotated[str, FieldMetadata("Name of the managed instance group.", pattern=NAME, example="vllm-l4")]
    state: Annotated[
        Literal["suspended", "stopped"],
        FieldMetadata("State of the waiting machines. Default: stopped, since machines with GPUs cannot be suspended."),
    ] = "stopped"
    refill: Annotated[
        bool | None,
        FieldMetadata(
            "Whether the group starts standby machines when it grows and replaces those it used (standby policy mode"
            " SCALE_OUT_POOL). Default: null, the group's own setting.",
        ),
    ] = None
    other_writer_yield_s: OtherWriterYield = YIELD_S

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target(f"{self.state} machines of managed instance group", (), self.path),)

    def locks(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("managed instance group", (), self.path),)


@dataclass(frozen=True, kw_only=True)
class GkeNodePool(Pool):
    """The nodes of a GKE node pool."""

    project: Project
    cluster: ClusterName
    location: Annotated[str, FieldMetadata("Region or zone of the cluster.", pattern=LOCATION, example="us-central1")]
    name: Annotated[str, FieldMetadata("Name of the node pool.", pattern=NAME, example="h100-spot")]
    sized_by: Annotated[
        Literal["size", "bounds"],
        FieldMetadata(
            "size sets the number of nodes. bounds sets the minimum of GKE's cluster autoscaler, which still adds"
            " nodes for unschedulable pods and removes idle ones above it. Default: size."
        ),
    ] = "size"
    reservation: Reservation = None
    notices: Notices = field(default_factory=GcpNotices)
    other_writer_yield_s: OtherWriterYield = YIELD_S

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("GKE node pool", (self.cluster_path,), self.name),)

    def locks(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("GKE cluster", (), self.cluster_path),)  # it runs one operation at a time

    @property
    def cluster_path(self) -> str:
        return f"projects/{self.project.id}/locations/{self.location}/clusters/{self.cluster}"


@dataclass(frozen=True, kw_only=True)
class GkeTpuSlices(Pool):
    """TPU slices on GKE, one node pool per slice."""

    project: Project
    cluster: ClusterName
    location: Annotated[str, FieldMetadata("Region or zone of the cluster.", pattern=LOCATION, example="us-west4")]
    name: Annotated[
        str,
        FieldMetadata(
            "Name prefix of the slices' node pools. Each slice is one node pool: the prefix and a number.",
            pattern=NAME,
            example="v5e-4x4",
        ),
    ]
    slice_zone: Annotated[str, FieldMetadata("Zone of the slices.", pattern=ZONE, example="us-west4-a")]
    machine_type: Annotated[
        str,
        FieldMetadata(
            "Machine type of one host: ct5lp-hightpu-4t (v5e), ct4p-hightpu-4t (v4).",
            pattern=Pattern(r"^ct[0-9]+[a-z]*-hightpu-[1-8]t$", "a TPU machine type"),
            example="ct5lp-hightpu-4t",
        ),
    ]
    topology: Annotated[
        str,
        FieldMetadata(
            "Chips of one slice per side: 4x4 (v5e), 2x2x4 (v4).",
            pattern=Pattern(r"^[0-9]+(x[0-9]+){1,2}$", "two or three numbers joined by x"),
            example="4x4",
        ),
    ]
    service_account: Annotated[
        str | None,
        FieldMetadata(
            "Service account of the hosts. Default: null, the Compute Engine default service account.",
            pattern=Pattern(r"^[^@\s]+@[^@\s]+$", "the email address of a service account"),
        ),
    ] = None
    labels: Annotated[dict[str, str], FieldMetadata("Kubernetes labels of the hosts. Default: none.")] = field(
        default_factory=dict
    )
    reservation: Annotated[
        GcpReservation | None, FieldMetadata("Reservation that the slices use. Default: null, none.", example=None)
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
            yield "topology", f"must fill whole hosts of type {self.machine_type}, and {self.topology} does not"
        elif expected_sides is not None and sides != expected_sides:
            yield (
                "topology",
                f"must have {expected_sides} sides for {self.machine_type}, and {self.topology} has {sides}",
            )
        if self.quantum != 1:
            yield "quantum", "must be 1: one replica is already a whole slice"

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("TPU slices", (self.cluster_path,), self.name),)

    def locks(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("GKE cluster", (), self.cluster_path),)  # it runs one operation at a time

    @property
    def cluster_path(self) -> str:
        return f"projects/{self.project.id}/locations/{self.location}/clusters/{self.cluster}"


def slice_hosts(machine_type: str, topology: str) -> int | None:
    """Return the number of hosts of a slice.

    Returns None where its chips do not divide among hosts of this type. Example: topology 4x4 has 16 chips, and a host
    of type ct5lp-hightpu-4t has 4, so that a slice has 4 hosts.
    """
    match = MACHINE.match(machine_type)
    chips = math.prod(int(side) for side in topology.split("x"))
    if match is None or chips % int(match[1]):
        return None
    return chips // int(match[1])
