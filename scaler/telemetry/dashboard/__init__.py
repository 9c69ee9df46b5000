"""Tick -> the page at ``/``: plots and reasons, for one workload or many. Assets are in the package.

``GET /api/workloads?since=REVISION`` gives the workloads that had a turn since that revision of the list, and
``GET /api/workloads/NAME?since=TIME`` the turns of one after that time on the daemon's clock. A reply whose
``generation`` differs from the one before does not continue it: ask again without ``since``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
import secrets
from collections.abc import Mapping
from typing import Any, Final

from aiohttp import web

from policies.model import Tick, WorkloadName
from scaler.shadow.runner import Shadow
from scaler.telemetry.dashboard import assets
from scaler.telemetry.dashboard.columns import Columns
from scaler.telemetry.dashboard.decisions import MAX_RUNS, Decisions, decision_text
from scaler.telemetry.dashboard.shadow_view import shadow_rows
from scaler.telemetry.dashboard.status import number, pools, signals, summary
from scaler.telemetry.dashboard.workload_facts import About, Facts

MAX_ROWS: Final = 1000
"""Turns kept per workload: four hours at 15 s."""
LEAST_ROWS: Final = 240
"""Turns kept however many workloads there are: an hour at 15 s."""
ALL_ROWS: Final = 500_000
"""Turns kept of all workloads together: some 30 MB."""
LEAST_RUNS: Final = 8
ALL_RUNS: Final = 16_000
"""Decisions kept in full of all workloads together: some 60 MB."""
SPARK_TURNS: Final = 30
"""Turns drawn in a list's line; four times as many where the list is short."""
SHORT_LIST: Final = 12
BATCH: Final = 25
"""Lines of a list written without a break: some milliseconds."""
COMPRESS_FROM: Final = 4096
"""Smaller replies fit a few packets as they are. Bytes."""


class Track:
    """What is kept of one workload."""

    __slots__ = ("columns", "decisions", "revision", "serial")

    def __init__(self, serial: int) -> None:
        self.columns = Columns()
        self.decisions = Decisions()
        self.revision = self.serial = serial


class Dashboard:
    """Keeps the recent turns, bounded, and serves them. Reads only. `shadows` are those that run beside them."""

    def __init__(self, version: str, about: About) -> None:
        self._version = version
        self._about = about
        self.shadows: Mapping[WorkloadName, Shadow] = {}
        self._tracks: dict[WorkloadName, Track] = {}
        self._revision = 0
        self._forgotten = 0
        self._instance = secrets.token_hex(4)  # so that a page notices a restart

    def observe(self, tick: Tick) -> None:
        """Take a turn: called on every tick, so it only stores."""
        self._revision += 1
        track = self._tracks.get(tick.workload)
        if track is None:
            track = self._tracks[tick.workload] = Track(self._revision)
        track.revision = self._revision
        among = len(self._tracks)
        track.columns.append(tick, max(LEAST_ROWS, min(MAX_ROWS, ALL_ROWS // among)))
        track.decisions.add(tick, max(LEAST_RUNS, min(MAX_RUNS, ALL_RUNS // among)))

    def forget(self, workload: WorkloadName) -> None:
        if self._tracks.pop(workload, None) is not None:
            self._forgotten += 1

    def mount(self, app: web.Application) -> None:
        assets.mount(app)
        app.router.add_get("/api/workloads", self._list)
        app.router.add_get("/api/workloads/{name}", self._show)

    async def _list(self, request: web.Request) -> web.Response:
        since, revision = _since(request), self._revision
        changed = [(n, t) for n, t in self._tracks.items() if since is None or t.revision > since]
        lines = []
        for i, (name, track) in enumerate(changed):
            lines.append(self._line(name, track))
            if i % BATCH == 0:
                await asyncio.sleep(0)  # turns go first
        body = {
            **self._common(f"{self._instance}.{self._forgotten}"),
            "revision": revision,
            "starting": [n for n in self._about.names() if n not in self._tracks],
            "stalled": dict(self._about.stalled()),
            "workloads": lines,
        }
        return _reply(await asyncio.to_thread(_dumped, body))

    async def _show(self, request: web.Request) -> web.Response:
        since = _since(request)
        name = WorkloadName(request.match_info["name"])
        track = self._tracks.get(name)
        if track is None and name not in self._about.names():
            return _reply(_dumped({"error": f"no workload is called {name}"}), 404)
        shown = track or Track(0)
        facts = self._about.facts(name, lead_times=True)
        body = {
            **self._common(f"{self._instance}.{shown.serial}.{shown.columns.shifts}"),
            "workload": name,
            "stalled": self._about.stalled().get(name),
            "facts": _facts(facts),
            "shadow": None if (shadow := self.shadows.get(name)) is None else shadow_rows(shadow),
            "now": _now(shown.decisions.last, facts),
            "columns": shown.columns.read(since),
            "decisions": shown.decisions.read(since),
        }
        return _reply(_dumped(body))

    def _common(self, generation: str) -> dict[str, Any]:
        newest = max((t.decisions.last.at for t in self._tracks.values() if t.decisions.last), default=None)
        count = len({*self._about.names(), *self._tracks})
        return {"version": self._version, "generation": generation, "at": newest, "count": count}

    def _line(self, name: WorkloadName, track: Track) -> dict[str, Any]:
        assert track.decisions.last is not None, f"{name} is kept without a turn"  # noqa: S101 - an invariant
        return {
            "workload": name,
            **summary(track.decisions.last, self._about.facts(name, lead_times=False)),
            "spark": track.columns.sparks(SPARK_TURNS * (4 if len(self._tracks) <= SHORT_LIST else 1)),
        }


def _now(tick: Tick | None, facts: Facts) -> dict[str, Any] | None:
    """Return all of the very last turn."""
    if tick is None:
        return None
    return {
        **summary(tick, facts),
        **decision_text(tick),
        "signals": signals(tick),
        "pools": pools(tick),
        "errors": dict(tick.observation.source_errors),
        "took_s": number(tick.took_s),
        "late_s": number(tick.lateness_s),
        "spec": tick.spec,
    }


def _facts(facts: Facts) -> dict[str, Any]:
    return {k: number(v, 1) if isinstance(v, float) else v for k, v in dataclasses.asdict(facts).items()}


def _since(request: web.Request) -> float | None:
    """Return the query's ``since``. Answers 400 where it is no number."""
    text = request.query.get("since")
    if text is None:
        return None
    try:
        since = float(text)
    except ValueError:
        since = math.nan
    if not math.isfinite(since):
        raise web.HTTPBadRequest(text="since must be a number\n", headers=assets.SECURITY)
    return since


def _dumped(body: dict[str, Any]) -> bytes:
    """Strict JSON: a value that is not finite is a fault here, and never sent."""
    return json.dumps(body, allow_nan=False, separators=(",", ":")).encode()


def _reply(data: bytes, status: int = 200) -> web.Response:
    response = web.Response(
        body=data,
        status=status,
        content_type="application/json",
        headers={**assets.SECURITY, "Cache-Control": "no-store"},
        zlib_executor_size=8 * COMPRESS_FROM,
    )
    if len(data) >= COMPRESS_FROM:
        response.enable_compression()
    return response
