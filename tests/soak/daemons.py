"""Daemons of the soak: one over embedded clouds on a fast clock, and one over hostile servers in real time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml
from aiohttp import web

from tests.fuzz.rng import Rng
from tests.servers.daemon import Daemon, daemon
from tests.servers.kube_fake import FakeKube, kube_fake, write_kubeconfig
from tests.servers.site import listening

QUICKSTART: Final = Path(__file__).parents[2] / "config" / "quickstart"
SPEED: Final = 60
COMPILE_S: Final = 180.0
"""Start timeout with compilation of the simulator, on a busy machine. Seconds."""
READY_POLL_S: Final = 1.0
"""Poll interval of the fake Deployment controller, which makes replicas ready. Seconds."""
PAGE: Final = "\n".join(
    f'vllm:{name}{{model_name="m"}} {value}'
    for name, value in (("num_requests_running", 20), ("num_requests_waiting", 2), ("kv_cache_usage_perc", 0.5))
)


@dataclass
class HostileServer:
    """A metrics server with valid responses, except during a fault."""

    port: int = 0
    body: bytes | None = None
    status: int = 200
    hangs: bool = False
    resets: bool = False

    def clear(self) -> None:
        self.body, self.status, self.hangs, self.resets = None, 200, False, False

    async def handle(self, request: web.Request) -> web.StreamResponse:
        if self.hangs:
            await asyncio.sleep(30.0)
        if self.resets and request.transport is not None:
            request.transport.abort()
        if self.body is not None or self.status != 200:
            return web.Response(body=self.body or b"not now", status=self.status)
        if request.path.endswith("/metrics"):
            return web.Response(text=PAGE + "\n")
        return web.json_response({"status": "success", "data": {"resultType": "scalar", "result": [0, "3"]}})


@dataclass
class SoakTarget:
    """One daemon with its folder, and the servers it reads."""

    name: str
    folder: Path
    rng: Rng
    daemon: Daemon
    hostile: HostileServer | None = None
    kube: FakeKube | None = None
    moved_journals: list[Path] = field(default_factory=list)
    """Folders to which journals were moved while the daemon ran."""

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    async def page(self, path: str = "metrics") -> tuple[int, str]:
        """Return a page of the daemon; status 0 without a response."""
        with contextlib.suppress(OSError, TimeoutError):
            return await self.daemon.get(path)
        return 0, ""


def _daemon_file(folder: Path, speed: int) -> None:
    settings: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "config_poll_s": 1.0,
        "journal": {"directory": str(folder / "journal"), "max_bytes": 4 * 2**20, "keep_files": 1000},
    }
    if speed != 1:
        settings["clock"] = {"speed": speed}
    (folder / "config").mkdir(parents=True)
    (folder / "config" / "daemon.yaml").write_text(yaml.safe_dump({"daemon": settings}))


@asynccontextmanager
async def embedded(folder: Path, seed: int) -> AsyncIterator[SoakTarget]:
    """Run the quickstart's workloads on a fast clock."""
    _daemon_file(folder, SPEED)
    for name in ("chat", "summaries"):
        (folder / "config" / f"{name}.yaml").write_text((QUICKSTART / f"{name}.yaml").read_text())
    async with daemon(str(folder / "config"), journal=folder / "journal", cwd=folder, start_s=COMPILE_S) as running:
        yield SoakTarget("embedded", folder, Rng(seed, "soak/embedded"), running)


@asynccontextmanager
async def live(folder: Path, seed: int) -> AsyncIterator[SoakTarget]:
    """Run workloads on a Prometheus, a scraped page and a Kubernetes API server that inject faults."""
    _daemon_file(folder, 1)
    async with AsyncExitStack() as stack:
        hostile, kube = HostileServer(), await stack.enter_async_context(kube_fake())
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", hostile.handle)
        hostile.port = await stack.enter_async_context(listening(app))
        write_kubeconfig(folder / "kubeconfig", kube.port)
        for name in ("prom", "scrape"):
            await kube.put("deployments", name, {"spec": {"replicas": 2}, "status": {"readyReplicas": 2}})
            document = _workload(name, hostile.port, folder / "kubeconfig")
            (folder / "config" / f"{name}.yaml").write_text(yaml.safe_dump(document))
        ready = asyncio.create_task(_make_ready(kube))
        stack.callback(ready.cancel)
        running = await stack.enter_async_context(
            daemon(str(folder / "config"), journal=folder / "journal", cwd=folder)
        )
        yield SoakTarget("live", folder, Rng(seed, "soak/live"), running, hostile, kube)


def _workload(name: str, port: int, kubeconfig: Path) -> dict[str, Any]:
    url = f"http://127.0.0.1:{port}"
    if name == "prom":
        source: dict[str, Any] = {"kind": "prometheus", "url": url, "queries": {"load": "sum(load)"}}
        policy: dict[str, Any] = {"kind": "metric", "quantity": "load", "target": 2}
    else:
        source = {"kind": "scrape", "urls": [f"{url}/metrics"], "preset": "vllm", "read": ["running", "waiting"]}
        policy = {"kind": "concurrency", "target_per_replica": 8}
    pool = {"kind": "kubernetes", "name": name, "cluster": {"kubeconfig": str(kubeconfig)}, "watch_pods": False}
    return {
        "workload": name,
        "max_replicas": 8,
        "interval_s": 1.0,
        "deadline_s": 0.8,
        "scale_down": {"window_s": 5.0},
        "sources": {"source": source},
        "policies": {"policy": policy},
        "pools": {"pool": pool},
    }


async def _make_ready(kube: FakeKube) -> None:
    """Make every requested replica ready, as the Deployment controller does."""
    while True:
        await asyncio.sleep(READY_POLL_S)
        for deployment in kube.all("deployments"):
            replicas = deployment.get("spec", {}).get("replicas", 0)
            if deployment.get("status", {}).get("readyReplicas") != replicas:
                await kube.put("deployments", deployment["metadata"]["name"], {"status": {"readyReplicas": replicas}})
