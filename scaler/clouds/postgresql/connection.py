"""Connections to PostgreSQL, used in threads.

A deadline cuts the connection of a call. The client is written in Python, so that no response of a server holds the
event loop: a client in C that loops over a hostile response would.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import re
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, asynccontextmanager
from typing import Any, Final, NamedTuple, TypeVar

from pg8000 import core
from pg8000.exceptions import DatabaseError, InterfaceError
from scramp import ScramException

from scaler.clouds.response_validation import one_line
from scaler.config.postgresql_server import PostgreSqlServer
from scaler.ports import Context, Misconfigured, PortError, Unavailable

T = TypeVar("T")
CONNECTIONS: Final = 4
"""Simultaneous connections to a database: PostgreSQL accepts 100 by default, and each is a process."""
TRANSIENT: Final = ("08", "40", "53", "55", "57", "58", "XX")
"""Classes of SQLSTATE that pass with time: connections, conflicts, resources, operators, system and internal errors."""
MAX_ITERATIONS: Final = 1_000_000
"""Maximum hash iterations of a login that a server may request: a second of work. PostgreSQL requests 4096."""
SASL_CONTINUE: Final = 11
FAILURES: Final = (DatabaseError, InterfaceError, ScramException, struct.error, OSError)
"""Exceptions of a call. A `TimeoutError` is an `OSError`."""


class PasswordRequired(InterfaceError):  # type: ignore[misc]  # pg8000 has no types
    """The server requests a password, and none is configured."""


class StatementRows(NamedTuple):
    """The rows of a statement."""

    columns: list[str]
    rows: list[list[Any]]

    @classmethod
    def of(cls, result: core.Context) -> StatementRows:
        return cls([column["name"] for column in result.columns or ()], result.rows or [])


class PostgreSqlConnection(core.CoreConnection):  # type: ignore[misc]  # pg8000 has no types
    """A connection that requests at most `max_rows` rows, and limits the work of a login."""

    def __init__(self, max_rows: int, *args: Any, **options: Any) -> None:
        self.max_rows = max_rows
        super().__init__(*args, **options)

    def send_EXECUTE(self) -> None:  # noqa: N802 - a name of pg8000
        self._send_message(core.EXECUTE, core.NULL_BYTE + core.i_pack(self.max_rows))

    def handle_DATA_ROW(self, data: bytes, context: core.Context) -> None:  # noqa: N802 - a name of pg8000
        if len(context.rows) >= self.max_rows:
            raise InterfaceError(f"the server sends more than the {self.max_rows} rows that were requested")
        super().handle_DATA_ROW(data, context)

    def handle_AUTHENTICATION_REQUEST(self, data: bytes, context: core.Context) -> None:  # noqa: N802 - as above
        method = core.i_unpack(data)[0]
        if method and self.password is None:
            raise PasswordRequired("the server requires a password")
        iterations = re.search(rb"(?:^|,)i=([0-9]{1,19})", data[4:]) if method == SASL_CONTINUE else None
        if iterations is not None and int(iterations[1]) > MAX_ITERATIONS:
            raise InterfaceError(f"the server requests {int(iterations[1])} hash iterations; at most {MAX_ITERATIONS}")
        super().handle_AUTHENTICATION_REQUEST(data, context)


class PostgreSqlSession:
    """One connection, opened on first use in a thread.

    Another thread may `cut` it, which ends the call.
    """

    def __init__(
        self,
        server: PostgreSqlServer,
        password: str | None,
        trust: ssl.SSLContext | bool,
        limit_s: float,
        max_rows: int,
    ) -> None:
        self._server = server
        self._password = password
        self._trust = trust
        self._limit_s = limit_s
        self._max_rows = max_rows
        self._wire: socket.socket | None = None
        self._is_cut = False
        self._connection: PostgreSqlConnection | None = None
        self._sockets = ExitStack()

    def connection(self) -> PostgreSqlConnection:
        """Return the open connection. Raises `FAILURES`."""
        if self._connection is None:
            server = self._server
            opened = socket.create_connection((server.host, server.port), self._limit_s)
            self._sockets.enter_context(opened)
            self._wire = self._sockets.enter_context(opened.dup())  # TLS takes over the first one
            if self._is_cut:
                raise InterfaceError("the deadline has passed")
            self._connection = PostgreSqlConnection(
                self._max_rows,
                server.username,
                server.host,
                server.database,
                server.port,
                self._password,
                ssl_context=self._trust,
                application_name="forescale",
                sock=opened,
            )
        return self._connection

    def run(self, work: Callable[[PostgreSqlConnection], T], *, keep: bool) -> T:
        """Return the result of `work`.

        With `keep`, the connection stays open for the next call. Raises `FAILURES`.
        """
        try:
            result = work(self.connection())
        except BaseException:
            self.close()
            raise
        if not keep:
            self.close()
        return result

    def cut(self) -> None:
        """Close the connection for both sides."""
        self._is_cut = True
        if self._wire is not None:
            with contextlib.suppress(OSError):  # it is closed already
                self._wire.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End the connection in the thread that uses it."""
        if self._connection is not None:
            with contextlib.suppress(InterfaceError, OSError):
                self._connection.close()
        self.cut()  # closing is not enough: the trace of an exception keeps the socket's file open
        self._sockets.close()


