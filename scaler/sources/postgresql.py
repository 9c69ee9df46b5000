"""PostgreSQL: the numbers in the single row of a query.

Each read opens a connection and closes it: a tick takes it some milliseconds, an idle connection would take the server
a process, and a changed password applies at once. The query runs in a read-only transaction with the deadline as its
`statement_timeout`. A value of NULL is missing, not 0, and so is a query without a row.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

import asyncpg
from asyncpg.exceptions import InterfaceError, InternalClientError

from policies.model import Absent, Fresh
from scaler.clouds.http_client import DEADLINE_SHARE
from scaler.clouds.response_validation import one_line, validated
from scaler.config.kinds.postgresql import PostgreSql
from scaler.ports import Context, Misconfigured, PortError, Unavailable
from scaler.sources.sanitize import sanitize

CONNECTIONS: Final = 4
"""Simultaneous connections to a database: PostgreSQL accepts 100 by default, and each is a process."""
CONTEXT_KEY: Final = "postgresql"
TRANSIENT: Final = ("08", "40", "53", "55", "57", "58", "XX")
"""Classes of SQLSTATE that pass with time: connections, conflicts, resources, operators, system and internal errors."""


async def open_postgresql(spec: PostgreSql, context: Context) -> PostgreSqlSource:
    """Open the source. Raises `Misconfigured`."""

    @asynccontextmanager
    async def opening() -> AsyncIterator[asyncio.Semaphore]:
        yield asyncio.Semaphore(CONNECTIONS)

    trust = spec.tls.context() if spec.tls is not None else False
    places = await context.shared((CONTEXT_KEY, spec.host, spec.port, spec.database), opening)
    return PostgreSqlSource(spec, context, trust, places)


class PostgreSqlSource:
    """The source's port."""

    def __init__(
        self, spec: PostgreSql, context: Context, trust: ssl.SSLContext | bool, places: asyncio.Semaphore
    ) -> None:
        self._spec = spec
        self._clock = context.clock
        self._trust = trust
        self._places = places
        self._limit_s = DEADLINE_SHARE * context.deadline_s
        self._server = f"PostgreSQL at {spec.host}:{spec.port}, database {spec.database!r}"

    @validated("PostgreSQL")
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        try:
            async with asyncio.timeout(self._limit_s), self._places:
                at = self._clock.now()  # the row is no older than this
                rows = await self._rows()
        except (asyncpg.PostgresError, InterfaceError, InternalClientError, OSError) as e:
            raise self._port_error(e) from e  # TimeoutError is an OSError
        if len(rows) != 1:
            returned = "no row" if not rows else "more than one row; aggregate them, as in count(*) or sum(...)"
            reason = f"the query returns {returned}"
            if rows:
                raise Misconfigured(f"{self._server}: {reason}")
            return dict.fromkeys(self._spec.columns, Absent(reason))
        return self._readings(dict(rows[0]), at)

    async def _rows(self) -> Sequence[Any]:
        """Return at most two rows of the query."""
        spec = self._spec
        connection = await asyncpg.connect(
            host=spec.host,
            port=spec.port,
            user=spec.username,
            password=spec.password.read() if spec.password is not None else None,
            database=spec.database,
            ssl=self._trust,
            timeout=self._limit_s,
            statement_cache_size=0,  # PgBouncer gives each transaction another session
            server_settings={"application_name": "forescale"},
        )
        try:
            async with connection.transaction(readonly=True):
                await connection.execute(f"SET LOCAL statement_timeout = {max(1, round(self._limit_s * 1000))}")
                cursor = await connection.cursor(spec.query)
                rows: Sequence[Any] = await cursor.fetch(2)
            await connection.close()
            return rows
        finally:
            connection.terminate()

    def _readings(self, row: Mapping[str, Any], at: float) -> Mapping[str, Fresh[float] | Absent]:
        columns = self._spec.columns
        if len(columns) == len(row) == 1:
            row = dict(zip(columns, row.values(), strict=True))
        if absent := [column for column in columns if column not in row]:
            has = ", ".join(row) or "none"
            raise Misconfigured(f"{self._server}: the query returns no column {absent[0]!r}; its columns are {has}")
        return {column: _reading(column, row[column], at) for column in columns}

    def _port_error(self, error: Exception) -> PortError:
        """Return the port error of a refusal or of a failed connection."""
        if isinstance(error, TimeoutError):
            return Unavailable(f"{self._server}: no response within {self._limit_s:.3g} s")
        text = f"{self._server}: {one_line(error)}"
        if isinstance(error, ssl.SSLError):
            return Misconfigured(f"{text}; check tls")
        if isinstance(error, asyncpg.PostgresError):
            state = str(error.sqlstate or "")
            return (Unavailable if state.startswith(TRANSIENT) else Misconfigured)(f"{text} (SQLSTATE {state})")
        return Misconfigured(f"{text}; remove tls") if "rejected SSL upgrade" in text else Unavailable(text)


def _reading(column: str, value: object, at: float) -> Fresh[float] | Absent:
    """Return a value of a row as a reading; an interval in seconds."""
    if value is None:
        return Absent(f"{column} is NULL")
    if isinstance(value, timedelta):
        value = value.total_seconds()
    return sanitize(column, float(value) if isinstance(value, Decimal) else value, at)
