"""The store of snapshots, as each kind of store implements it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from policies.model import WorkloadName
from scaler.ports import Permit
from scaler.registry import Kind

SETTINGS: Final = "scaler.config.snapshots:SnapshotSettings"
KINDS: Final = {
    "directory": Kind(SETTINGS, "scaler.snapshots.directory:open_snapshots"),
    "server": Kind(SETTINGS, "scaler.clouds.postgresql.snapshots:open_snapshots", "postgresql"),
}
"""Stores by their setting. `open` opens that of an installation, without a call."""
OBJECTS: Final = {
    "azure_blob": Kind(
        "scaler.clouds.azure.blob_container:BlobContainer", "scaler.clouds.azure.blobs:open_objects", "azure"
    ),
    "gcs": Kind("scaler.clouds.gcp.bucket:GcsBucket", "scaler.clouds.gcp.objects:open_objects", "gcp"),
    "s3": Kind("scaler.clouds.aws.bucket:S3Bucket", "scaler.clouds.aws.objects:open_objects", "aws"),
}
"""Object storage by its setting. `open` opens the objects of an installation, without a call."""
SUFFIX: Final = ".snapshot"


@dataclass(frozen=True, slots=True)
class Stored:
    """A stored snapshot, and the daemon that wrote it.

    `text` is None where it is too long to be read.
    """

    workload: WorkloadName
    writer: str
    text: str | None


class SnapshotStore(Protocol):
    """Snapshots by workload and writer: no daemon overwrites those of another.

    Each method raises port errors.
    """

    async def read(self, workloads: Sequence[WorkloadName]) -> Sequence[Stored]:
        """Return the snapshots of workloads, by all writers."""

    async def write(self, workload: WorkloadName, writer: str, text: str) -> None:
        """Store a snapshot in place of the writer's last one."""

    async def delete(self, workload: WorkloadName, writer: str) -> None:
        """Delete a snapshot, if there is one."""

    async def permits(self) -> Sequence[Permit]:
        """Return a permit for each needed action, without a write."""


def name_of(workload: WorkloadName, writer: str) -> str:
    """Return the name of a snapshot's file or object.

    Names of workloads and writers contain no "@" and no "/".
    """
    return f"{workload}@{writer}{SUFFIX}"


def owner_of(name: str) -> tuple[WorkloadName, str]:
    """Return the workload and the writer of a snapshot's name."""
    workload, _, writer = name.removesuffix(SUFFIX).partition("@")
    return WorkloadName(workload), writer
