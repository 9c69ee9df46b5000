"""Connections of the daemon's HTTP server: few, short, and never so many that the daemon lacks descriptors."""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import ssl
from collections.abc import Callable
from typing import Final

from aiohttp import web

from scaler.telemetry.log import log

IDLE_S: Final = 15.0
"""A connection may take this long to send a request's headers, and as long to rest between two of them."""
ANSWER_S: Final = 60.0
"""The longest that one answer may take."""
MAX_CONNECTIONS: Final = 100
"""A browser holds six, Prometheus and the kubelet one each."""
SHARE: Final = 4
"""Connections get one in this many of the process's descriptors; the rest is for sources, clouds and the journal."""
MAX_DESCRIPTORS: Final = 65_536
"""The soft limit is raised this far, where the hard one allows it."""
BACKLOG: Final = 128
PAUSE_S: Final = 0.1
"""Before another connection is accepted after none could be."""
QUIET: Final = logging.getLogger("aiohttp.access")
"""Logs requests at a level that `telemetry.log` leaves out."""
NAME: Final = "forescale"
"""All that the Server header says."""


def raise_descriptor_limit() -> int:
    """Raise this process's soft limit of open descriptors as far as it may be; return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        return wanted
    return MAX_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


class Connection(web.RequestHandler):
    """One accepted connection, aborted when its headers, its answer or the next request take too long."""

    __slots__ = ("_gate", "_timer", "busy", "opening")

    def __init__(self, gate: Gate, server: web.Server) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(server, loop=loop, keepalive_timeout=IDLE_S, lingering_time=IDLE_S, access_log=QUIET)
        self._gate = gate
        self.busy = False
        self.opening: asyncio.Task[None] | None = None
        self._timer = loop.call_later(IDLE_S, self.abort)

    def turn(self, *, busy: bool) -> None:
        """Count a request that begins to be answered, or has been."""
        self.busy = busy
        self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(ANSWER_S if busy else IDLE_S, self.abort)
        self._gate.touch(self)

    def abort(self) -> None:
        """Close the connection at once, whatever it was about to send."""
        self._timer.cancel()
        self._gate.leave(self)
        if self.transport is not None:
            self.transport.abort()
        elif self.opening is not None:
            self.opening.cancel()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._timer.cancel()
        self._gate.leave(self)
        super().connection_lost(exc)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        response = super().handle_error(request, status, exc, message)
        response.headers["Server"] = NAME
        return response


class Gate:
    """Accepts connections, `limit` at most: one more closes the one that has rested longest, so that all get in."""

    def __init__(self, server: web.Server, limit: int, tls: Callable[[], ssl.SSLContext | None]) -> None:
        self._server = server
        self._limit = limit
        self._tls = tls
        self._open: dict[Connection, None] = {}  # the one whose state changed last comes last

    def touch(self, connection: Connection) -> None:
        """Note that a connection's state has changed just now."""
        if connection in self._open:
            del self._open[connection]
            self._open[connection] = None

    def leave(self, connection: Connection) -> None:
        """Note that a connection is gone."""
        self._open.pop(connection, None)

    async def accept(self, listener: socket.socket) -> None:
        """Accept connections without end."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError as e:  # no descriptor is left: a resting connection's is of use
                log.warning("accept", error=e.strerror, open=len(self._open))
                self._make_room()
                await asyncio.sleep(PAUSE_S)
                continue
            if len(self._open) >= self._limit:
                self._make_room()
            connection = Connection(self, self._server)
            self._open[connection] = None
            connection.opening = asyncio.create_task(self._begin(connection, accepted))

    def _make_room(self) -> None:
        """Close the connection that has rested longest, or that has been answered longest where none rests."""
        oldest = next((c for c in self._open if not c.busy), next(iter(self._open), None))
        if oldest is not None:
            oldest.abort()

    async def _begin(self, connection: Connection, accepted: socket.socket) -> None:
        loop, tls = asyncio.get_running_loop(), self._tls()
        try:
            await loop.connect_accepted_socket(
                lambda: connection, accepted, ssl=tls, ssl_handshake_timeout=None if tls is None else IDLE_S
            )
        except (OSError, ssl.SSLError):  # it is gone, or speaks no TLS
            connection.abort()
        finally:
            if connection.transport is None:
                accepted.close()


async def listeners(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of a host. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
    bound = [socket.socket(fileno=socket.dup(s.fileno())) for s in server.sockets]
    server.close()
    for one in bound:
        one.setblocking(False)
        one.listen(BACKLOG)
    return bound
