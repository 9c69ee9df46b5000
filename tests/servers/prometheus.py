"""A real Prometheus on a free port, scraping every second. Debian's `prometheus` package has the binary."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from tests.patience import PATIENCE_S
from tests.servers.tcp_fault import free_port

BINARY = shutil.which("prometheus")
needs_prometheus = pytest.mark.skipif(BINARY is None, reason="no prometheus on PATH (Debian: apt install prometheus)")


@dataclass(frozen=True)
class Target:
    """A page to scrape, and labels for its series."""

    address: str
    path: str
    labels: Mapping[str, str]


class PrometheusServer:
    def __init__(self, directory: Path, port: int, rules: Sequence[Path] = ()) -> None:
        self.port = port
        self._config = directory / "prometheus.json"
        self._rules = [str(path) for path in rules]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def configure(self, targets: Sequence[Target]) -> None:
        jobs = [
            {
                "job_name": f"job{i}",
                "metrics_path": target.path,
                "static_configs": [{"targets": [target.address], "labels": dict(target.labels)}],
            }
            for i, target in enumerate(targets)
        ]
        every = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        document = {"global": every, "scrape_configs": jobs, "rule_files": self._rules}
        self._config.write_text(json.dumps(document), encoding="utf-8")

    async def reload(self, targets: Sequence[Target]) -> None:
        """Scrape these targets from now on."""
        self.configure(targets)
        async with aiohttp.ClientSession() as session, session.post(f"{self.url}/-/reload") as response:
            response.raise_for_status()

    async def query(self, promql: str) -> list[Any]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{self.url}/api/v1/query", data={"query": promql}) as response,
        ):
            return list((await response.json())["data"]["result"])

    async def until(self, promql: str, holds: Callable[[list[float]], bool]) -> None:
        """Return when the query's values are as expected."""
        values: list[float] = []
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                while True:
                    values = [float(series["value"][1]) for series in await self.query(promql)]
                    if holds(values):
                        return
                    await asyncio.sleep(0.1)
        raise AssertionError(f"{promql} is still {values}")


@asynccontextmanager
async def prometheus(
    targets: Sequence[Target], rules: Sequence[Path] = (), past: str = ""
) -> AsyncIterator[PrometheusServer]:
    """Start Prometheus, with the rules of these files evaluated every second and past samples in OpenMetrics format."""
    if BINARY is None:
        pytest.skip("no prometheus on PATH (Debian: apt install prometheus)")
    with tempfile.TemporaryDirectory(prefix="forescale-prometheus-") as name:
        server = PrometheusServer(Path(name), free_port(), rules)
        server.configure(targets)
        if past:
            await _store(past, name)
        process = await asyncio.create_subprocess_exec(
            BINARY,
            f"--config.file={name}/prometheus.json",
            f"--storage.tsdb.path={name}/data",
            f"--web.listen-address=127.0.0.1:{server.port}",
            "--web.enable-lifecycle",
            "--log.level=error",
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            await _ready(server, process)
            yield server
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


async def _store(past: str, directory: str) -> None:
    file = Path(directory, "past.txt")
    file.write_text(past, encoding="utf-8")
    command = ("promtool", "tsdb", "create-blocks-from", "openmetrics", file, f"{directory}/data")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()


async def _ready(server: PrometheusServer, process: asyncio.subprocess.Process) -> None:
    async with aiohttp.ClientSession() as session, asyncio.timeout(PATIENCE_S):
        while True:
            if process.returncode is not None:
                assert process.stderr is not None
                raise AssertionError(f"prometheus ended: {(await process.stderr.read()).decode(errors='replace')}")
            with contextlib.suppress(aiohttp.ClientError):
                async with session.get(f"{server.url}/-/ready") as response:
                    if response.status == 200:
                        return
            await asyncio.sleep(0.05)
