"""A route of a real API server with its gateway controller, and a real Envoy before engines and a provider."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from policies.model import PoolName, WorkloadName
from policies.model.names import BackendName, RouteName
from policies.model.route import RouteDecision, RouteStatus
from policies.model.route_spec import Backend, Overflow, Provider
from scaler.adapters import open_route
from scaler.clock import SystemClock
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.config.kinds.gateway_routes import GatewayMetrics, GatewayRoute
from scaler.ports import RouteActuator, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.servers.chat import ChatServers, chat_servers, send_chats
from tests.servers.daemon import until
from tests.servers.envoy import EnvoyServer, cluster, envoy
from tests.servers.gateway import GatewayController, gateway_controller
from tests.servers.gateway_kinds import install
from tests.servers.kube_real import KubeNamespace, kube_namespace

GPUS, OPENAI = BackendName("gpus"), BackendName("openai")
PROVIDER: Final = Provider(usd_per_million_input_tokens=0.2, usd_per_million_output_tokens=0.6)
REFS: Final = {GPUS: "vllm", OPENAI: "provider"}
MODEL: Final = "x-model"
OTHER: Final = {"matches": [{"headers": [{"name": MODEL, "value": "other"}]}]}
Rules = list[dict[str, Any]]


@dataclass(frozen=True)
class RouteKind:
    """A kind of route: its objects, and the settings that select the rule of the workload."""

    plural: str
    api: str
    object_kind: str
    spec: Callable[[dict[str, Any]], GatewayRoute]
    settings: dict[str, Any]

    def rules(self, **weights: int) -> Rules:
        """Return a rule for another model, and the rule of the workload with weights by backendRef."""
        named = {"name": "llama"} if "rule" in self.settings else {}
        refs = [{"name": name, "weight": weight} for name, weight in weights.items()]
        return [{**OTHER, "backendRefs": [{"name": "vllm"}]}, {**named, "backendRefs": refs}]


@dataclass
class RouteRig:
    """The route `chat` of one kind."""

    kind: RouteKind
    kube: KubeNamespace
    controller: GatewayController
    resources: Resources
    route: RouteActuator = field(init=False)

    async def open(self, **settings: Any) -> RouteActuator:
        own: dict[str, Any] = {
            "name": "chat",
            "namespace": self.kube.namespace,
            "cluster": KubeCluster(kubeconfig=str(self.kube.kubeconfig)),
            "backends": {GPUS: Backend(pool=PoolName("main")), OPENAI: Backend(provider=PROVIDER)},
            "refs": REFS,
            "overflow": Overflow(),
        }
        spec = self.kind.spec({**own, **self.kind.settings, **settings})
        context = AdapterContext(self.resources, SystemClock(), DEADLINE_S)
        return await open_route(spec, context, WorkloadName("llm"), RouteName("chat"))

    def path(self, name: str = "chat") -> str:
        return self.kube.path(self.kind.plural, name, f"apis/{self.kind.api}")

    async def create(self, rules: Rules, **metadata: Any) -> None:
        spec = {"parentRefs": [{"name": "edge"}], "rules": rules}
        names = {"apiVersion": self.kind.api, "kind": self.kind.object_kind}
        body = {**names, "metadata": {"name": "chat", **metadata}, "spec": spec}
        await self.kube.call("POST", self.path(""), body)

    async def edit(self, rules: Rules) -> None:
        """Replace the rules as a person does."""
        await self.kube.call("PATCH", f"{self.path()}?fieldManager=kubectl", {"spec": {"rules": rules}})

    async def weights(self) -> dict[str, int]:
        """Return the weights of the workload's rule in the object."""
        rules = (await self.kube.call("GET", self.path()))["spec"]["rules"]
        return {ref["name"]: ref["weight"] for ref in rules[1]["backendRefs"]}

    async def apply(self, gpus: int, observed: RouteStatus | None = None) -> None:
        observed = await self.status() if observed is None else observed
        await self.route.apply(RouteDecision({GPUS: gpus, OPENAI: 10_000 - gpus}, ""), observed)

    async def split(self, gpus: int) -> RouteStatus:
        """Apply a split, and return the status that shows it."""
        await self.apply(gpus)
        return await self.status(lambda s: s.weights.get(GPUS, 0) == gpus)

    async def status(self, holds: Callable[[RouteStatus], bool] = lambda _: True) -> RouteStatus:
        """Return the first status that holds; the gateway may not have observed the route yet."""
        statuses: list[RouteStatus] = []

        async def holding() -> bool:
            try:
                statuses.append((await self.route.status()).value)
            except Unavailable:
                return False
            return holds(statuses[-1])

        await until(holding)
        return statuses[-1]


@dataclass
class GatewayRig(RouteRig):
    """The same with traffic."""

    gateway: EnvoyServer
    pool: ChatServers
    provider: ChatServers

    @property
    def traffic(self) -> GatewayMetrics:
        return GatewayMetrics(urls=(f"{self.gateway.admin_url}/stats/prometheus",), clusters=REFS)

    async def send(self, requests: int, model: str = "llama") -> list[int]:
        """Send requests, twenty at a time, and return their statuses."""
        return await send_chats(self.gateway.url, requests, {MODEL: model})


@asynccontextmanager
async def route_rig(folder: Path, kind: RouteKind) -> AsyncIterator[RouteRig]:
    """Yield a rig without traffic, whose route is created."""
    async with kube_namespace() as kube, Resources() as resources:
        await install(kube)
        async with gateway_controller(kube, folder / "routes.json") as controller:
            rig = RouteRig(kind, kube, controller, resources)
            await rig.create(kind.rules(vllm=1, provider=0))
            rig.route = await rig.open()
            yield rig


@asynccontextmanager
async def gateway_rig(folder: Path, kind: RouteKind) -> AsyncIterator[GatewayRig]:
    """Yield a rig with traffic, whose gateway has the route."""
    async with chat_servers(3, 2) as pool, chat_servers(4, 1) as provider:
        clusters = [cluster("vllm", pool.endpoints), cluster("provider", provider.endpoints)]
        for servers in (pool, provider):
            servers.token_s, servers.tokens = 0.0, 1
        async with envoy(folder, clusters) as gateway, kube_namespace() as kube, Resources() as resources:
            await install(kube)
            async with gateway_controller(kube, gateway.file) as controller:
                rig = GatewayRig(kind, kube, controller, resources, gateway, pool, provider)
                await rig.create(kind.rules(vllm=1, provider=0))
                await until(gateway.file.exists)
                await gateway.start()
                rig.route = await rig.open(traffic=rig.traffic)
                yield rig
