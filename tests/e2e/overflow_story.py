"""A burst with a daemon, a real Envoy, engines that take seconds to start, and a provider."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from policies.model import Tick
from policies.model.names import BackendName, RouteName
from policies.model.route import RouteStatus
from tests.e2e.chat_rig import PACE, REPLICA_PER_S, Clients, engine_pool, engine_source, envoy_route, ticks_of
from tests.servers.chat import ChatServers, chat_servers
from tests.servers.daemon import Daemon, daemon, until
from tests.servers.envoy import EnvoyServer, cluster, envoy

CHAT, GPUS, OPENAI = RouteName("chat"), BackendName("gpus"), BackendName("openai")
STEADY_PER_S, BURST_PER_S = 5.0, 24.0
WAKE_S: Final = 12.0
"""Time that an engine takes to start: 60 s at the same ratio to the interval, scaled."""
PROVIDER: Final = {"usd_per_million_input_tokens": 0.2, "usd_per_million_output_tokens": 0.6}
OpenedRoute = Callable[[EnvoyServer], AbstractAsyncContextManager[dict[str, Any]]]
"""Opens a route of some kind before an Envoy, and yields the settings of its kind."""


@dataclass
class Story:
    file: Path
    daemon: Daemon
    gateway: EnvoyServer
    engines: ChatServers
    provider: ChatServers
    provider_stack: AsyncExitStack
    clients: Clients

    def ticks(self) -> list[tuple[Tick, RouteStatus]]:
        """Return the ticks in which the gateway was read, each with its status."""
        return ticks_of(self.daemon.ticks(), CHAT)

    async def until_share(self, holds: Callable[[float], bool]) -> None:
        await until(lambda: bool(t := self.ticks()) and holds(t[-1][1].share(OPENAI)), self.daemon)


@asynccontextmanager
async def envoy_file(gateway: EnvoyServer) -> AsyncIterator[dict[str, Any]]:
    """Yield a route in Envoy's own file."""
    yield envoy_route(gateway)


def configuration(folder: Path, route: dict[str, Any], engines: ChatServers) -> Path:
    chat = {
        **route,
        "backends": {"gpus": {"pool": "engines"}, "openai": {"provider": PROVIDER}},
        "allow_external": True,
        "overflow": {"max_usd_per_hour": 50},
        "requests_per_replica_per_s": REPLICA_PER_S,
        "input_tokens_per_request": 800,
        "output_tokens_per_request": 250,
        **PACE,
    }
    workload = {
        "workload": "llm",
        "min_replicas": 2,
        "max_replicas": len(engines.servers),
        "interval_s": 2.0,
        "deadline_s": 1.9,
        "sources": engine_source(engines),
        "policies": {"concurrency": {"kind": "concurrency", "target_per_replica": 2.5}},
        "pools": engine_pool(engines, WAKE_S),
        "routes": {"chat": chat},
    }
    settings = {"daemon": {"listen": "127.0.0.1:0", "journal": {"directory": str(folder / "journal")}}}
    file = folder / "llm.yaml"
    file.write_text(yaml.safe_dump_all([settings, workload]), encoding="utf-8")
    return file


@asynccontextmanager
async def story(folder: Path, opened: OpenedRoute = envoy_file) -> AsyncIterator[Story]:
    """Yield a story in steady load."""
    async with AsyncExitStack() as stack:
        engines = await stack.enter_async_context(chat_servers(5, 8, awake=2))
        provider_stack = await stack.enter_async_context(AsyncExitStack())
        provider = await provider_stack.enter_async_context(chat_servers(6, 1))
        engines.wake_s = WAKE_S
        clusters = [cluster("gpus", engines.endpoints), cluster("openai", provider.endpoints, engines.endpoints)]
        gateway = await stack.enter_async_context(envoy(folder, clusters))
        file = configuration(folder, await stack.enter_async_context(opened(gateway)), engines)

        running = await stack.enter_async_context(daemon(str(file), journal=folder / "journal"))
        await until(gateway.file.exists, running)
        await gateway.start()
        await until(gateway.is_healthy, running)
        clients = Clients(gateway.url, STEADY_PER_S)
        told = Story(file, running, gateway, engines, provider, provider_stack, clients)
        sending = asyncio.create_task(clients.run())

        await until(lambda: bool(t := told.ticks()) and (t[-1][1].requests_per_s or 0.0) > 2.0, running)
        yield told
        clients.stopping = True
        await sending
