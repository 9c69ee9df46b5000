"""PostgreSQL: the numbers in the single row of a query.

Each read opens a connection and closes it: a tick takes it some milliseconds, an idle connection would take the server
a process, and a changed password applies at once. The query runs in a read-only transaction with the deadline as its
`statement_timeout`. A value of NULL is missing, not 0, and so is a query without a row.

A read runs in a thread, and the deadline cuts its connection. The client is written in Python, so that no response of a
server holds the event loop: a client in C that loops over a hostile response would.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import timedelta
from decimal import Decimal
from typing import Any, Final, NamedTuple

from pg8000 import core
from pg8000.exceptions import DatabaseError, InterfaceError
from scramp import ScramException

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
MAX_ROWS: Final = 2
"""Rows that a query may return: the second one shows that it returns too many."""
MAX_ITERATIONS: Final = 1_000_000
"""Maximum hash iterations of a login that a server may request: a second of work. PostgreSQL requests 4096."""
SASL_CONTINUE: Final = 11
FAILURES: Final = (DatabaseError, InterfaceError, ScramException, struct.error, OSError)
"""Exceptions of a read. A `TimeoutError` is an `OSError`."""


async def open_postgresql(spec: PostgreSql, context: Context) -> PostgreSqlSource:
    """Open the source. Raises `Misconfigured`."""

    @asynccontextmanager
    async def opening() -> AsyncIterator[ThreadPoolExecutor]:
        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="postgresql") as threads:
            yield threads

    trust = spec.tls.context() if spec.tls is not None else False
    threads = await context.shared((CONTEXT_KEY, spec.host, spec.port, spec.database), opening)
    return PostgreSqlSource(spec, context, trust, threads)


class PostgreSqlSource:
    """The source's port."""

    def __init__(
        self, spec: PostgreSql, context: Context, trust: ssl.SSLContext | bool, threads: ThreadPoolExecutor
    ) -> None:
        self._spec = spec
        self._clock = context.clock
        self._trust = trust
        self._threads = threads
        self._limit_s = DEADLINE_SHARE * context.deadline_s
        self._server = f"PostgreSQL at {spec.host}:{spec.port}, database {spec.database!r}"

    @validated("PostgreSQL")
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        at = self._clock.now()  # the row is no older than this
        password = self._spec.password.read() if self._spec.password is not None else None
        query = Query(self._spec, password, self._trust, self._limit_s)
        try:
            async with asyncio.timeout(self._limit_s):
                result = await asyncio.get_running_loop().run_in_executor(self._threads, query.run)
        except FAILURES as e:
            raise self._port_error(e) from e
        finally:
            query.cut()
        if len(result.rows) != 1:
            returned = "no row" if not result.rows else "more than one row; aggregate them, as in count(*) or sum(...)"
            reason = f"the query returns {returned}"
            if result.rows:
                raise Misconfigured(f"{self._server}: {reason}")
            return dict.fromkeys(self._spec.columns, Absent(reason))
        return self._readings(dict(zip(result.columns, result.rows[0], strict=True)), at)

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
        if isinstance(error, DatabaseError):
            fields = error.args[0]
            state = str(fields.get("C", ""))
            text = f"{self._server}: {one_line(fields.get('M', 'no message'))} (SQLSTATE {one_line(state)})"
            return (Unavailable if state.startswith(TRANSIENT) else Misconfigured)(text)
        cause = error.__cause__
        text = f"{self._server}: {one_line(error)}" + (f": {one_line(cause)}" if isinstance(cause, OSError) else "")
        if isinstance(error, ssl.SSLError):
            return Misconfigured(f"{text}; check tls")
        if isinstance(error, PasswordRequired):
            return Misconfigured(f"{text}; set password")
        return Misconfigured(f"{text}; remove tls") if "refuses SSL" in text else Unavailable(text)


class PasswordRequired(InterfaceError):  # type: ignore[misc]  # pg8000 has no types
    """The server requests a password, and none is configured."""


class Result(NamedTuple):
    """The rows of a query, at most `MAX_ROWS`."""

    columns: list[str]
    rows: list[list[Any]]


class Connection(core.CoreConnection):  # type: ignore[misc]  # pg8000 has no types
    """A connection that requests few rows, and limits the work of a login."""

    def send_EXECUTE(self) -> None:  # noqa: N802 - a name of pg8000
        self._send_message(core.EXECUTE, core.NULL_BYTE + core.i_pack(MAX_ROWS))

    def handle_DATA_ROW(self, data: bytes, context: core.Context) -> None:  # noqa: N802 - a name of pg8000
        if len(context.rows) >= MAX_ROWS:
            raise InterfaceError(f"the server sends more than the {MAX_ROWS} rows that were requested")
        super().handle_DATA_ROW(data, context)

    def handle_AUTHENTICATION_REQUEST(self, data: bytes, context: core.Context) -> None:  # noqa: N802 - as above
        method = core.i_unpack(data)[0]
        if method and self.password is None:
            raise PasswordRequired("the server requires a password")
        iterations = re.search(rb"(?:^|,)i=([0-9]{1,19})", data[4:]) if method == SASL_CONTINUE else None
        if iterations is not None and int(iterations[1]) > MAX_ITERATIONS:
            raise InterfaceError(f"the server requests {int(iterations[1])} hash iterations; at most {MAX_ITERATIONS}")
        super().handle_AUTHENTICATION_REQUEST(data, context)


class Query:
    """One run of the query in a thread. Another thread may `cut` its connection, which ends it."""

    def __init__(self, spec: PostgreSql, password: str | None, trust: ssl.SSLContext | bool, limit_s: float) -> None:
        self._spec = spec
        self._password = password
        self._trust = trust
        self._limit_s = limit_s
        self._wire: socket.socket | None = None
        self._is_cut = False

    def run(self) -> Result:
        """Return at most two rows of the query. Raises `FAILURES`."""
        spec = self._spec
        with (
            socket.create_connection((spec.host, spec.port), self._limit_s) as opened,
            opened.dup() as self._wire,  # TLS takes over the first one
        ):
            try:
                return self._result(opened)
            finally:
                self.cut()  # closing is not enough: the trace of an exception keeps the socket's file open

    def _result(self, opened: socket.socket) -> Result:
        if self._is_cut:
            raise InterfaceError("the deadline has passed")
        spec = self._spec
        connection = Connection(
            spec.username,
            spec.host,
            spec.database,
            spec.port,
            self._password,
            ssl_context=self._trust,
            application_name="forescale",
            sock=opened,
        )
        try:
            timeout_ms = max(1, round(self._limit_s * 1000))
            connection.execute_simple(f"BEGIN READ ONLY; SET LOCAL statement_timeout = {timeout_ms}")
            result = connection.execute_unnamed(spec.query)
        finally:
            with contextlib.suppress(InterfaceError, OSError):
                connection.close()
        return Result([column["name"] for column in result.columns or ()], result.rows or [])

    def cut(self) -> None:
        """Close the connection for both sides."""
        self._is_cut = True
        if self._wire is not None:
            with contextlib.suppress(OSError):  # it is closed already
                self._wire.shutdown(socket.SHUT_RDWR)


def _reading(column: str, value: object, at: float) -> Fresh[float] | Absent:
    """Return a value of a row as a reading; an interval in seconds."""
    if value is None:
        return Absent(f"{column} is NULL")
    if isinstance(value, timedelta):
        value = value.total_seconds()
    return sanitize(column, float(value) if isinstance(value, Decimal) else value, at)
