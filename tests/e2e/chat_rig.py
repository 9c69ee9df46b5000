"""Clients of a gateway before engines that take seconds to start, and the settings of such engines and gateways."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp

from policies.model import Fresh, Tick
from policies.model.names import BackendName, RouteName
from policies.model.route import RouteStatus
from tests.servers.chat import ChatServers, send_chats
from tests.servers.envoy import EnvoyServer

REPLICA_PER_S: Final = 5.0
PACE: Final = {"hold_s": 1, "return_s": 2, "eject_s": 6, "slow_start_s": 4}
"""The settings of time of a route, at ticks of 1 or 2 s."""
CHATS, MAX_CHATS = 2000, 12_000
"""Requests between two looks at a split, and their maximum: 2 points are five standard deviations of 12,000."""
TOLERANCE: Final = 0.02


@dataclass
class Clients:
    """Clients that send requests at a rate, and record every answer that is not a whole stream."""

    url: str
    per_s: float
    failures: list[str] = field(default_factory=list)
    answered: int = 0
    stopping: bool = False

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        async with aiohttp.ClientSession() as http, asyncio.TaskGroup() as sent:
            while not self.stopping:
                due = max(due + 1.0 / self.per_s, loop.time() - 0.2)
                await asyncio.sleep(max(0.0, due - loop.time()))
                sent.create_task(self._chat(http))

    async def _chat(self, http: aiohttp.ClientSession) -> None:
        try:
            async with http.post(f"{self.url}/v1/chat/completions", json={"stream": True}) as response:
                text = await response.text()
        except aiohttp.ClientError as e:
            self.failures.append(repr(e))
            return
        self.answered += 1
        if response.status != 200 or not text.endswith("data: [DONE]\n\n"):
            self.failures.append(f"{response.status} {text[-200:]}")


def envoy_route(gateway: EnvoyServer) -> dict[str, Any]:
    """Return the settings of a route in Envoy's own file."""
    return {"kind": "envoy", "file": str(gateway.file), "admin_url": gateway.admin_url}


def engine_source(engines: ChatServers, **settings: Any) -> dict[str, Any]:
    """Return the settings of the engines as a source."""
    urls = [f"{url}/metrics" for url in engines.urls]
    return {"engines": {"kind": "scrape", "preset": "vllm", "urls": urls, **settings}}


def engine_pool(engines: ChatServers, lead_time_s: float) -> dict[str, Any]:
    """Return the settings of the engines as a pool."""
    return {"engines": {"kind": "vllm_sleep", "urls": engines.urls, "lead_time_s": lead_time_s}}


def ticks_of(ticks: Sequence[Tick], route: RouteName) -> list[tuple[Tick, RouteStatus]]:
    """Return the ticks in which the gateway was read, each with its status."""
    read = ((tick, tick.observation.routes.get(route)) for tick in ticks)
    return [(tick, reading.value) for tick, reading in read if isinstance(reading, Fresh)]


def ready(tick: Tick) -> int:
    """Return the ready replicas in a tick."""
    return sum(r.value.ready for r in tick.observation.pools.values() if isinstance(r, Fresh))


def rises_once(ticks: Sequence[tuple[Tick, RouteStatus]], route: RouteName, backend: BackendName) -> bool:
    """Return whether a backend's weight rises and then only falls.

    It may rise again where the demand fell and rose by more than a fifth, as where the clients' machine stood still.
    """
    decisions = [tick.decision.routes[route] for tick, _ in ticks]
    lowest, has_fallen = math.inf, False
    for before, decision in itertools.pairwise(decisions):
        change = decision.weights.get(backend, 0) - before.weights.get(backend, 0)
        has_fallen = has_fallen or change < 0
        demand = lowest if decision.demand is None else decision.demand
        if has_fallen:
            lowest = min(lowest, demand)
            if change > 0 and demand <= 1.2 * lowest:
                return False
    return True


async def measured_share(
    gateway: EnvoyServer, home: str, other: str, decided: float, engines: Sequence[ChatServers]
) -> float:
    """Return the share of the other cluster in the requests that Envoy has answered, by its own counters.

    More requests are sent while chance explains the difference from the decided share.
    """
    before_times = [(servers.tokens, servers.token_s) for servers in engines]
    for servers in engines:
        servers.tokens, servers.token_s = 1, 0.0
    before = await gateway.requests(home, other)
    share = 1.0
    for _ in range(MAX_CHATS // CHATS):
        assert set(await send_chats(gateway.url, CHATS)) == {200}
        after = await gateway.requests(home, other)
        grown = {name: after[name] - before[name] for name in before}
        share = grown[other] / sum(grown.values())
        if abs(share - decided) <= TOLERANCE:
            break
    for servers, times in zip(engines, before_times, strict=True):
        servers.tokens, servers.token_s = times
    return share
