"""Two workloads of a group with one daemon: each has a real Envoy, its own engines and its own users."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from policies.model import Tick, WorkloadName
from policies.model.names import BackendName, RouteName
from policies.model.route import RouteStatus
from scaler.journal.reader import tail
from tests.e2e.chat_rig import PACE, REPLICA_PER_S, Clients, engine_pool, engine_source, envoy_route, ticks_of
from tests.servers.chat import ChatServers
from tests.servers.daemon import Daemon, daemon, until
from tests.servers.envoy import EnvoyServer, cluster, envoy

FRONT, HOME, OTHER = RouteName("front"), BackendName("home"), BackendName("other")
EU, US = WorkloadName("chat-eu"), WorkloadName("chat-us")
ENGINES: Final = {EU: 7, US: 5}
MIN_REPLICAS: Final = {EU: 2, US: 3}
STEADY_PER_S: Final = {EU: 8.0, US: 5.0}
BURST_PER_S: Final = 19.0
"""Less than what 4 replicas carry, so that the noise of the count does not ask for a fifth one."""
WAKE_S: Final = 3.0
"""Time that an engine takes to start."""


@dataclass
class Member:
    """One workload with its engines, gateway and users."""

    name: WorkloadName
    engines: ChatServers
    engine_stack: AsyncExitStack
    gateway: EnvoyServer
    clients: Clients


@dataclass
class GroupStory:
    """The group. `journal` and `file` are those of the daemon."""

    file: Path
    journal: Path
    daemon: Daemon
    members: dict[WorkloadName, Member]
    _ticks: dict[WorkloadName, list[Tick]] = field(default_factory=lambda: {EU: [], US: []})

    @property
    def eu(self) -> Member:
        return self.members[EU]

    @property
    def us(self) -> Member:
        return self.members[US]

    @property
    def failures(self) -> list[str]:
        return [failure for member in self.members.values() for failure in member.clients.failures]

    def ticks(self, name: WorkloadName = EU) -> list[tuple[Tick, RouteStatus]]:
        """Return the ticks of a workload in which its gateway was read, each with its status."""
        known = self._ticks[name]
        last = known[-1].at if known else 0.0
        if self.journal.is_dir():
            known += [tick for tick in tail(self.journal, last, [name])[name] if tick.at > last]
        return ticks_of(known, FRONT)

    async def until_tick(self, holds: Callable[[Tick, RouteStatus], bool], name: WorkloadName = EU) -> int:
        """Wait for a tick of a workload that is not recorded yet, and return its index."""
        seen = len(self.ticks(name))
        await until(lambda: any(holds(*each) for each in self.ticks(name)[seen:]), self.daemon)
        return next(i for i, each in enumerate(self.ticks(name)) if i >= seen and holds(*each))

    async def ticks_from(self, first: int, count: int, name: WorkloadName = EU) -> list[Tick]:
        """Wait until a workload has so many ticks from the first one on, and return them."""
        await until(lambda: len(self.ticks(name)) >= first + count, self.daemon)
        return [tick for tick, _ in self.ticks(name)[first : first + count]]


def configuration(folder: Path, members: dict[WorkloadName, Member]) -> Path:
    settings = {"daemon": {"listen": "127.0.0.1:0", "journal": {"directory": str(folder / "journal")}}}
    file = folder / "chat.yaml"
    workloads = [workload(member, US if name == EU else EU) for name, member in members.items()]
    file.write_text(yaml.safe_dump_all([settings, *workloads]), encoding="utf-8")
    return file


def workload(member: Member, other: WorkloadName) -> dict[str, Any]:
    front = {
        **envoy_route(member.gateway),
        "backends": {str(HOME): {"pool": "engines"}, str(OTHER): {"workload": str(other)}},
        "requests_per_replica_per_s": REPLICA_PER_S,
        "zero_replicas": "hold",
        **PACE,
    }
    rate = {"kind": "metric", "quantity": "requests_per_s", "target": REPLICA_PER_S}
    return {
        "workload": str(member.name),
        "group": "chat",
        "min_replicas": MIN_REPLICAS[member.name],
        "max_replicas": ENGINES[member.name],
        "interval_s": 0.9,
        "deadline_s": 1.9,
        "scale_down": {"window_s": 4, "period_s": 1},
        "sources": engine_source(member.engines, read=["requests_per_s"], match={"finished_reason": "stop"}),
        "policies": {"rate": rate},
        "pools": engine_pool(member.engines, WAKE_S),
        "routes": {str(FRONT): front},
    }


@asynccontextmanager
async def story(folder: Path) -> AsyncIterator[GroupStory]:
    """Yield a group in steady load."""
    async with AsyncExitStack() as stack:
        engines = {name: ChatServers(9 + i, ENGINES[name], MIN_REPLICAS[name]) for i, name in enumerate((EU, US))}
        members = {}
        engine_stacks = {name: await stack.enter_async_context(AsyncExitStack()) for name in engines}
        for name, servers in engines.items():
            servers.wake_s, servers.tokens, servers.token_s = WAKE_S, 2, 0.15
            await engine_stacks[name].enter_async_context(servers.listen())
        for name, servers in engines.items():
            others = engines[US if name == EU else EU].endpoints
            clusters = [cluster(HOME, servers.endpoints, others), cluster(OTHER, others, servers.endpoints)]
            (folder / name).mkdir()
            gateway = await stack.enter_async_context(envoy(folder / name, clusters))
            clients = Clients(gateway.url, STEADY_PER_S[name])
            members[name] = Member(name, servers, engine_stacks[name], gateway, clients)
        file, journal = configuration(folder, members), folder / "journal"
        running = await stack.enter_async_context(daemon(str(file), journal=journal))
        told = GroupStory(file, journal, running, members)
        for member in members.values():
            await until(member.gateway.file.exists, running)
            await member.gateway.start()
        for member in members.values():
            await until(member.gateway.is_healthy, running)
        sending = [asyncio.create_task(member.clients.run()) for member in members.values()]
        for name in members:
            await told.until_tick(lambda _, status: (status.requests_per_s or 0.0) > 3.0, name)
        yield told
        for member in members.values():
            member.clients.stopping = True
        await asyncio.gather(*sending)
