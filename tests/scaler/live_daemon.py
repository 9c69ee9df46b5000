"""A daemon with one workload on servers of this process: an engine's page and a Kubernetes API server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.servers.daemon import Daemon, daemon
from tests.servers.exporter import Engine, Exporter, exporter, vllm
from tests.servers.kube_fake import FakeKube, kube_fake, write_kubeconfig
from tests.servers.kube_objects import put_deployment


@dataclass(slots=True)
class Live:
    """The servers, and the folder with configuration and journal."""

    folder: Path
    kube: FakeKube
    engines: Exporter

    @property
    def config(self) -> Path:
        return self.folder / "config"

    @property
    def journal(self) -> Path:
        return self.folder / "journal"

    def daemon_settings(self, **settings: Any) -> None:
        """Write the daemon's own document."""
        document = {
            "listen": "127.0.0.1:0",
            "journal": {"directory": str(self.journal)},
            "config_poll_s": 0.3,
            **settings,
        }
        (self.config / "daemon.yaml").write_text(yaml.safe_dump({"daemon": document}))

    def text(self, name: str = "llm", **changes: Any) -> str:
        """A workload's document."""
        document: dict[str, Any] = {
            "workload": name,
            "max_replicas": 12,
            "interval_s": 0.5,
            "deadline_s": 0.4,
            "sources": {"engines": {"kind": "scrape", "preset": "vllm", "urls": [self.engines.url("one")]}},
            "policies": {"busy": {"kind": "concurrency", "target_per_replica": 4}},
            "pools": {
                "gpus": {"kind": "kubernetes", "name": name, "cluster": {"kubeconfig": str(self.folder / "kubeconfig")}}
            },
            **changes,
        }
        return yaml.safe_dump(document)

    def write(self, name: str = "llm", **changes: Any) -> Path:
        """Write a workload's document to its own file."""
        file = self.config / f"{name}.yaml"
        file.write_text(self.text(name, **changes))
        return file

    @asynccontextmanager
    async def run(self, *args: str, limits: Mapping[int, int] | None = None) -> AsyncIterator[Daemon]:
        """The daemon on this configuration."""
        async with daemon(str(self.config), *args, journal=self.journal, limits=limits) as d:
            yield d


@asynccontextmanager
async def live(folder: Path) -> AsyncIterator[Live]:
    """Servers that answer, and a configuration for one workload on them."""
    async with kube_fake() as kube, exporter({"one": Engine(vllm({"num_requests_running": 8.0}))}) as engines:
        servers = Live(folder, kube, engines)
        servers.config.mkdir()
        write_kubeconfig(folder / "kubeconfig", kube.port)
        for name in ("llm", "other"):
            await put_deployment(kube, name, 2)
        servers.daemon_settings()
        servers.write()
        yield servers
