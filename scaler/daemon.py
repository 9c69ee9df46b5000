"""Runs the daemon: the app, its HTTP server, the configuration watch and the signals.

These run until the daemon stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc

from scaler.adapters import name_in_errors
from scaler.app import App, RunOptions, prepared
from scaler.clouds.rest import session
from scaler.config.load import load
from scaler.config.watch import Watcher, snapshot
from scaler.kubernetes_events import KubernetesEvents
from scaler.kubernetes_workloads import ClusterWorkloads, open_workloads
from scaler.partners.serving import partners
from scaler.reload import TASK as RELOAD_TASK
from scaler.reload import Reloader
from scaler.signal_handlers import loop_signals
from scaler.telemetry.http.access import AccessControl
from scaler.telemetry.http.peers import Peers, own_url
from scaler.telemetry.http.server import application, serve
from scaler.weekly_plans import weekly_plans


async def run(options: RunOptions) -> None:
    """Run until a signal, or for `options.for_s`.

    Raises `ConfigError` and `Misconfigured` before the first tick.
    """
    running = snapshot(options.paths)  # before `load`: the first comparison then detects a change during the load
    config = load(options.paths)
    gc.collect()  # the next full collection is due once a quarter more objects exist than at the last one
    options.on_load(config.daemon)
    async with prepared(config, options) as app:
        watcher = Watcher(options.paths, config.daemon.config_poll_s)
        cluster = await _cluster(app, watcher, dry_run=options.dry_run)
        reloader = Reloader(app, watcher, running, cluster)
        if options.once:
            if cluster is not None:
                await cluster.listed()
                await reloader.apply_cluster(cluster)
            await asyncio.gather(*(c.tick(app.clock.now()) for c in app.controllers.values()))
            return
        access = AccessControl(config.daemon.server, options.listen or config.daemon.listen)
        http_app = application(app.metrics, app.health, app.dashboard, access)
        await _join_peers(app, access)
        server, address = await serve(http_app, config.daemon, app.health, app.tasks, options.listen)
        try:
            async with partners(config.daemon.partners, app.publications, app.health, app.context()):
                with loop_signals(app.stopping.set, watcher.request), options.running(app, address):
                    await _run(app, reloader, options.for_s)
        finally:
            await server.close()


async def _join_peers(app: App, access: AccessControl) -> None:
    """Publish the URL of this daemon, and show the workloads of the others.

    Raises `Misconfigured`.
    """
    spec = app.config.daemon
    if app.coordinator is None or spec.ha is None or spec.ha.peer_url is None:
        return
    leases = app.coordinator.leases
    leases.url = own_url(spec.ha.peer_url)
    access.join(leases.identity, leases.url)
    app.dashboard.peers = Peers(leases, spec.server.token, await session(app.context()))


async def _cluster(app: App, watcher: Watcher, *, dry_run: bool) -> ClusterWorkloads | None:
    """Follow the workloads of the configured cluster, and write events about resizes.

    A dry run writes nothing. Raises `Misconfigured`.
    """
    daemon = app.config.daemon
    if daemon.kubernetes_events and not dry_run:
        app.observers.append(KubernetesEvents(app.context()).observe)
    if daemon.kubernetes_workloads is None:
        return None
    with name_in_errors("daemon.kubernetes_workloads"):
        cluster = await open_workloads(
            daemon.kubernetes_workloads, app.context(), watcher.wake, write_status=not dry_run
        )
    app.observers.append(cluster.observe)
    return cluster


async def _run(app: App, reloader: Reloader, for_s: float | None) -> None:
    """Run every workload's loop and reload changed files.

    It runs until the app stops or `for_s` has passed.
    """
    app.start_sending()
    for controller in app.controllers.values():
        app.start(controller)
    if app.coordinator is not None:
        app.coordinator.start(app.tasks)
    following = [app.tasks.start(RELOAD_TASK, reloader.follow)]
    if (plans := weekly_plans(app.config.daemon, app.clock)) is not None:
        following.append(plans.start(app.tasks))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(for_s):
            await app.stopping.wait()
    for task in following:
        task.cancel()
    await asyncio.gather(*following, return_exceptions=True)
    if app.coordinator is not None:
        await app.coordinator.close()  # before the HTTP server ends, which waits for its responses
