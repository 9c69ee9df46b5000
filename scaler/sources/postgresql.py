"""PostgreSQL: the numbers in the single row of a query.

Each read opens a connection and closes it: a tick takes it some milliseconds, an idle connection would take the server
a process, and a changed password applies at once. The query runs in a read-only transaction with the deadline as its
`statement_timeout`. A value of NULL is missing, not 0, and so is a query without a row.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from policies.model import Absent, Fresh
from scaler.clouds.http_client import DEADLINE_SHARE
from scaler.clouds.postgresql.connection import Database, PostgreSqlConnection, StatementRows, open_database
from scaler.clouds.response_validation import validated
from scaler.config.kinds.postgresql import PostgreSql
from scaler.ports import Context, Misconfigured
from scaler.sources.sanitize import sanitize

MAX_ROWS: Final = 2
"""Rows that a query may return: the second one shows that it returns too many."""


async def open_postgresql(spec: PostgreSql, context: Context) -> PostgreSqlSource:
    """Open the source. Raises `Misconfigured`."""
    limit_s = DEADLINE_SHARE * context.deadline_s
    return PostgreSqlSource(spec, context, await open_database(spec, context, "postgresql", limit_s, MAX_ROWS))


class PostgreSqlSource:
    """The source's port."""

    def __init__(self, spec: PostgreSql, context: Context, database: Database) -> None:
        self._spec = spec
        self._clock = context.clock
        self._database = database

    @validated("PostgreSQL")
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        at = self._clock.now()  # the row is no older than this
        result = await self._database.call(self._database.session(), self._query)
        if len(result.rows) != 1:
            returned = "no row" if not result.rows else "more than one row; aggregate them, as in count(*) or sum(...)"
            reason = f"the query returns {returned}"
            if result.rows:
                raise Misconfigured(f"{self._database.name}: {reason}")
            return dict.fromkeys(self._spec.columns, Absent(reason))
        return self._readings(dict(zip(result.columns, result.rows[0], strict=True)), at)

    def _query(self, connection: PostgreSqlConnection) -> StatementRows:
        timeout_ms = max(1, round(self._database.limit_s * 1000))
        connection.execute_simple(f"BEGIN READ ONLY; SET LOCAL statement_timeout = {timeout_ms}")
        return StatementRows.of(connection.execute_unnamed(self._spec.query))

    def _readings(self, row: Mapping[str, Any], at: float) -> Mapping[str, Fresh[float] | Absent]:
        columns = self._spec.columns
        if len(columns) == len(row) == 1:
            row = dict(zip(columns, row.values(), strict=True))
        if absent := [column for column in columns if column not in row]:
            has = ", ".join(row) or "none"
            raise Misconfigured(
                f"{self._database.name}: the query returns no column {absent[0]!r}; its columns are {has}"
            )
        return {column: _reading(column, row[column], at) for column in columns}


def _reading(column: str, value: object, at: float) -> Fresh[float] | Absent:
    """Return a value of a row as a reading; an interval in seconds."""
    if value is None:
        return Absent(f"{column} is NULL")
    if isinstance(value, timedelta):
        value = value.total_seconds()
    return sanitize(column, float(value) if isinstance(value, Decimal) else value, at)
