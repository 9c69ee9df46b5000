"""Leases as rows of a PostgreSQL table: the store of shards and members.

Each write replaces the row only if its version still is the one that was read, and sets a version that no row has had.
Versions have no order: a replica that becomes the primary may lack the last writes, and a counter would repeat.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import uuid
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Any, Final

from scaler.clock import iso_time
from scaler.clouds.postgresql.connection import open_database
from scaler.clouds.postgresql.table import PostgreSqlTable
from scaler.clouds.response_validation import unavailable_if_malformed
from scaler.clouds.singleflight import cancel_all
from scaler.config.high_availability import HighAvailability
from scaler.leases.protocol import Claim, LeaseOrigin, Record
from scaler.leases.store import Observe, limited_duration_s
from scaler.ports import Conflict, Context, Misconfigured, Permit, PortError

COLUMNS: Final = (
    "installation text NOT NULL",
    "name text NOT NULL",
    "holder text NOT NULL",
    "transitions bigint NOT NULL",
    "duration_s double precision NOT NULL",
    "note text NOT NULL",
    "version uuid NOT NULL",
    "acquired_at timestamptz NOT NULL",
    "renewed_at timestamptz NOT NULL",
    "PRIMARY KEY (installation, name)",
)
RENEWED: Final = """to_char(renewed_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')"""
READ: Final = ("name", "holder", "transitions", "duration_s", "note", "version::text", RENEWED)
MAX_LEASES: Final = 4096
"""Maximum number of an installation's leases: 256 shards, and many members."""
POLL_SHARE: Final = 0.25
"""Time between two reads of all leases, as a share of `renew_s`: a released shard is taken within 0.5 s by default."""


async def open_leases(spec: HighAvailability, context: Context) -> PostgreSqlLeases:
    """Open an installation's leases. Raises `Misconfigured`."""
    server = spec.lease.server
    if server is None:
        raise Misconfigured("daemon.ha.lease.server is required with kind: postgresql")
    database = await open_database(server, context, "leases", spec.lease.renew_s, MAX_LEASES)
    table = PostgreSqlTable(database, spec.lease.table, COLUMNS)
    return await context.shared(("lease store", spec), lambda: aclosing(PostgreSqlLeases(spec, table, context)))


class PostgreSqlLeases:
    """The store's port."""

    def __init__(self, spec: HighAvailability, table: PostgreSqlTable, context: Context) -> None:
        self._all = {"installation": spec.name}
        self._poll_s = POLL_SHARE * spec.lease.renew_s
        self._table = table
        self._context = context
        self._poll: asyncio.Task[None] | None = None

    async def permits(self) -> Sequence[Permit]:
        return [Permit(action, granted) for action, granted in await self._table.privileges()]

    async def list(self) -> Mapping[str, Record]:
        return dict(map(parse, await self._table.select(READ, self._all)))

    async def get(self, name: str) -> Record | None:
        rows = await self._table.select(READ, self._all | {"name": name})
        return parse(rows[0])[1] if rows else None

    async def put(self, name: str, claim: Claim) -> Record:
        at = iso_time(self._context.clock.now())
        record = replace(claim.record, version=str(uuid.uuid4()), renewed=at)
        values = {
            "holder": record.holder,
            "transitions": record.transitions,
            "duration_s": record.duration_s,
            "note": record.note,
            "version": record.version,
            "renewed_at": at,
            **({} if claim.origin is LeaseOrigin.HELD else {"acquired_at": at}),
        }
        key = self._all | {"name": name}
        if claim.replaces is None:
            is_written = await self._table.insert(key | values)
        else:
            is_written = await self._table.update(values, key | {"version": claim.replaces})
        if not is_written:
            raise Conflict(f"lease {name}: another daemon wrote it")
        return record

    async def delete(self, name: str, version: str) -> None:
        await self._table.delete(self._all | {"name": name, "version": version})

    def watch(self, observe: Observe) -> None:
        self._poll = self._context.tasks.start("reads of leases", functools.partial(self._follow, observe))

    async def aclose(self) -> None:
        if self._poll is not None:
            await cancel_all(self._poll)
        await self._table.aclose()

    async def _follow(self, observe: Observe) -> None:
        known: set[str] = set()
        while True:
            with contextlib.suppress(PortError):  # the renewals meet and report it too
                records = await self.list()
                for name in known - records.keys():
                    observe(name, None)
                for name, record in records.items():
                    observe(name, record)
                known = set(records)
            await asyncio.sleep(self._poll_s)


def parse(row: list[Any]) -> tuple[str, Record]:
    """Parse a row to its name and record. Raises `Unavailable` for a malformed one."""
    with unavailable_if_malformed("a lease"):
        name, holder, transitions, duration_s, note, version, renewed = row
        record = Record(
            str(holder), int(transitions), limited_duration_s(duration_s), str(version), str(note), str(renewed)
        )
        return str(name), record
