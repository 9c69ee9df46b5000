"""The daemon's read-only HTTP server: dashboard, metrics, health."""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
from typing import Any, Final

from aiohttp import web

from scaler.config.daemon import DaemonSpec
from scaler.ports import Misconfigured
from scaler.supervised_tasks import Tasks
from scaler.telemetry.dashboard import Dashboard
from scaler.telemetry.health import Health
from scaler.telemetry.http.access import AccessControl
from scaler.telemetry.http.certificates import Certificates
from scaler.telemetry.http.connections import (
    DESCRIPTORS_PER_CONNECTION,
    MAX_CONNECTIONS,
    Gate,
    listeners,
    raise_descriptor_limit,
)
from scaler.telemetry.log import log
from scaler.telemetry.metrics import Metrics

DEFAULT_LISTEN: Final = "127.0.0.1:8080"
"""Address without `daemon.listen` and `--listen`."""
NEXT_PORTS: Final = 20
"""Ports after the default one that are tried where it is in use."""
SHUTDOWN_S: Final = 5.0
"""Maximum time that running responses get when the daemon ends. Seconds."""


def application(
    metrics: Metrics, health: Health, dashboard: Dashboard, access: AccessControl | None = None
) -> web.Application:
    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def healthz(_: web.Request) -> web.Response:
        stalled, problems = health.stalled(), health.problems()
        status = "stalled" if stalled else "degraded" if problems else "ok"
        body: dict[str, Any] = {"status": status, "stalled": stalled, "problems": problems}
        if health.held_shards is not None:
            body["shards"] = health.held_shards()
        return web.json_response(body, status=503 if stalled else 200)

    async def readyz(_: web.Request) -> web.Response:
        waiting = health.waiting()
        body = {"status": "starting" if waiting else "ready", "waiting": waiting}
        return web.json_response(body, status=503 if waiting else 200)

    app = web.Application()
    if access is not None:
        access.mount(app)
    app.router.add_get("/metrics", show_metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    dashboard.mount(app)
    return app


class Server:
    """The daemon's listening HTTP server."""

    def __init__(
        self, runner: web.AppRunner, sockets: list[socket.socket], accepting: list[asyncio.Task[None]]
    ) -> None:
        self._runner = runner
        self._sockets = sockets
        self._accepting = accepting

    def address(self, scheme: str) -> str:
        """Return the URL of the first listening address for a browser on this machine."""
        host, port = self._sockets[0].getsockname()[:2]
        local = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
        return f"{scheme}://{f'[{local}]' if ':' in local else local}:{port}/"

    async def close(self) -> None:
        """Stop accepting, and close all connections."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for listener in self._sockets:
            listener.close()
        await self._runner.cleanup()


async def serve(
    app: web.Application, spec: DaemonSpec, health: Health, tasks: Tasks, listen: str | None = None
) -> tuple[Server, str]:
    """Listen on `listen`, else on `spec.listen`, else on the default port or the next free one.

    Return the server, which the caller closes, and its URL. Raises `Misconfigured`.
    """
    certificates = None if spec.server.tls is None else Certificates(spec.server.tls, health)
    if spec.server.token is not None:
        spec.server.token.read()
    sockets = await open_sockets("--listen" if listen else "daemon.listen", listen or spec.listen)
    server = await start(app, sockets, certificates, tasks, "http server")
    return server, server.address("http" if certificates is None else "https")


async def start(
    app: web.Application, sockets: list[socket.socket], certificates: Certificates | None, tasks: Tasks, name: str
) -> Server:
    """Accept connections to an application in tasks of this name. The caller closes the server."""
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    assert runner.server is not None  # noqa: S101 - after its setup
    limit = min(MAX_CONNECTIONS, raise_descriptor_limit() // DESCRIPTORS_PER_CONNECTION)
    gate = Gate(runner.server, limit, lambda: None if certificates is None else certificates.context())
    accepting = [tasks.start(name, functools.partial(gate.accept, listener)) for listener in sockets]
    return Server(runner, sockets, accepting)


async def open_sockets(setting: str, listen: str | None) -> list[socket.socket]:
    """Listen on an address that `setting` names; None is the default one.

    Where the default port is in use, listen on the next free one, and log it. Raises `Misconfigured`.
    """
    host, _, text = (listen or DEFAULT_LISTEN).rpartition(":")
    first = int(text)
    error = OSError()
    for port in range(first, first + (1 if listen else 1 + NEXT_PORTS)):
        try:
            sockets = await listeners(host.strip("[]"), port)
        except OSError as e:
            error = e
            if e.errno != errno.EADDRINUSE:
                break
        else:
            if port != first:
                remedy = f"listening on port {port} instead; --listen or daemon.listen chooses one"
                log.warning("listen", error=f"port {first} is in use", remedy=remedy)
            return sockets
    remedy = "Use another port, or 0 for a free one"
    raise Misconfigured(
        f"{setting}: cannot listen on {listen or DEFAULT_LISTEN}: {error.strerror}. {remedy}"
    ) from error
