"""The daemon's HTTP server: dashboard, metrics, health. Read-only."""

from __future__ import annotations

import asyncio
import functools
import socket
from typing import Final

from aiohttp import web

from scaler.config.daemon import DaemonSpec
from scaler.ports import Misconfigured
from scaler.supervised_tasks import Tasks
from scaler.telemetry.dashboard import Dashboard
from scaler.telemetry.health import Health
from scaler.telemetry.http.access import AccessControl
from scaler.telemetry.http.certificates import Certificates
from scaler.telemetry.http.connections import MAX_CONNECTIONS, SHARE, Gate, listeners, raise_descriptor_limit
from scaler.telemetry.metrics import Metrics

SHUTDOWN_S: Final = 5.0
"""How long answers under way may take when the daemon ends."""


def application(
    metrics: Metrics, health: Health, dashboard: Dashboard, access: AccessControl | None = None
) -> web.Application:
    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(body=metrics.exposition(), headers={"Content-Type": "text/plain; version=0.0.4"})

    async def healthz(_: web.Request) -> web.Response:
        stalled, problems = health.stalled(), health.problems()
        status = "stalled" if stalled else "degraded" if problems else "ok"
        body = {"status": status, "stalled": stalled, "problems": problems}
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
    """The daemon's HTTP server, listening."""

    def __init__(self, runner: web.AppRunner, bound: list[socket.socket], accepting: list[asyncio.Task[None]]) -> None:
        self._runner = runner
        self._bound = bound
        self._accepting = accepting

    def address(self, scheme: str) -> str:
        """Return the first address listened on, as a browser on this machine calls it."""
        host, port = self._bound[0].getsockname()[:2]
        shown = "127.0.0.1" if host in {"0.0.0.0", "::"} else host  # noqa: S104 - compared, not bound
        return f"{scheme}://{f'[{shown}]' if ':' in shown else shown}:{port}/"

    async def close(self) -> None:
        """Accept nothing more, and end what is open."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for one in self._bound:
            one.close()
        await self._runner.cleanup()


async def serve(app: web.Application, spec: DaemonSpec, health: Health, tasks: Tasks) -> tuple[Server, str]:
    """Listen on `spec.listen`. Gives the server, to be closed, and its address. Raises `Misconfigured`."""
    certificates = None if spec.server.tls is None else Certificates(spec.server.tls, health)
    if spec.server.token is not None:
        spec.server.token.read()
    host, _, port = spec.listen.rpartition(":")
    try:
        bound = await listeners(host.strip("[]"), int(port))
    except OSError as e:
        raise Misconfigured(
            f"daemon.listen: cannot listen on {spec.listen}: {e.strerror} (name another port, or 0)"
        ) from e
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=SHUTDOWN_S)
    await runner.setup()
    assert runner.server is not None  # noqa: S101 - after its setup
    limit = min(MAX_CONNECTIONS, raise_descriptor_limit() // SHARE)
    gate = Gate(runner.server, limit, lambda: None if certificates is None else certificates.context())
    accepting = [tasks.start("http server", functools.partial(gate.accept, one)) for one in bound]
    server = Server(runner, bound, accepting)
    return server, server.address("http" if certificates is None else "https")
