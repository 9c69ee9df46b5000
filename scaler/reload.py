"""Applies changed files and changed objects of the cluster while the daemon runs.

It also reports when they differ from the running configuration.
"""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Final

from scaler.app import App
from scaler.config.load import Config, load
from scaler.config.problems import ConfigError
from scaler.config.watch import FileSnapshot, Watcher
from scaler.kubernetes_workloads import ClusterWorkloads
from scaler.ports import PortError
from scaler.telemetry.log import log

TASK: Final = "configuration"
"""Name of the task, and of its entry in ``/healthz``."""
CLUSTER_PART: Final = "workloads in the cluster"
"""Name of the entry in ``/healthz`` for objects that define workloads."""
KEPT: Final = "the previous configuration stays in use until the files are fixed"


class Reloader:
    """Reloads the files and the cluster's objects of an app when they change.

    `running` is the files' snapshot when the configuration was read.
    """

    def __init__(
        self, app: App, watcher: Watcher, running: FileSnapshot, cluster: ClusterWorkloads | None = None
    ) -> None:
        self._app = app
        self._files = app.config
        self._cluster = cluster
        self._watcher = watcher
        self._running = running
        self._refused: FileSnapshot | None = None
        self._removing_for: FileSnapshot | None = None
        self._pending = ""
        app.metrics.config_valid.set(1)

    async def follow(self) -> None:
        """Compare the files at each interval until cancelled.

        The method may be called again after an exception.
        """
        while True:
            if await self._watcher.wait():
                self._refused = None
                log.info("reload", requested_by="SIGHUP")
            await self.compare()

    async def compare(self) -> None:
        """Compare the files with the running configuration, and apply a settled change.

        A change is settled when two reads agree on it.
        """
        snapshot = await self._watcher.snapshot()
        if snapshot == self._running:
            self._refused = self._removing_for = None
            self._report(self._pending)
        elif snapshot != self._refused:
            self._report("the files differ from the configuration in use and are being read")
            if await self._watcher.settled() == snapshot:
                await self._apply(snapshot)
        if self._cluster is not None:
            await self.apply_cluster(self._cluster)
        await self._app.shadows.reload(self._app.controllers)

    async def apply_cluster(self, cluster: ClusterWorkloads) -> None:
        """Apply the cluster's changed objects, each by itself if they cannot be applied together."""
        cluster.read()
        config = cluster.combined(self._files)
        if config.workloads != self._app.config.workloads:
            try:
                await self._app.reload(config)
            except PortError:
                await self._apply_each(cluster)
        cluster.started(self._app.config)
        self._app.health.report(CLUSTER_PART, cluster.problem())

    async def _apply_each(self, cluster: ClusterWorkloads) -> None:
        """Apply one change after the other, so that only those that fail are refused."""
        changes, config = cluster.changes(), cluster.combined(self._files, only_running=True)
        await self._app.reload(config)
        for entry in changes:
            assert entry.valid is not None  # noqa: S101 - a change has a valid version
            try:
                await self._app.reload(
                    dataclasses.replace(config, workloads={**self._app.config.workloads, entry.valid.name: entry.valid})
                )
            except PortError as e:
                cluster.refuse_opening(entry, e)
        cluster.combined(self._files)

    async def _apply(self, snapshot: FileSnapshot) -> None:
        """Apply the files, unless they are invalid or lack a workload for the first time."""
        if snapshot.problem:
            self._refuse(snapshot, snapshot.problem)
            return
        try:
            config = await asyncio.to_thread(load, self._watcher.paths)
            if self._is_first_without(snapshot, config):
                return
            running = config if self._cluster is None else self._cluster.combined(config, only_running=True)
            pending = await self._app.reload(running)
        except (ConfigError, PortError) as e:
            self._refuse(snapshot, str(e))
            return
        self._files = config
        self._running, self._refused, self._removing_for, self._pending = snapshot, None, None, pending
        self._app.metrics.reloads.labels("applied").inc()
        self._report(pending)

    def _is_first_without(self, snapshot: FileSnapshot, config: Config) -> bool:
        """Return whether workloads are missing for the first time.

        The previous comparison did not see the same files.

        A file that is truncated or absent for a moment, as while it is replaced, must not remove its workload.
        """
        missing = sorted(self._files.workloads.keys() - config.workloads.keys())
        if not missing or self._removing_for == snapshot:
            return False
        self._removing_for = snapshot
        log.warning(
            "reload", missing=missing, remedy="these workloads are removed if the next poll finds the same files"
        )
        return True

    def _refuse(self, snapshot: FileSnapshot, error: str) -> None:
        self._refused = snapshot
        self._app.metrics.reloads.labels("refused").inc()
        self._report("the changed files are rejected and the previous configuration stays in use: see the log")
        log.error("reload", error=error, remedy=KEPT)

    def _report(self, problem: str) -> None:
        """Set metrics and health by whether the files on disk are the configuration that runs."""
        self._app.metrics.config_valid.set(0 if problem else 1)
        self._app.health.report(TASK, problem)
