"""Tick -> the page at ``/``: plots and reasons, for one workload or many. Assets are in the package."""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from aiohttp import web

from policies.model import Tick, WorkloadName

KEPT: Final = 1000
"""Turns shown per workload: four hours at 15 s."""


class Dashboard:
    """Keeps the recent ticks and serves them."""

    def __init__(self) -> None:
        self._ticks: dict[WorkloadName, deque[Tick]] = {}

    def observe(self, tick: Tick) -> None:
        self._ticks.setdefault(tick.workload, deque(maxlen=KEPT)).append(tick)

    def forget(self, workload: WorkloadName) -> None:
        self._ticks.pop(workload, None)

    def mount(self, app: web.Application) -> None:
        app.router.add_get("/api/workloads", self._list)

    async def _list(self, _: web.Request) -> web.Response:
        listed: list[dict[str, Any]] = [{"workload": name, "at": ticks[-1].at} for name, ticks in self._ticks.items()]
        return web.json_response({"workloads": listed})