class Database:
    """A database whose calls run in threads, each within a time limit."""

    def __init__(self, server: PostgreSqlServer, threads: ThreadPoolExecutor, limit_s: float, max_rows: int) -> None:
        """Read the files of TLS. Raises `Misconfigured`."""
        self._server = server
        self._threads = threads
        self._trust = server.tls.context() if server.tls is not None else False
        self._max_rows = max_rows
        self.limit_s = limit_s
        self.name = f"PostgreSQL at {server.host}:{server.port}, database {server.database!r}"

    def session(self) -> PostgreSqlSession:
        """Return a session with the present password. Raises `Misconfigured`."""
        password = self._server.password.read() if self._server.password is not None else None
        return PostgreSqlSession(self._server, password, self._trust, self.limit_s, self._max_rows)

    async def call(
        self, session: PostgreSqlSession, work: Callable[[PostgreSqlConnection], T], *, keep: bool = False
    ) -> T:
        """Return the result of `work`, which runs in a thread; `keep` as in `PostgreSqlSession.run`.

        Raises port errors.
        """
        try:
            async with asyncio.timeout(self.limit_s):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, functools.partial(session.run, work, keep=keep))
        except BaseException as e:
            session.cut()
            if isinstance(e, FAILURES):
                raise self.port_error(e) from e
            raise

    def port_error(self, error: Exception) -> PortError:
        """Return the port error of a refusal or of a failed connection."""
        if isinstance(error, TimeoutError):
            return Unavailable(f"{self.name}: no response within {self.limit_s:.3g} s")
        if isinstance(error, DatabaseError):
            fields = error.args[0]
            state = str(fields.get("C", ""))
            text = f"{self.name}: {one_line(fields.get('M', 'no message'))} (SQLSTATE {one_line(state)})"
            return (Unavailable if state.startswith(TRANSIENT) else Misconfigured)(text)
        cause = error.__cause__
        text = f"{self.name}: {one_line(error)}" + (f": {one_line(cause)}" if isinstance(cause, OSError) else "")
        if isinstance(error, ssl.SSLError):
            return Misconfigured(f"{text}; check tls")
        if isinstance(error, PasswordRequired):
            return Misconfigured(f"{text}; set password")
        return Misconfigured(f"{text}; remove tls") if "refuses SSL" in text else Unavailable(text)


async def open_database(
    server: PostgreSqlServer, context: Context, use: str, limit_s: float, max_rows: int
) -> Database:
    """Return a database, whose threads all adapters of this `use` share. Raises `Misconfigured`."""

    @asynccontextmanager
    async def opening() -> AsyncIterator[ThreadPoolExecutor]:
        with ThreadPoolExecutor(CONNECTIONS, thread_name_prefix=use) as threads:
            yield threads

    threads = await context.shared((use, server.host, server.port, server.database), opening)
    return Database(server, threads, limit_s, max_rows)
