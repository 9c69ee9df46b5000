"""Workloads that objects of a real control plane define: created, edited, broken, mended and deleted under a daemon."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
import urllib.error
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from scaler.config.custom_resource import API_VERSION, definition
from tests.deploy.charts import needs_kubectl
from tests.servers.control_plane import why_not
from tests.servers.daemon import Daemon, daemon, until
from tests.servers.exporter import Engine, Exporter, exporter, vllm
from tests.servers.kube_real import RBAC, KubeNamespace, kube_namespace, manifests, path_of, workload

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is one")]
WITHIN_S: Final = 120.0
DEFINITIONS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
CONFIG_MAP: Final = {"forescale.io/workload": "true"}


class Cluster:
    """A namespace with the definition of Workload, the shipped permissions, and engines with a load."""

    def __init__(self, place: KubeNamespace, engines: Exporter, load: Engine, folder: Path) -> None:
        self.place = place
        self.engines = engines
        self.load = load
        self.folder = folder
        (folder / "etc").mkdir()

    @property
    def namespace(self) -> str:
        return self.place.namespace

    def path(self, name: str = "") -> str:
        return self.place.path("workloads", name, f"apis/{API_VERSION}")

    def spec(self, target: str = "llm", **changes: Any) -> dict[str, Any]:
        """Return a specification that needs one replica for 4 running requests."""
        return {
            "max_replicas": 12,
            "interval_s": 1.0,
            "deadline_s": 0.9,
            "scale_down": {"window_s": 0},
            "sources": {"engines": {"kind": "scrape", "preset": "vllm", "urls": [self.engines.url("one")]}},
            "policies": {"busy": {"kind": "concurrency", "target_per_replica": 4}},
            "pools": {"gpus": {"kind": "kubernetes", "name": target}},
            **changes,
        }

    async def create(self, name: str, spec: dict[str, Any]) -> None:
        body = {"apiVersion": API_VERSION, "kind": "Workload", "metadata": {"name": name}, "spec": spec}
        await self.place.call("POST", self.path(), body)

    async def edit(self, name: str, **changes: Any) -> None:
        await self.place.call("PATCH", self.path(name), {"spec": changes})

    async def status(self, name: str) -> dict[str, Any]:
        status: dict[str, Any] = (await self.place.call("GET", self.path(name))).get("status", {})
        return status

    async def condition(self, name: str, kind: str) -> dict[str, Any]:
        """Return a condition; its status is empty where the daemon has not written it."""
        conditions = (await self.status(name)).get("conditions", [])
        return next((c for c in conditions if c["type"] == kind), {"status": ""})

    def requests(self, running: float) -> None:
        self.load.page = vllm({"num_requests_running": running, "num_requests_waiting": 0})

    @asynccontextmanager
    async def daemon(self, *args: str, **settings: Any) -> AsyncIterator[Daemon]:
        """Run the daemon for the workloads of the namespace."""
        cluster = {"kubeconfig": str(self.place.kubeconfig)}
        followed = {"namespaces": [self.namespace], "config_maps": True, "cluster": cluster, **settings}
        document = {
            "listen": "127.0.0.1:0",
            "config_poll_s": 0.5,
            "journal": {"directory": str(self.folder / "journal")},
            "kubernetes_workloads": followed,
        }
        (self.folder / "etc/daemon.yaml").write_text(yaml.safe_dump({"daemon": document}))
        async with daemon(str(self.folder / "etc"), *args, journal=self.folder / "journal") as running:
            yield running

    def kubectl(self, *words: str) -> str:
        command = ["kubectl", "--kubeconfig", str(self.place.plane.kubeconfig), "-n", self.namespace, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@asynccontextmanager
async def cluster_with_definition(folder: Path) -> AsyncIterator[Cluster]:
    load = Engine()
    async with kube_namespace(ready=None) as place, exporter({"one": load}) as engines:
        await install(place)
        opened = Cluster(place, engines, load, folder)
        opened.requests(8)
        yield opened


async def install(place: KubeNamespace) -> None:
    """Install the definition of Workload, and the shipped Role for it."""
    await place.create(DEFINITIONS, definition())
    for manifest in manifests("kubernetes-workloads"):
        if "subjects" in manifest:
            manifest["subjects"] = [{"kind": "User", "name": "scaler"}]
        await place.create(path_of(manifest, place.namespace), manifest)
    deadline = time.monotonic() + WITHIN_S
    while True:
        try:
            await place.call("GET", place.path("workloads", api=f"apis/{API_VERSION}"))
        except urllib.error.HTTPError:
            assert time.monotonic() < deadline
            await asyncio.sleep(0.1)
        else:
            break
    await place.permitted("list", f"forescale.io/workloads", granted=True)


@pytest.fixture
async def cluster(tmp_path: Path) -> AsyncIterator[Cluster]:
    async with cluster_with_definition(tmp_path) as opened:
        yield opened


async def test_a_workload_is_created_edited_broken_mended_and_deleted(cluster: Cluster) -> None:
    async with cluster.daemon() as running:
        await until(lambda: bool(running.address), WITHIN_S, running)
        await cluster.create("chat", cluster.spec())
        cluster.requests(20)
        await until(lambda: size_is(cluster, 5), WITHIN_S, running)

        await cluster.edit("chat", min_replicas=7)
        await until(lambda: size_is(cluster, 7), WITHIN_S, running)

        broken = {"min_replicas": 13}
        await cluster.edit("chat", **broken)
        await until(lambda: refused(cluster, "chat"), WITHIN_S, running)
        accepted = await cluster.condition("chat", "Accepted")
        assert accepted["reason"] == "Invalid"
        assert accepted["message"] == (
            f"Workload {cluster.namespace}/chat: min_replicas = 13: must be at most max_replicas, 12"
            " (lower it, or raise max_replicas)"
        )
        assert (await cluster.status("chat"))["observedGeneration"] == accepted["observedGeneration"] == 3
        assert await cluster.place.size() == 7, "the last valid version stays in force"
        ticks = len(running.ticks())
        await until(lambda: len(running.ticks()) > ticks, WITHIN_S, running)

        await cluster.edit("chat", min_replicas=1, max_replicas=6)
        await until(lambda: size_is(cluster, 5), WITHIN_S, running)
        assert (await cluster.condition("chat", "Accepted"))["status"] == "True"

        await cluster.place.call("DELETE", cluster.path("chat"))
        await until(lambda: no_workload(running), WITHIN_S, running)
        cluster.requests(40)
        await asyncio.sleep(2)
        assert await cluster.place.size() == 5, "a deleted workload leaves the last size"
    assert {tick.workload for tick in running.ticks()} == {f"{cluster.namespace}.chat"}


async def size_is(cluster: Cluster, replicas: int) -> bool:
    return await cluster.place.size() == replicas


async def refused(cluster: Cluster, name: str) -> bool:
    return (await cluster.condition(name, "Accepted"))["status"] == "False"


async def accepted(cluster: Cluster, name: str) -> bool:
    return (await cluster.condition(name, "Accepted"))["status"] == "True"


async def no_workload(running: Daemon) -> bool:
    _, body = await running.get("/api/workloads")
    return json.loads(body)["workloads"] == []
