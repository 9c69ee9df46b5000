"""Takes changed configuration files while the daemon runs, and says whenever they are not what runs."""

from __future__ import annotations

import asyncio
from typing import Final

from scaler.app import App
from scaler.config.load import Config, load
from scaler.config.problems import ConfigError
from scaler.config.watch import Look, Watcher
from scaler.ports import PortError
from scaler.telemetry.log import log

TASK: Final = "configuration"
"""Name of the task, and of its entry in ``/healthz``."""
STAYS: Final = "the configuration in use stays until this is mended"


class Reloader:
    """Follows the files of an app. `running` is how they were when its configuration was read."""

    def __init__(self, app: App, watcher: Watcher, running: Look) -> None:
        self._app = app
        self._watcher = watcher
        self._running = running
        self._refused: Look | None = None
        self._leaving: Look | None = None
        self._pending = ""
        app.metrics.config_valid.set(1)

    async def follow(self) -> None:
        """Look for changes until cancelled. After an exception it may be called again: the state is kept."""
        while True:
            if await self._watcher.wait():
                self._refused = None
                log.info("reload", asked="SIGHUP")
            await self.look()

    async def look(self) -> None:
        """Compare the files with what runs, and take a change that two reads agree on."""
        found = await self._watcher.look()
        if found == self._running:
            self._refused = self._leaving = None
            self._report(self._pending)
        elif found != self._refused:
            self._report("the files differ from the configuration in use: they are being read")
            if await self._watcher.settled() == found:
                await self._use(found)
        await self._app.shadows.reload(self._app.controllers)

    async def _use(self, found: Look) -> None:
        """Take the files, unless they are wrong or lack a workload for the first time."""
        if found.problem:
            self._refuse(found, found.problem)
            return
        try:
            config = await asyncio.to_thread(load, self._watcher.paths)
            if self._is_first_without(found, config):
                return
            pending = await self._app.reload(config)
        except (ConfigError, PortError) as e:
            self._refuse(found, str(e))
            return
        self._running, self._refused, self._leaving, self._pending = found, None, None, pending
        self._app.metrics.reloads.labels("taken").inc()
        self._report(pending)

    def _is_first_without(self, found: Look, config: Config) -> bool:
        """Return whether workloads are missing that were not missing from the same files one look ago.

        A file that is truncated or gone for a moment, as while it is being replaced, must not remove its workload.
        """
        missing = sorted(self._app.controllers.keys() - config.workloads.keys())
        if not missing or self._leaving == found:
            return False
        self._leaving = found
        log.warning("reload", missing=missing, remedy="they are removed if the next look finds the same files")
        return True

    def _refuse(self, found: Look, error: str) -> None:
        self._refused = found
        self._app.metrics.reloads.labels("refused").inc()
        self._report("the files on disk are refused, and the configuration before them runs: the log says why")
        log.error("reload", error=error, remedy=STAYS)

    def _report(self, problem: str) -> None:
        """Show in metrics and health whether the files on disk are what runs."""
        self._app.metrics.config_valid.set(0 if problem else 1)
        self._app.health.report(TASK, problem)
