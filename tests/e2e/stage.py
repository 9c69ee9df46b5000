"""Environment of the end-to-end tests: real servers, proxies that inject faults, and the daemon."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import yaml

from policies.model import Tick
from tests.servers.aws import KEYS, REGION, Aws, aws
from tests.servers.control_plane import control_plane
from tests.servers.daemon import Daemon, daemon, until
from tests.servers.exporter import MODEL, Engine, exporter
from tests.servers.kube_real import KubeNamespace, kube_namespace
from tests.servers.prometheus import Target, prometheus
from tests.servers.tcp_fault import TcpProxy, tcp_proxy

INTERVAL_S: Final = 1.0
DEADLINE_S: Final = 0.9
WINDOW_S: Final = 6.0
MESSAGES_PER_REPLICA: Final = 5


@dataclass
class Stage:
    """All servers. Prometheus scrapes `engine`; the daemon reaches SQS and Prometheus through the proxies."""

    folder: Path
    kube: KubeNamespace
    cloud: Aws
    queue: str
    engine: Engine
    sqs_proxy: TcpProxy
    prometheus_proxy: TcpProxy
    journals: Path = field(init=False)

    def __post_init__(self) -> None:
        self.journals = self.folder / "journal"

    def configure(self) -> Path:
        """Write the configuration, with windows of seconds in place of minutes."""
        sqs = f"http://127.0.0.1:{self.sqs_proxy.port}"
        document = {
            "workload": "llm",
            "min_replicas": 1,
            "max_replicas": 9,
            "interval_s": INTERVAL_S,
            "deadline_s": DEADLINE_S,
            "sources": {
                "queue": {
                    "kind": "sqs",
                    "queue_url": f"{sqs}{urlsplit(self.queue).path}",
                    "account": {"region": REGION, "endpoint_url": sqs},
                },
                "engines": {
                    "kind": "prometheus",
                    "url": f"http://127.0.0.1:{self.prometheus_proxy.port}",
                    "preset": "vllm",
                    "match": {"model_name": MODEL},
                    "max_age_s": 10,
                },
            },
            "policies": {
                "queue-depth": {"kind": "queue_depth", "target_per_replica": MESSAGES_PER_REPLICA},
                "concurrency": {"kind": "concurrency"},
            },
            "pools": {
                "gpus": {
                    "kind": "kubernetes",
                    "name": "llm",
                    "namespace": self.kube.namespace,
                    "cluster": {"kubeconfig": str(self.kube.kubeconfig)},
                    "other_writer_yield_s": 5,
                }
            },
            "scale_down": {"window_s": WINDOW_S, "max_evidence_gap_s": 3.0, "max_replicas": 9},
            "scale_up": {"max_replicas": 9},
        }
        config = self.folder / "config"
        config.mkdir(exist_ok=True)
        settings = {"listen": "127.0.0.1:0", "journal": {"directory": str(self.journals)}}
        (config / "daemon.yaml").write_text(yaml.safe_dump({"daemon": settings}))
        (config / "llm.yaml").write_text(yaml.safe_dump(document))
        return config

    @asynccontextmanager
    async def run(self) -> AsyncIterator[Daemon]:
        async with daemon(str(self.configure()), journal=self.journals, env=KEYS) as d:
            yield d

    async def wait_for_size(self, replicas: int, d: Daemon) -> None:
        """Wait until the Deployment has this size."""

        async def has_size() -> bool:
            return await self.kube.size() == replicas

        await until(has_size, d)


def after(d: Daemon, time_s: float) -> list[Tick]:
    """Return the ticks recorded since then."""
    return [t for t in d.ticks() if t.at > time_s]


async def wait_for_ticks(d: Daemon, count: int, which: Callable[[Tick], bool] = lambda _: True) -> list[Tick]:
    """Wait for `count` further ticks that match `which`, and return them."""
    known = len(d.ticks())
    matching: list[Tick] = []

    def enough() -> bool:
        matching[:] = [t for t in d.ticks()[known:] if which(t)]
        return len(matching) >= count

    await until(enough, d)
    return matching


@asynccontextmanager
async def stage(folder: Path) -> AsyncIterator[Stage]:
    """Start a separate control plane (tests kill and freeze it), SQS, CloudWatch, Prometheus and an engine."""
    async with AsyncExitStack() as stack:
        plane = await stack.enter_async_context(control_plane())
        kube = await stack.enter_async_context(kube_namespace(plane, ready=None))
        cloud = await stack.enter_async_context(aws())
        address = urlsplit(cloud.url)
        sqs_proxy = await stack.enter_async_context(tcp_proxy(str(address.hostname), int(address.port or 0)))
        engine = Engine()
        idle(engine)
        served = await stack.enter_async_context(exporter({"llm": engine}))
        target = Target(f"127.0.0.1:{served.port}", "/llm/metrics", {})
        server = await stack.enter_async_context(prometheus([target]))
        await server.until("vllm:num_requests_running", lambda values: len(values) == 1)
        prometheus_proxy = await stack.enter_async_context(tcp_proxy("127.0.0.1", server.port))
        queue = await cloud.queue("prompts")
        yield Stage(folder, kube, cloud, queue, engine, sqs_proxy, prometheus_proxy)


def idle(engine: Engine) -> None:
    engine.set(num_requests_running=0, num_requests_waiting=0, kv_cache_usage_perc=0)


async def settle(d: Daemon, s: Stage, replicas: int) -> None:
    """Wait until the Deployment has this size and the daemon has observed it."""
    await s.wait_for_size(replicas, d)
    await until(lambda: d.ticks()[-1].decision.current == replicas, d)


def outcomes(ticks: list[Tick]) -> list[Any]:
    return [o for t in ticks for o in t.outcomes]


async def pass_time(seconds: float) -> None:
    """Wait, to check that an event does not happen."""
    await asyncio.sleep(seconds)
