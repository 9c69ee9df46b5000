"""Latency of backends on a real Envoy: what it measures, and the failover of a slow provider."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from policies.model import Fresh, WorkloadName
from policies.model.names import BackendName
from policies.model.route import RouteDecision, RouteStatus
from policies.model.route_spec import Provider
from policies.model.spec import Slo
from scaler.clock import SystemClock
from scaler.config.kinds.envoy import Envoy
from scaler.ports import RouteActuator
from scaler.routes.envoy import open_envoy
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.patience import PATIENCE_S
from tests.policies.route.builders import CHAT, CHEAP, DEEPINFRA, EXPENSIVE, GPUS, OPENAI, Gateway, route, workload
from tests.servers.chat import ChatServers, chat_servers, send_chats
from tests.servers.daemon import until
from tests.servers.envoy import RESPONSE_START, EnvoyServer, cluster, envoy, needs_envoy

pytestmark = [needs_envoy, pytest.mark.slow]
PROVIDERS: dict[BackendName, Provider] = {OPENAI: CHEAP, DEEPINFRA: EXPENSIVE}
DEMAND_PER_S = 8.0
"""Demand of the failover: twice what two replicas carry."""
LIMIT_S = 4.0
"""Limit of the latency: less than the mean of 10 s and a fast response, and more than a loaded machine needs."""


@dataclass
class Rig:
    gateway: EnvoyServer
    slow: ChatServers
    spec: Envoy
    route: RouteActuator
    open: Callable[[Envoy], Awaitable[RouteActuator]]
    sent: int = 0

    async def read(self) -> RouteStatus:
        return (await self.route.status()).value

    async def send(self, requests: int) -> RouteStatus:
        """Send requests at once, and return the status after Envoy has added all their times to its histograms."""
        statuses = await asyncio.gather(*(send_chats(self.gateway.url, 20) for _ in range(requests // 20)))
        assert {status for some in statuses for status in some} == {200}
        self.sent += requests

        async def added() -> bool:
            return await self.gateway.response_times(*self.spec.backends) == self.sent

        await until(added, PATIENCE_S)
        return await self.read()


@asynccontextmanager
async def rig(folder: Path) -> AsyncIterator[Rig]:
    """Yield a route whose requests all go to `openai`, the provider that can be slowed down."""
    async with chat_servers(7, 3) as others, chat_servers(8, 1) as slow, Resources() as resources:
        for servers in (others, slow):
            servers.token_s, servers.tokens = 0.0, 1
        clusters = [cluster("gpus", others.endpoints), cluster("deepinfra", others.endpoints)]
        async with envoy(folder, [*clusters, cluster("openai", slow.endpoints)]) as gateway:
            own = {"file": str(gateway.file), "admin_url": gateway.admin_url, "return_s": 0.0}
            spec = route(PROVIDERS, Envoy, response_start_histogram=RESPONSE_START, **own)
            assert isinstance(spec, Envoy)
            context = AdapterContext(resources, SystemClock(), DEADLINE_S)

            async def open_route(settings: Envoy) -> RouteActuator:
                return await open_envoy(settings, context, WorkloadName("llm"), CHAT)

            running = Rig(gateway, slow, spec, await open_route(spec), open_route)
            everything = RouteDecision({GPUS: 0, OPENAI: 10_000, DEEPINFRA: 0}, "")
            await running.route.apply(everything, RouteStatus({}))
            await gateway.start()
            await until(gateway.is_healthy, PATIENCE_S)
            yield running


async def test_latency_is_that_of_the_start_or_of_whole_responses(tmp_path: Path) -> None:
    async with rig(tmp_path) as env:
        whole = await env.open(dataclasses.replace(env.spec, response_start_histogram=None))
        env.slow.token_s, env.slow.tokens = 0.3, 4
        assert (await env.read()).traffic == (await whole.status()).value.traffic == {}, "no interval yet"
        start_s = (await env.send(20)).traffic[OPENAI].latency_s
        whole_s = (await whole.status()).value.traffic[OPENAI].latency_s
        assert start_s is not None
        assert whole_s is not None
        assert start_s >= 0.3
        assert whole_s >= 1.2
        assert whole_s > start_s + 0.5, "a stream of 4 tokens takes four times as long as its first one"
        quiet = (await env.read()).traffic[OPENAI]
        assert (quiet.requests, quiet.latency_s) == (0.0, None), "no request is no latency, and not zero"
        await env.gateway.stop()
        await env.gateway.start_again()
        assert (await env.read()).traffic == {}, "the histogram begins anew"


async def test_provider_slowed_to_10_s_loses_its_share_and_is_probed_back_in(tmp_path: Path) -> None:
    async with rig(tmp_path) as env:
        chat = dataclasses.replace(workload(env.spec, replicas=2), slo=Slo(ttft_s=LIMIT_S))
        decisions, reasons = Gateway(chat), list[str]()

        async def tick(requests: int) -> dict[str, float]:
            """Send requests, decide by Envoy's statistics, apply, and return the shares.

            The time between two ticks is simulated.
            """
            status = await (env.send(requests) if requests else env.read())
            status = dataclasses.replace(status, over_s=status.requests / DEMAND_PER_S)
            decision = decisions.tick(None, 2, reading=Fresh(status, decisions.at)).routes[CHAT]
            reasons.append(decision.reason)
            if not decision.is_kept:
                await env.route.apply(decision, await env.read())
                await until(lambda: _applied(env, decision), PATIENCE_S)
            return decisions.shares()

        await tick(0)
        assert await tick(20) == {GPUS: 0.5, OPENAI: 0.5}
        env.slow.token_s = 10.0
        assert await tick(60) == {GPUS: 0.5, DEEPINFRA: 0.5}
        assert "the responses of openai begin late (" in reasons[-1]
        assert reasons[-1].endswith(" s; the limit is 4 s), and it is ejected for 30 s")
        env.slow.token_s = 0.0
        shares = [(await tick(20)).get(OPENAI, 0.0) for _ in range(5)]
        assert shares == [0.0, 0.1, 0.25, 0.5, 0.5]


async def _applied(env: Rig, decision: RouteDecision) -> bool:
    return (await env.read()).weights == {name: weight for name, weight in decision.weights.items() if weight}
