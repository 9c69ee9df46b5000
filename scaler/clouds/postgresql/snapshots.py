"""Snapshots as rows of a PostgreSQL table."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from typing import Final

from policies.model import WorkloadName
from scaler.clouds.postgresql.connection import open_database
from scaler.clouds.postgresql.table import PostgreSqlTable
from scaler.clouds.response_validation import unavailable_if_malformed
from scaler.config.snapshots import SnapshotSettings
from scaler.ports import Context, Misconfigured, Permit
from scaler.snapshots.codec import MAX_CHARS
from scaler.snapshots.store import Stored

COLUMNS: Final = (
    "installation text NOT NULL",
    "workload text NOT NULL",
    "writer text NOT NULL",
    "body text NOT NULL",
    "PRIMARY KEY (installation, workload, writer)",
)
READ: Final = ("workload", "writer", f"CASE WHEN length(body) <= {MAX_CHARS} THEN body END")
BATCH: Final = 50
"""Workloads in a read: 50 snapshots are some MB."""
MAX_ROWS: Final = 1000
CALL_S: Final = 5.0
"""Time limit of a call. Seconds."""


async def open_snapshots(settings: SnapshotSettings, installation: str, context: Context) -> PostgreSqlSnapshots:
    """Open the snapshots of an installation, without a call. Raises `Misconfigured`."""
    server, table = settings.server, settings.table
    if server is None:
        raise Misconfigured("daemon.snapshots.server is not set")
    database = await open_database(server, context, "snapshots", CALL_S, MAX_ROWS)
    rows = await context.shared(
        ("snapshots", server, table), lambda: aclosing(PostgreSqlTable(database, table, COLUMNS))
    )
    return PostgreSqlSnapshots(installation, rows)


class PostgreSqlSnapshots:
    """The store's port."""

    def __init__(self, installation: str, table: PostgreSqlTable) -> None:
        self._all = {"installation": installation}
        self._table = table

    async def read(self, workloads: Sequence[WorkloadName]) -> Sequence[Stored]:
        stored: list[Stored] = []
        for first in range(0, len(workloads), BATCH):
            batch = tuple(workloads[first : first + BATCH])
            with unavailable_if_malformed("a snapshot"):
                rows = await self._table.select(READ, self._all | {"workload": batch})
                stored += [Stored(WorkloadName(str(name)), str(writer), text) for name, writer, text in rows]
        return stored

    async def write(self, workload: WorkloadName, writer: str, text: str) -> None:
        key = self._all | {"workload": workload, "writer": writer}
        if not await self._table.update({"body": text}, key):
            await self._table.insert(key | {"body": text})

    async def delete(self, workload: WorkloadName, writer: str) -> None:
        await self._table.delete(self._all | {"workload": workload, "writer": writer})

    async def permits(self) -> Sequence[Permit]:
        return [Permit(action, granted) for action, granted in await self._table.privileges()]
