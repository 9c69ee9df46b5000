"""The store of snapshots, as each kind of store implements it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from policies.model import WorkloadName


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
