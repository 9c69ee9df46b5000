"""KEDA and HPAs as partners: the real HPA controller resizes a Deployment to the daemon's decisions."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from policies.model import Result
from scaler.config.listen import ServerTls
from tests.servers.aggregated import register, server_name, unregister
from tests.servers.certificate import make_pair
from tests.servers.control_plane import ControlPlane, started, why_not
from tests.servers.daemon import Daemon, daemon, until
from tests.servers.exporter import Engine, State, exporter
from tests.servers.keda_adapter import HPAS, keda_adapter
from tests.servers.kube_real import KubeNamespace, kube_namespace, manifests, path_of

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not())]
PER_REPLICA: Final = 10


@pytest.fixture(scope="module")
def plane() -> Iterator[ControlPlane]:
    with started(hpas=True) as plane:
        yield plane


@dataclass
class Stage:
    """A Deployment `llm` of 2 replicas, an engine's metrics page, and a daemon that publishes the size."""

    where: KubeNamespace
    engine: Engine
    daemon: Daemon
    pair: ServerTls

    def demand(self, replicas: int) -> None:
        """Let the load need this many replicas."""
        self.engine.set(num_requests_running=replicas * PER_REPLICA, num_requests_waiting=0)

    async def sized(self, replicas: int) -> None:
        """Return when the Deployment has this size."""

        async def reached() -> bool:
            return await self.where.size() == replicas

        await until(reached, self.daemon)

    def port(self, server: str) -> int:
        ports: int = next(e for e in self.daemon.events() if e.get("event") == "partners")[server]
        return ports

    def results(self) -> list[Result]:
        return [o.result for tick in self.daemon.ticks() for o in tick.outcomes]

    async def condition(self, hpa: str, kind: str) -> dict[str, Any]:
        """Return a condition of an HPA."""
        stored = await self.where.call("GET", self.where.path("horizontalpodautoscalers", hpa, api=HPAS))
        conditions = stored.get("status", {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == kind), {})


@asynccontextmanager
async def staged(plane: ControlPlane, folder: Path) -> AsyncIterator[Stage]:
    engine = Engine()
    engine.set(num_requests_running=2 * PER_REPLICA, num_requests_waiting=0)
    async with kube_namespace(plane, ready=None) as where, exporter({"a": engine}) as served:
        for binding in manifests("kubernetes-front-proxy"):
            binding["subjects"] = [{"kind": "User", "name": "scaler"}]
            await where.create(path_of(binding, where.namespace), binding)
        pair = make_pair(folder, server_name(where.namespace))
        cluster = {"kubeconfig": str(where.kubeconfig)}
        partners = {
            "keda": {"listen": "127.0.0.1:0"},
            "external_metrics": {
                "listen": "127.0.0.1:0",
                "tls": {"certificate": pair.certificate, "key": pair.key},
                "cluster": cluster,
            },
        }
        settings = {"listen": "127.0.0.1:0", "journal": {"directory": str(folder / "journal")}, "partners": partners}
        workload = {
            "workload": "chat",
            "interval_s": 3,
            "deadline_s": 2.5,
            "min_replicas": 0,
            "max_replicas": 9,
            "cooldown_s": 6,
            "scale_up": {"max_replicas": 9},
            "scale_down": {"window_s": 6},
            "sources": {"engines": {"kind": "scrape", "preset": "vllm", "urls": [served.url("a")]}},
            "policies": {"concurrency": {"kind": "concurrency", "target_per_replica": PER_REPLICA}},
            "pools": {"gpus": {"kind": "published", "name": "llm", "namespace": where.namespace, "cluster": cluster}},
        }
        (folder / "config.yaml").write_text(yaml.safe_dump_all([{"daemon": settings}, workload]))
        async with daemon(str(folder / "config.yaml"), journal=folder / "journal") as running:
            stage = Stage(where, engine, running, pair)
            await until(lambda: bool(running.ticks()), running)
            yield stage


async def test_hpa_follows_the_decision_and_keeps_its_size_while_the_daemon_is_blind(
    plane: ControlPlane, tmp_path: Path
) -> None:
    async with staged(plane, tmp_path) as stage:
        await register(stage.where, stage.port("external_metrics"), Path(stage.pair.certificate))
        try:
            await stage.where.call(
                "POST", stage.where.path("horizontalpodautoscalers", api=HPAS), hpa({"workload": "chat"})
            )
            stage.demand(6)
            await stage.sized(6)
            stage.demand(3)
            await stage.sized(3)
            await applied(stage, 3)
            stage.engine.state = State.DOWN
            blind = len(stage.daemon.ticks())
            await until(lambda: Result.WITHHELD in stage.results(), stage.daemon)

            async def failing() -> bool:
                return (await stage.condition("llm", "ScalingActive")).get("reason") == "FailedGetExternalMetric"

            await until(failing, stage.daemon)
            await until(lambda: len(stage.daemon.ticks()) > blind + 5, stage.daemon)
            assert await stage.where.size() == 3
            stage.engine.state = State.UP
            stage.demand(5)
            await stage.sized(5)
            assert set(stage.results()) == {Result.PUBLISHED, Result.WITHHELD}
        finally:
            await unregister(stage.where)


async def test_keda_scales_by_the_decision_to_zero_and_back(plane: ControlPlane, tmp_path: Path) -> None:
    async with staged(plane, tmp_path) as stage:
        address = f"127.0.0.1:{stage.port('keda')}"
        async with keda_adapter(stage.where, address, {"workload": "chat"}, stage.pair, "llm") as (keda, port):
            await register(stage.where, port, Path(stage.pair.certificate))
            try:
                await keda.create_hpa("llm", 9)
                stage.demand(7)
                await stage.sized(7)
                stage.demand(4)
                await stage.sized(4)
                stage.demand(0)
                await stage.sized(0)
                blind = [tick for tick in stage.daemon.ticks() if tick.decision.demand is None]
                assert not keda.errors or blind, "a size is refused only where a tick could not read the engine"
                stage.demand(2)
                await stage.sized(2)
            finally:
                await unregister(stage.where)


def hpa(labels: dict[str, str]) -> dict[str, Any]:
    """Return an HPA of the Deployment by the published size."""
    metric = {"name": "forescale-desired-replicas", "selector": {"matchLabels": labels}}
    external = {"metric": metric, "target": {"type": "AverageValue", "averageValue": "1"}}
    return {
        "apiVersion": "autoscaling/v2beta2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": "llm"},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "llm"},
            "minReplicas": 1,
            "maxReplicas": 9,
            "metrics": [{"type": "External", "external": external}],
        },
    }


async def applied(stage: Stage, replicas: int) -> None:
    """Return when a tick has observed that the published size is applied."""

    def seen() -> bool:
        outcomes = stage.daemon.ticks()[-1].outcomes
        return [(o.after, o.reason) for o in outcomes] == [(replicas, "applied by HPA llm")]

    await until(seen, stage.daemon)
