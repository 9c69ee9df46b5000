"""A route of some kind before a real Envoy, with a provider that can be slowed down."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from policies.model import WorkloadName
from policies.model.names import BackendName
from policies.model.route import RouteDecision, RouteStatus
from policies.model.route_spec import Provider, Route
from scaler.adapters import open_route
from scaler.clock import SystemClock
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.config.kinds.envoy import Envoy
from scaler.config.kinds.gateway_routes import GatewayMetrics, HttpRoute
from scaler.ports import RouteActuator, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.policies.route.builders import CHAT, CHEAP, DEEPINFRA, EXPENSIVE, GPUS, OPENAI, route
from tests.servers.chat import ChatServers, chat_servers, send_chats
from tests.servers.daemon import until
from tests.servers.envoy import RESPONSE_START, EnvoyServer, cluster, envoy
from tests.servers.gateway import gateway_controller
from tests.servers.gateway_kinds import GATEWAY, HTTP_ROUTES, install
from tests.servers.kube_real import kube_namespace

PROVIDERS: dict[BackendName, Provider] = {OPENAI: CHEAP, DEEPINFRA: EXPENSIVE}
WEIGHTS = {GPUS: 0, OPENAI: 10_000, DEEPINFRA: 0}
"""The first split: all requests go to the provider that can be slowed down."""


@dataclass
class Rig:
    gateway: EnvoyServer
    slow: ChatServers
    spec: Route
    route: RouteActuator
    context: AdapterContext
    sent: int = 0

    async def open(self, spec: Route) -> RouteActuator:
        return await open_route(spec, self.context, WorkloadName("llm"), CHAT)

    async def read(self) -> RouteStatus:
        return (await self.route.status()).value

    async def send(self, requests: int) -> RouteStatus:
        """Send requests at once, and return the status after Envoy has added all their times to its histograms."""
        statuses = await asyncio.gather(*(send_chats(self.gateway.url, 20) for _ in range(requests // 20)))
        assert {status for some in statuses for status in some} == {200}
        self.sent += requests

        async def added() -> bool:
            return await self.gateway.response_times(*self.spec.backends) == self.sent

        await until(added)
        return await self.read()

    async def apply(self, split: RouteDecision) -> None:
        """Apply a split, and return when the route shows it."""
        await self.route.apply(split, await self.read())

        async def applied() -> bool:
            try:
                weights = (await self.read()).weights
            except Unavailable:  # the gateway has not observed it yet
                return False
            return weights == {name: weight for name, weight in split.weights.items() if weight}

        await until(applied)


OpenedSpec = Callable[[EnvoyServer, AdapterContext], AbstractAsyncContextManager[Route]]
"""Creates a route of some kind with the first split, and yields its settings."""


@asynccontextmanager
async def envoy_file(gateway: EnvoyServer, context: AdapterContext) -> AsyncIterator[Route]:
    """Yield a route in Envoy's own file."""
    own = {"file": str(gateway.file), "admin_url": gateway.admin_url, "return_s": 0.0}
    spec = route(PROVIDERS, Envoy, response_start_histogram=RESPONSE_START, **own)
    opened = await open_route(spec, context, WorkloadName("llm"), CHAT)
    await opened.apply(RouteDecision(WEIGHTS, ""), RouteStatus({}))
    yield spec


@asynccontextmanager
async def http_route(gateway: EnvoyServer, _: AdapterContext) -> AsyncIterator[Route]:
    """Yield a route in an HTTPRoute of a real API server, whose traffic is measured by Envoy's metrics page."""
    async with kube_namespace() as kube:
        await install(kube)
        refs = [{"name": name, "weight": weight} for name, weight in WEIGHTS.items()]
        body = {
            "apiVersion": f"{GATEWAY}/v1",
            "kind": "HTTPRoute",
            "metadata": {"name": "chat"},
            "spec": {"parentRefs": [{"name": "edge"}], "rules": [{"backendRefs": refs}]},
        }
        await kube.call("POST", kube.path(HTTP_ROUTES, api=f"apis/{GATEWAY}/v1"), body)
        async with gateway_controller(kube, gateway.file):
            await until(gateway.file.exists)
            own = {"name": "chat", "namespace": kube.namespace, "return_s": 0.0}
            cluster_access = KubeCluster(kubeconfig=str(kube.kubeconfig))
            traffic = GatewayMetrics(urls=(f"{gateway.admin_url}/stats/prometheus",))
            yield route(PROVIDERS, HttpRoute, cluster=cluster_access, traffic=traffic, **own)


@asynccontextmanager
async def latency_rig(folder: Path, opened: OpenedSpec = envoy_file) -> AsyncIterator[Rig]:
    """Yield a route whose requests all go to `openai`, the provider that can be slowed down."""
    async with chat_servers(7, 3) as others, chat_servers(8, 1) as slow, Resources() as resources:
        for servers in (others, slow):
            servers.token_s, servers.tokens = 0.0, 1
        clusters = [cluster("gpus", others.endpoints), cluster("deepinfra", others.endpoints)]
        context = AdapterContext(resources, SystemClock(), DEADLINE_S)
        async with (
            envoy(folder, [*clusters, cluster("openai", slow.endpoints)]) as gateway,
            opened(gateway, context) as spec,
        ):
            await gateway.start()
            await until(gateway.is_healthy)
            yield Rig(gateway, slow, spec, await open_route(spec, context, WorkloadName("llm"), CHAT), context)
