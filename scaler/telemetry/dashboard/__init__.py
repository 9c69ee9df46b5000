"""Stores recent ticks and serves them to the page at ``/``.

``GET /api/workloads?since=REVISION`` returns the workloads with a tick since that revision of the list, and
``GET /api/workloads/NAME?since=TIME`` the ticks of one after that time on the daemon's clock. A response with another
``generation`` than the previous one does not continue it: the client must repeat the request without ``since``.
``GET /api/fleet`` returns the limits of the fleet and the pools of all workloads, and ``GET /api/shards`` the holder of
each shard. With peers, all but the last also return the workloads of the other daemons.
"""

from __future__ import annotations

import asyncio
import json
import math
import secrets
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from policies.model import Tick, WorkloadName
from scaler.clock import lease_clock_s
from scaler.ports import PortError
from scaler.shadow.runner import Shadow
from scaler.telemetry.dashboard import assets
from scaler.telemetry.dashboard.all_daemons import (
    NO_SHARDS,
    OWN,
    fleet_of_all,
    list_of_all,
    shard_table,
    split_revision,
)
from scaler.telemetry.dashboard.columns import number
from scaler.telemetry.dashboard.decisions import MAX_RUNS, decision_text
from scaler.telemetry.dashboard.fleet_view import fleet_line, fleet_sums, quota_view
from scaler.telemetry.dashboard.pool_rows import pools
from scaler.telemetry.dashboard.route_rows import routes
from scaler.telemetry.dashboard.shadow_view import shadow_rows
from scaler.telemetry.dashboard.status import signals, summary
from scaler.telemetry.dashboard.stored_ticks import StoredTicks
from scaler.telemetry.dashboard.workload_facts import Facts, WorkloadInfo
from scaler.telemetry.http.peers import Peers, is_of_peer

MAX_ROWS: Final = 1000
"""Maximum number of ticks stored per workload: four hours at 15 s."""
MIN_ROWS: Final = 240
"""Minimum number of ticks stored per workload with many workloads: an hour at 15 s."""
MAX_TOTAL_ROWS: Final = 500_000
"""Number of ticks of all workloads that reduces the ticks per workload: about 30 MB."""
MIN_RUNS: Final = 8
MAX_TOTAL_RUNS: Final = 16_000
"""Number of decisions of all workloads that reduces the decisions per workload: about 60 MB."""
SPARK_TICKS: Final = 30
"""Ticks in a sparkline of the list; four times as many in a short list."""
SHORT_LIST: Final = 12
BATCH: Final = 25
"""Lines of the list that are built before other tasks run: a few milliseconds."""
COMPRESS_FROM_BYTES: Final = 4096
"""Minimum size of a compressed response; a smaller one fits into a few packets."""


