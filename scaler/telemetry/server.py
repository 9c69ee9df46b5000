"""The daemon's HTTP server: dashboard, metrics, health. Read-only."""

from __future__ import annotations

from aiohttp import web

from scaler.ports import Misconfigured
from scaler.telemetry.dashboard import Dashboard
from scaler.telemetry.health import Health
from scaler.telemetry.metrics import Metrics


def application(metrics: Metrics, health: Health, dashboard: Dashboard) -> web.Application:
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
    app.router.add_get("/metrics", show_metrics)
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    dashboard.mount(app)
    return app


async def serve(app: web.Application, listen: str) -> tuple[web.AppRunner, str]:
    """Listen on HOST:PORT. Gives the runner, to be cleaned up, and the address. Raises `Misconfigured`."""
    host, _, port = listen.rpartition(":")
    runner = web.AppRunner(app, access_log=None, handle_signals=False)
    await runner.setup()
    try:
        await web.TCPSite(runner, host.strip("[]"), int(port)).start()
    except OSError as e:
        await runner.cleanup()
        raise Misconfigured(f"daemon.listen: cannot listen on {listen}: {e.strerror} (name another port, or 0)") from e
    address = runner.addresses[0]
    shown = "127.0.0.1" if address[0] in {"0.0.0.0", "::"} else address[0]  # noqa: S104 - compared, not bound
    return runner, f"http://{f'[{shown}]' if ':' in shown else shown}:{address[1]}/"
