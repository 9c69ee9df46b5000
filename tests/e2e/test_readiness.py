"""Pods whose readiness probe fails under load, on a real API server: the daemon keeps the Deployment's size."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from policies.model import Tick
from tests.servers.control_plane import why_not
from tests.servers.daemon import Daemon, daemon, until
from tests.servers.exporter import Engine, exporter
from tests.servers.kube_real import KubeNamespace, kube_namespace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is one"),
]
SIZE: Final = 8
INTERVAL_S: Final = 0.5
WINDOW_S: Final = 2.0
POLICIES: Final[dict[str, dict[str, Any]]] = {
    "kv_cache_usage": {"kind": "kv_cache_usage"},
    "metric across mean": {"kind": "metric", "quantity": "kv_cache_usage", "target": 0.8, "across": "mean"},
    "concurrency": {"kind": "concurrency", "target_per_replica": 10},
}


@dataclass
class Scene:
    """A Deployment of `SIZE` pods, one metrics page for all engines, and the daemon."""

    kube: KubeNamespace
    engine: Engine
    daemon: Daemon

    def load(self, share: float, ready: int) -> None:
        """Set the usage of each ready engine to `share` of its capacity; further requests are refused, not queued."""
        running = round(share * 12.5 * ready)
        self.engine.set(num_requests_running=running, num_requests_waiting=0, kv_cache_usage_perc=share)

    async def wait_until_observed(self, ready: int) -> None:
        """Wait until the daemon has observed this many ready replicas."""
        await until(lambda: self.daemon.ticks()[-1].decision.ready == ready, self.daemon)

    async def ticks(self, seconds: float) -> list[Tick]:
        """Wait for the daemon's ticks over this time, and return them."""
        start = self.daemon.ticks()[-1].at

        def enough() -> bool:
            return self.daemon.ticks()[-1].at >= start + seconds

        await until(enough, self.daemon)
        return [tick for tick in self.daemon.ticks() if tick.at > start]


@asynccontextmanager
async def scene(folder: Path, policy: dict[str, Any]) -> AsyncIterator[Scene]:
    engine = Engine()
    engine.set(num_requests_running=10 * SIZE, num_requests_waiting=0, kv_cache_usage_perc=0.78)
    async with kube_namespace(ready=None) as kube, exporter({"llm": engine}) as served:
        await kube.set_size(SIZE)
        document = {
            "workload": "llm",
            "max_replicas": SIZE,
            "interval_s": INTERVAL_S,
            "sources": {"engines": {"kind": "scrape", "preset": "vllm", "urls": [served.url("llm")]}},
            "policies": {"p": policy},
            "pools": {
                "gpus": {
                    "kind": "kubernetes",
                    "name": "llm",
                    "namespace": kube.namespace,
                    "on_other_writer": "take_over",
                    "cluster": {"kubeconfig": str(kube.kubeconfig)},
                }
            },
            "scale_down": {"window_s": WINDOW_S, "max_evidence_gap_s": 1.5, "max_replicas": SIZE},
        }
        config = folder / "config"
        config.mkdir()
        settings = {"listen": "127.0.0.1:0", "journal": {"directory": str(folder / "journal")}}
        (config / "daemon.yaml").write_text(yaml.safe_dump({"daemon": settings}))
        (config / "llm.yaml").write_text(yaml.safe_dump(document))
        async with daemon(str(config), journal=folder / "journal") as running:
            await until(lambda: bool(running.ticks()), running)
            yield Scene(kube, engine, running)
            await running.stop()


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
async def test_failing_readiness_probe_under_load_keeps_the_size(tmp_path: Path, policy: dict[str, Any]) -> None:
    async with scene(tmp_path, policy) as s:
        await s.wait_until_observed(SIZE)
        await s.ticks(2 * WINDOW_S)
        for survivors in (2, 0):
            s.load(1.0, survivors or SIZE)
            s.kube.nodes.ready = survivors
            await s.wait_until_observed(survivors)
            ticks = await s.ticks(4 * WINDOW_S)
            assert {tick.decision.target for tick in ticks} == {SIZE}, ticks[-1].decision.steps
            assert await s.kube.size() == SIZE
            s.kube.nodes.ready = None
            s.load(0.78, SIZE)
            await s.wait_until_observed(SIZE)
        s.load(0.05, SIZE)
        await until(lambda: s.daemon.ticks()[-1].decision.current == 1, s.daemon)
        assert await s.kube.size() == 1