class Dashboard:
    """Store of a bounded number of recent ticks, served read-only.

    It also serves the `shadows` of the workloads. The daemon's clock runs `clock_speed` times as fast as real time.
    """

    def __init__(self, version: str, info: WorkloadInfo, clock_speed: float = 1.0) -> None:
        self._version = version
        self._clock_speed = clock_speed
        self._info = info
        self.shadows: Mapping[WorkloadName, Shadow] = {}
        self.peers: Peers | None = None
        self._stored: dict[WorkloadName, StoredTicks] = {}
        self._revision = 0
        self._forgotten = 0
        self._instance = secrets.token_hex(4)  # lets the page detect a restart

    def observe(self, tick: Tick) -> None:
        """Store a tick. Every tick calls this, so that it does nothing else.

        Example: with 1000 workloads, each stores max(240, min(1000, 500,000 / 1000)) = 500 ticks.
        """
        self._revision += 1
        stored = self._stored.get(tick.workload)
        if stored is None:
            stored = self._stored[tick.workload] = StoredTicks(self._revision)
        stored.revision = self._revision
        workloads = len(self._stored)
        stored.add(
            tick,
            max(MIN_ROWS, min(MAX_ROWS, MAX_TOTAL_ROWS // workloads)),
            max(MIN_RUNS, min(MAX_RUNS, MAX_TOTAL_RUNS // workloads)),
        )

    def forget(self, workload: WorkloadName) -> None:
        if self._stored.pop(workload, None) is not None:
            self._forgotten += 1

    def mount(self, app: web.Application) -> None:
        assets.mount(app)
        app.router.add_get("/api/workloads", self._list)
        app.router.add_get("/api/workloads/{name}", self._show)
        app.router.add_get("/api/fleet", self._fleet)
        app.router.add_get("/api/shards", self._shards)

    async def _list(self, request: web.Request) -> web.Response:
        if self.peers is None or is_of_peer(request):
            return _reply(await asyncio.to_thread(_to_json, await self._own_list(_since(request))))
        revisions = split_revision(request.query.get("since"))
        own = await self._own_list(_number(revisions.get(OWN)))
        return _reply(await asyncio.to_thread(_to_json, await list_of_all(own, revisions, self.peers)))

    async def _own_list(self, since: float | None) -> dict[str, Any]:
        """Return the list of this daemon's workloads."""
        revision = self._revision
        changed = [(n, t) for n, t in self._stored.items() if since is None or t.revision > since]
        lines = []
        for i, (name, stored) in enumerate(changed):
            lines.append(self._line(name, stored))
            if i % BATCH == 0:
                await asyncio.sleep(0)  # let ticks run first
        return {
            **self._common(f"{self._instance}.{self._forgotten}"),
            "revision": revision,
            "starting": [n for n in self._info.names() if n not in self._stored],
            "stalled": dict(self._info.stalled()),
            "workloads": lines,
        }

    async def _shards(self, _: web.Request) -> web.Response:
        return _reply(_to_json(shard_table(self.peers, lease_clock_s()) if self.peers else NO_SHARDS))

    async def _from_peer(self, request: web.Request, name: WorkloadName) -> web.Response | None:
        """Return the response of the daemon that runs a workload; None where that is no other one."""
        peer = "" if self.peers is None or is_of_peer(request) else self.peers.holder(name)
        if self.peers is None or not peer:
            return None
        try:
            return _reply(_to_json(await self.peers.get(peer, request.path_qs)))
        except PortError as e:
            return _reply(_to_json({"error": f"{name} runs in another daemon that does not answer: {e}"}), 502)

    async def _show(self, request: web.Request) -> web.Response:
        since = _since(request)
        name = WorkloadName(request.match_info["name"])
        stored = self._stored.get(name)
        if name not in self._info.names() and (answer := await self._from_peer(request, name)) is not None:
            return answer
        if stored is None and name not in self._info.names():
            return _reply(_to_json({"error": f"no workload is named {name}"}), 404)
        shown = stored or StoredTicks(0)
        facts = self._info.facts(name, lead_times=True)
        body = {
            **self._common(f"{self._instance}.{shown.serial}.{shown.columns.shifts}"),
            "workload": name,
            "stalled": self._info.stalled().get(name),
            "facts": facts.as_dict(),
            "shadow": None if (shadow := self.shadows.get(name)) is None else shadow_rows(shadow),
            "now": _now(shown, facts),
            "interruptions_since": shown.interruptions.since,
            "columns": shown.columns.read(since),
            "decisions": shown.decisions.read(since),
        }
        return _reply(_to_json(body))

    async def _fleet(self, request: web.Request) -> web.Response:
        body = await self._own_fleet()
        if self.peers is not None and not is_of_peer(request):
            body = await fleet_of_all(body, self.peers)
        return _reply(await asyncio.to_thread(_to_json, body))

    async def _own_fleet(self) -> dict[str, Any]:
        """Return the fleet of this daemon's workloads."""
        lines = []
        for i, (name, stored) in enumerate(list(self._stored.items())):
            if (line := fleet_line(stored, self._info.facts(name, lead_times=False))) is not None:
                lines.append(line)
            if i % BATCH == 0:
                await asyncio.sleep(0)  # let ticks run first
        return {
            **self._common(self._instance),
            "starting": [n for n in self._info.names() if n not in self._stored],
            "interruptions_since": min((s.interruptions.since or 0.0 for s in self._stored.values()), default=None),
            **quota_view(self._info.ledger),
            **await asyncio.to_thread(fleet_sums, lines),
            "workloads": lines,
        }

    def _common(self, generation: str) -> dict[str, Any]:
        newest = max((t.last.at for t in self._stored.values() if t.last), default=None)
        count = len({*self._info.names(), *self._stored})
        return {
            "version": self._version,
            "generation": generation,
            "at": newest,
            "clock_speed": self._clock_speed,
            "count": count,
        }

    def _line(self, name: WorkloadName, stored: StoredTicks) -> dict[str, Any]:
        assert stored.last is not None, f"{name} is stored without a tick"  # noqa: S101 - an invariant
        return {
            "workload": name,
            **summary(stored.last, stored, self._info.facts(name, lead_times=False)),
            "spark": stored.columns.sparks(SPARK_TICKS * (4 if len(self._stored) <= SHORT_LIST else 1)),
        }


def _now(stored: StoredTicks, facts: Facts) -> dict[str, Any] | None:
    """Return the whole last tick; None before the first one."""
    tick = stored.last
    if tick is None:
        return None
    return {
        **summary(tick, stored, facts),
        **decision_text(tick),
        "signals": signals(tick),
        "pools": pools(tick, facts.spec, stored.interruptions),
        "routes": routes(tick),
        "errors": dict(tick.observation.source_errors),
        "took_s": number(tick.took_s),
        "late_s": number(tick.lateness_s),
        "spec": tick.spec,
    }


def _since(request: web.Request) -> float | None:
    """Return the query's ``since``, as `_number`."""
    return _number(request.query.get("since"))


def _number(text: str | None) -> float | None:
    """Return a revision or time. Raises `HTTPBadRequest` where it is not a number."""
    if text is None:
        return None
    try:
        since = float(text)
    except ValueError:
        since = math.nan
    if not math.isfinite(since):
        raise web.HTTPBadRequest(text="since must be a number\n", headers=assets.SECURITY)
    return since


def _to_json(body: dict[str, Any]) -> bytes:
    """Return strict JSON. Raises `ValueError` on a value that is not finite."""
    return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()


def _reply(data: bytes, status: int = 200) -> web.Response:
    response = web.Response(
        body=data,
        status=status,
        content_type="application/json",
        headers={**assets.SECURITY, "Cache-Control": "no-store"},
        zlib_executor_size=8 * COMPRESS_FROM_BYTES,
    )
    if len(data) >= COMPRESS_FROM_BYTES:
        response.enable_compression()
    return response
