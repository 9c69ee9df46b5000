"""A table that daemons share: transactions on one connection, in the order of the calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

from pg8000.converters import literal
from pg8000.exceptions import DatabaseError, InterfaceError

from scaler.clouds.postgresql.connection import Database, PostgreSqlConnection, PostgreSqlSession
from scaler.clouds.response_validation import one_line, unavailable_if_malformed
from scaler.ports import PortError

COMMANDS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE")
MISSING_TABLE: Final = "42P01"
CREATED_MEANWHILE: Final = frozenset({"23505", "42710", "42P07"})
"""States of a `CREATE TABLE` that another daemon was faster with: a duplicate row in the catalog, type, or table."""
OTHER_COLUMNS: Final = "the table has other columns: drop it, or set another table"
REMEDIES: Final = {
    "25006": "it is a replica, or its user may only read: set host to the primary",
    "3F000": "create the schema, or set another table",
    "42501": "create the table, and grant its user SELECT, INSERT, UPDATE and DELETE on it",
    **dict.fromkeys(("42703", "42804", "42883", "42P10", "22P02"), OTHER_COLUMNS),
}
"""Remedies by SQLSTATE."""


Row = Mapping[str, object]
"""Values by column."""


class PostgreSqlTable:
    """A table, created by the first write where the user may.

    Calls run one after the other, so that the result of an earlier one never arrives after that of a later one. A
    failed call drops the connection, and the next call opens another. `columns` are the SQL definitions of the columns
    and of the key.
    """

    def __init__(self, database: Database, name: str, columns: Iterable[str]) -> None:
        self._name = ".".join(f'"{part}"' for part in name.split("."))
        self._database = database
        self._definition = f"CREATE TABLE IF NOT EXISTS {self._name} ({', '.join(columns)})"
        self._turn = asyncio.Lock()
        self._session: PostgreSqlSession | None = None

    async def privileges(self) -> list[tuple[str, bool]]:
        """Return each needed privilege, on the table or to create it, and whether the user has it.

        Raises port errors.
        """
        name = literal(self._name)
        checks = ", ".join(f"has_table_privilege({name}, '{command}')" for command in COMMANDS)
        try:
            (row,) = await self._in_turn(f"SELECT {checks}")
        except PortError as e:
            if sqlstate(e) != MISSING_TABLE:
                raise
            schema = f"parse_ident({name})" if "." in self._name else "ARRAY[current_schema()::text]"
            ((granted,),) = await self._in_turn(f"SELECT has_schema_privilege(({schema})[1], 'CREATE')")
            return [(f"create table {self._name}", bool(granted))]
        return [
            (f"{command} on table {self._name}", bool(granted)) for command, granted in zip(COMMANDS, row, strict=True)
        ]

    async def select(self, columns: Iterable[str], where: Row) -> list[list[Any]]:
        """Return columns of the rows with these values; none where the table is missing.

        Raises port errors.
        """
        try:
            return await self._in_turn(f"SELECT {', '.join(columns)} FROM {self._name} WHERE {_is(where)}")
        except PortError as e:
            if sqlstate(e) == MISSING_TABLE:
                return []
            raise

    async def insert(self, row: Row) -> bool:
        """Insert a row, and return whether there was none with its key. Raises port errors.

        After an error, the row may be there nevertheless. So may the changes of `update` and `delete`.
        """
        values = ", ".join(map(literal, row.values()))
        return await self._write(
            f"INSERT INTO {self._name} ({', '.join(row)}) VALUES ({values}) ON CONFLICT DO NOTHING"
        )

    async def update(self, values: Row, where: Row) -> bool:
        """Change the row with the values of `where`, and return whether there was one.

        Raises port errors.
        """
        changes = ", ".join(f"{column} = {literal(value)}" for column, value in values.items())
        return await self._write(f"UPDATE {self._name} SET {changes} WHERE {_is(where)}")

    async def delete(self, where: Row) -> None:
        """Delete the rows with these values. Raises port errors."""
        await self._write(f"DELETE FROM {self._name} WHERE {_is(where)}")

    async def _write(self, statement: str) -> bool:
        statement += " RETURNING 1"
        try:
            return bool(await self._in_turn(statement))
        except PortError as e:
            if sqlstate(e) != MISSING_TABLE:
                raise
        try:
            await self._in_turn(self._definition)
        except PortError as e:
            if sqlstate(e) not in CREATED_MEANWHILE:
                raise
        return bool(await self._in_turn(statement))

    async def aclose(self) -> None:
        """End the connection."""
        if self._session is not None:
            with contextlib.suppress(PortError):
                await self._database.call(self._session, lambda _: None)

    async def _in_turn(self, statement: str) -> list[list[Any]]:
        try:
            async with asyncio.timeout(self._database.limit_s), self._turn:
                return await self._transaction(statement)
        except TimeoutError as e:  # while it waited for its turn
            raise self._database.port_error(e) from e

    async def _transaction(self, statement: str) -> list[list[Any]]:
        session, self._session = self._session or self._database.session(), None
        timeout_ms = max(1, round(self._database.limit_s * 1000))
        try:
            with unavailable_if_malformed(self._database.name):
                rows = await self._database.call(session, lambda c: _run(c, statement, timeout_ms), keep=True)
        except PortError as e:
            remedy = REMEDIES.get(sqlstate(e))
            raise (type(e)(f"{e}; {remedy}") if remedy else e) from e.__cause__
        self._session = session
        return rows


def _run(connection: PostgreSqlConnection, statement: str, timeout_ms: int) -> list[list[Any]]:
    """Run a statement in a transaction of one message, as poolers require. Raises `FAILURES`.

    An accepted commit survives a crash of the server, whatever its default of `synchronous_commit`. With a warning it
    may not: the timeout of a commit that waits for a synchronous replica is one.
    """
    connection.notices.clear()
    settings = f"SET LOCAL statement_timeout = {timeout_ms}; SET LOCAL synchronous_commit = on"
    rows: list[list[Any]] = connection.execute_simple(f"BEGIN; {settings}; {statement}; COMMIT").rows or []
    warnings = [notice for notice in connection.notices if notice.get(b"V") == b"WARNING"]
    if warnings:
        raise InterfaceError(one_line(warnings[0].get(b"M", b"a warning without a text")))
    return rows


def _is(where: Row) -> str:
    """Return the condition that each column has its value, or one of those in a tuple."""
    values = {column: value if isinstance(value, tuple) else (value,) for column, value in where.items()}
    return " AND ".join(f"{column} IN ({', '.join(map(literal, options))})" for column, options in values.items())


def sqlstate(error: PortError) -> str:
    """Return the SQLSTATE of a refusal; empty for other errors."""
    cause = error.__cause__
    return str(cause.args[0].get("C", "")) if isinstance(cause, DatabaseError) else ""
