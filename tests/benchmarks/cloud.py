"""A cloud for thousands of workloads: SQS, Prometheus and Kubernetes on loopback, in a separate process.

``python -m tests.benchmarks.cloud N`` serves N queues, engines and Deployments, prints their addresses as one JSON
line, and runs until its standard input ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
import os
import re
import sys
import tempfile
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml
from aiohttp import web

from scaler.clock import SystemClock, stopwatch_s
from tests.patience import PATIENCE_S
from tests.servers.kube_fake import FakeKube, kube_fake, write_kubeconfig
from tests.servers.kube_objects import node, ready_pod
from tests.servers.site import listening

PARTS: Final = re.compile(r'"forescale", "([^"]+)"')
MODELS: Final = re.compile(r'model=~"([^"]+)"')
"""The models of a query for many workloads."""
CREDENTIALS: Final = {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench"}
PODS: Final = 3
"""Pods of a workload."""
CYCLE_S: Final = 60.0
"""The period of each queue's depth, so that some ticks resize a pool. Seconds."""


@dataclass(frozen=True, slots=True)
class Cloud:
    """The addresses of a running cloud."""

    address: str
    kubeconfig: str

    def environment(self) -> dict[str, str]:
        return {**os.environ, **CREDENTIALS, "AWS_ENDPOINT_URL": self.address, "OPENBLAS_NUM_THREADS": "1"}

    def workload(self, number: int, interval_s: float) -> dict[str, Any]:
        """Return the document of a workload on SQS, Prometheus and Kubernetes."""
        return {
            "workload": f"llm-{number}",
            "max_replicas": 50,
            "interval_s": interval_s,
            "deadline_s": 5.0,
            "sources": {
                "queue": {
                    "kind": "sqs",
                    "queue_url": f"{self.address}/123456789012/queue-{number}",
                    "account": {"region": "us-east-1", "endpoint_url": self.address},
                },
                "engines": {
                    "kind": "prometheus",
                    "url": self.address,
                    "preset": "vllm",
                    "match": {"model": f"m{number}"},
                },
            },
            "policies": {
                "depth": {"kind": "queue_depth"},
                "requests": {"kind": "concurrency"},
                "cache": {"kind": "kv_cache_usage"},
            },
            "pools": {
                "gpus": {"kind": "kubernetes", "name": f"llm-{number}", "cluster": {"kubeconfig": self.kubeconfig}}
            },
        }

    def write(self, folder: Path, workloads: int, interval_s: float) -> Path:
        """Write a configuration for this number of workloads, and return its folder."""
        config = folder / "config"
        config.mkdir()
        write_daemon(config, folder / "journal")
        self.write_workloads(config, workloads, interval_s)
        return config

    def write_workloads(self, config: Path, workloads: int, interval_s: float) -> Path:
        """Write this number of workloads to one file, and return it."""
        file = config / "workloads.yaml"
        file.write_text(yaml.safe_dump_all(self.workload(i, interval_s) for i in range(workloads)))
        return file


def write_daemon(config: Path, journal: Path, **settings: Any) -> Path:
    """Write the settings of a daemon to a file in a folder, and return it."""
    file, defaults = config / "daemon.yaml", {"listen": "127.0.0.1:0", "journal": {"directory": str(journal)}}
    file.write_text(yaml.safe_dump({"daemon": defaults | settings}))
    return file


@asynccontextmanager
async def cloud(workloads: int) -> AsyncIterator[Cloud]:
    """Run a cloud in another process."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.benchmarks.cloud", str(workloads)), stdin=PIPE, stdout=PIPE, stderr=DEVNULL
    )
    try:
        assert process.stdout is not None
        addresses = json.loads(await asyncio.wait_for(process.stdout.readline(), PATIENCE_S))
        yield Cloud(addresses["address"], addresses["kubeconfig"])
    finally:
        process.kill()
        await process.wait()


async def answer_sqs(request: web.Request) -> web.Response:
    number = int((await request.json())["QueueUrl"].rpartition("-")[2])
    depth = round(80 * (1 + math.sin(2 * math.pi * (stopwatch_s() / CYCLE_S + number / 97))))
    attributes = {
        "ApproximateNumberOfMessages": str(depth),
        "ApproximateNumberOfMessagesNotVisible": "8",
        "ApproximateNumberOfMessagesDelayed": "0",
    }
    return web.json_response({"Attributes": attributes}, content_type="application/x-amz-json-1.0")


async def answer_prometheus(request: web.Request) -> web.Response:
    query = (await request.post())["query"]
    now = SystemClock().now()
    found = MODELS.search(str(query))
    labels = [{"model": model} for model in found[1].split("|")] if found else [{}]
    parts = [part for part in PARTS.findall(str(query)) if part != "lost"]
    result = [
        {"metric": of | {"forescale": part}, "value": [now, str(_value(part, now))]} for part in parts for of in labels
    ]
    return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})


def _value(part: str, now: float) -> float:
    if part.startswith("time:"):
        return now - 3
    return 0.4 if "cache" in part else 12.0


async def put_workload(kube: FakeKube, name: str) -> None:
    """Create a Deployment of 8 replicas, `PODS` of them with pods, all on one node."""
    spec = {"replicas": 8, "selector": {"matchLabels": {"app": name}}}
    status = {"replicas": 8, "readyReplicas": 8, "observedGeneration": 1}
    await kube.put("deployments", name, {"spec": spec, "status": status})
    await kube.put("nodes", f"node-{name}", node("us-a"))
    for number in range(PODS):
        await kube.put("pods", f"{name}-{number}", ready_pod(name, f"node-{name}"))


async def serve(workloads: int) -> None:
    app = web.Application()
    app.router.add_post("/", answer_sqs)
    app.router.add_post("/api/v1/query", answer_prometheus)
    with tempfile.TemporaryDirectory() as folder:
        async with listening(app) as port, kube_fake() as kube:
            for i in range(workloads):
                await put_workload(kube, f"llm-{i}")
            await kube.compact()
            kubeconfig = write_kubeconfig(Path(folder) / "kubeconfig", kube.port)
            address = f"http://127.0.0.1:{port}"
            print(json.dumps({"address": address, "kubeconfig": str(kubeconfig)}), flush=True)
            await asyncio.to_thread(sys.stdin.read)


def resident_mb(pid: int) -> float:
    """Return the resident memory of a process. Megabytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


def cpu_s(pid: int) -> float:
    """Return the processor time that a process has used. Seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(int(sys.argv[1])))
