"""The daemon's life: an app behind its server, followed files and signals, until it is asked to stop."""

from __future__ import annotations

import asyncio
import contextlib

from scaler.app import App, RunOptions, prepared
from scaler.config.load import load
from scaler.config.watch import Watcher, look
from scaler.reload import TASK as RELOADING
from scaler.reload import Reloader
from scaler.signal_handlers import handled
from scaler.telemetry.http.access import AccessControl
from scaler.telemetry.http.server import application, serve


async def run(options: RunOptions) -> None:
    """Run until a signal, or for `options.for_s`. Raises `ConfigError` and `Misconfigured` before the first turn."""
    running = look(options.paths)  # before they are read: a change meanwhile is found by the first look
    config = load(options.paths)
    async with prepared(config, options) as app:
        if options.once:
            await asyncio.gather(*(c.tick(app.clock.now()) for c in app.controllers.values()))
            return
        watcher = Watcher(options.paths, config.daemon.config_poll_s)
        reloader = Reloader(app, watcher, running)
        access = AccessControl(config.daemon.server, config.daemon.listen)
        served = application(app.metrics, app.health, app.dashboard, access)
        server, address = await serve(served, config.daemon, app.health, app.tasks)
        try:
            with handled(app.stopping.set, watcher.ring):
                options.on_start(address)
                await _run(app, reloader, options.for_s)
        finally:
            await server.close()


async def _run(app: App, reloader: Reloader, for_s: float | None) -> None:
    """Run every workload's loop and follow the files until the app is asked to stop, or for this time."""
    for controller in app.controllers.values():
        app.start(controller)
    following = app.tasks.start(RELOADING, reloader.follow)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(for_s):
            await app.stopping.wait()
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
