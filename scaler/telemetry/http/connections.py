"""Connections of the daemon's HTTP server, limited in number and duration.

The limits reserve descriptors for the daemon.
"""

from __future__ import annotations

import asyncio
import logging
import resource
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from aiohttp import web

from scaler.telemetry.log import log

IDLE_S: Final = 15.0
"""Maximum time for a request's headers, and between two requests. Seconds."""
RESPONSE_S: Final = 60.0
"""Maximum time of a response. Seconds."""
MAX_CONNECTIONS: Final = 100
"""Maximum number of connections. A browser holds six, Prometheus and the kubelet one each."""
DESCRIPTORS_PER_CONNECTION: Final = 4
"""Descriptors of the process per connection; three of four stay for sources, clouds and the journal."""
MAX_DESCRIPTORS: Final = 65_536
"""Target of the soft limit of descriptors, within the hard one."""
BACKLOG: Final = 128
PAUSE_S: Final = 0.1
"""Pause after a connection could not be accepted. Seconds."""
QUIET: Final = logging.getLogger("aiohttp.access")
"""Logger of requests, at a level that `telemetry.log` disables."""
NAME: Final = "forescale"
"""Value of the Server header."""


def raise_descriptor_limit() -> int:
    """Raise this process's soft limit of descriptors, and return it.

    The new limit is `MAX_DESCRIPTORS`, or the hard limit where that is lower.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = MAX_DESCRIPTORS if hard == resource.RLIM_INFINITY else min(hard, MAX_DESCRIPTORS)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))
        return target
    return MAX_DESCRIPTORS if soft == resource.RLIM_INFINITY else soft


class HttpConnection(web.RequestHandler):
    """An accepted connection.

    It is aborted when its headers, its response or the next request take too long.
    """

    __slots__ = ("_gate", "_timer", "busy", "opening")

    def __init__(self, gate: Gate, server: web.Server) -> None:
        loop = asyncio.get_running_loop()
        super().__init__(server, loop=loop, keepalive_timeout=IDLE_S, lingering_time=IDLE_S, access_log=QUIET)
        self._gate = gate
        self.busy = False
        self.opening: asyncio.Task[None] | None = None
        self._timer = loop.call_later(IDLE_S, self.abort)

    def set_busy(self, *, busy: bool) -> None:
        """Mark the start or the end of a response, and restart the timer."""
        self.busy = busy
        self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(RESPONSE_S if busy else IDLE_S, self.abort)
        self._gate.touch(self)

    @staticmethod
    @contextmanager
    def responding(request: web.Request) -> Iterator[None]:
        """Mark the request's connection as busy until its response is complete."""
        connection = request.protocol if isinstance(request.protocol, HttpConnection) else None
        if connection is not None:
            connection.set_busy(busy=True)
        try:
            yield
        finally:
            if connection is not None:
                connection.set_busy(busy=False)

    def abort(self) -> None:
        """Close the connection at once, without the pending data."""
        self._timer.cancel()
        self._gate.remove(self)
        if self.transport is not None:
            self.transport.abort()
        elif self.opening is not None:
            self.opening.cancel()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._timer.cancel()
        self._gate.remove(self)
        super().connection_lost(exc)

    def handle_error(
        self, request: web.BaseRequest, status: int = 500, exc: BaseException | None = None, message: str | None = None
    ) -> web.StreamResponse:
        response = super().handle_error(request, status, exc, message)
        response.headers["Server"] = NAME
        return response


class Gate:
    """Accepts connections.

    Beyond `limit`, a new one closes the connection that has been idle longest.
    """

    def __init__(self, server: web.Server, limit: int, tls: Callable[[], ssl.SSLContext | None]) -> None:
        self._server = server
        self._limit = limit
        self._tls = tls
        self._open: dict[HttpConnection, None] = {}  # in the order of their last state change

    def touch(self, connection: HttpConnection) -> None:
        """Move a connection to the end after a state change."""
        if connection in self._open:
            del self._open[connection]
            self._open[connection] = None

    def remove(self, connection: HttpConnection) -> None:
        """Remove a closed connection."""
        self._open.pop(connection, None)

    async def accept(self, listener: socket.socket) -> None:
        """Accept connections until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, _ = await loop.sock_accept(listener)
            except OSError as e:  # no descriptor is left: close an idle connection to free one
                log.warning("accept", error=e.strerror, open=len(self._open))
                self._close_oldest()
                await asyncio.sleep(PAUSE_S)
                continue
            if len(self._open) >= self._limit:
                self._close_oldest()
            connection = HttpConnection(self, self._server)
            self._open[connection] = None
            connection.opening = asyncio.create_task(self._begin(connection, accepted))

    def _close_oldest(self) -> None:
        """Close the connection that has been idle longest, or the oldest busy one if none is idle."""
        oldest = next((c for c in self._open if not c.busy), next(iter(self._open), None))
        if oldest is not None:
            oldest.abort()

    async def _begin(self, connection: HttpConnection, accepted: socket.socket) -> None:
        loop, tls = asyncio.get_running_loop(), self._tls()
        try:
            await loop.connect_accepted_socket(
                lambda: connection, accepted, ssl=tls, ssl_handshake_timeout=None if tls is None else IDLE_S
            )
        except (OSError, ssl.SSLError):  # closed by the client, or not TLS
            connection.abort()
        finally:
            if connection.transport is None:
                accepted.close()


async def listeners(host: str, port: int) -> list[socket.socket]:
    """Listen on every address of a host. Raises `OSError`."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, host, port, start_serving=False)
    sockets = [socket.socket(fileno=socket.dup(s.fileno())) for s in server.sockets]
    server.close()
    for listener in sockets:
        listener.setblocking(False)
        listener.listen(BACKLOG)
    return sockets
