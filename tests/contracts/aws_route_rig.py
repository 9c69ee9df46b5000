"""A route on moto's AWS, behind an endpoint that records, refuses and loses calls."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from policies.model import PoolName, WorkloadName
from policies.model.names import BackendName, RouteName
from policies.model.route import RouteDecision, RouteStatus
from policies.model.route_spec import Backend, Provider, Route
from scaler.adapters import open_route
from scaler.clouds.aws.account import AwsAccount
from scaler.ports import Clock
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.servers.aws import Aws, aws
from tests.servers.aws_compute import Compute, compute
from tests.servers.aws_world import World

DEPLOY: Final = Path(__file__).parents[2] / "config" / "deploy"
GPUS, SPARE, OPENAI = BackendName("gpus"), BackendName("spare"), BackendName("openai")
PROVIDER: Final = Provider(usd_per_million_input_tokens=0.2, usd_per_million_output_tokens=0.6)


def pools(*names: BackendName) -> dict[BackendName, Backend]:
    """Return backends that are pools of the same names."""
    return {name: Backend(pool=PoolName(name)) for name in names}


def granted(file: str) -> frozenset[str]:
    """Return the actions that a published IAM policy grants."""
    listed = [statement["Action"] for statement in json.loads((DEPLOY / file).read_text())["Statement"]]
    return frozenset(action for actions in listed for action in ([actions] if isinstance(actions, str) else actions))


@dataclass
class AwsRouteRig:
    """An account with the object of one route, which `open` opens."""

    cloud: Aws
    world: World
    front: Compute
    resources: Resources
    clock: Clock

    @property
    def account(self) -> AwsAccount:
        return AwsAccount(endpoint_url=self.front.url)

    async def open(self, spec: Route) -> Any:
        context = AdapterContext(self.resources, self.clock, DEADLINE_S)
        return await open_route(spec, context, WorkloadName("llm"), RouteName("chat"))

    def called(self) -> set[str]:
        """Return the called operations, by their IAM names."""
        return {operation for _, operation, _ in self.resources.calls.results}


@asynccontextmanager
async def aws_route_rig(clock: Clock) -> AsyncIterator[AwsRouteRig]:
    world = World()
    async with aws() as cloud, compute(world, cloud.url) as front, Resources() as resources:
        yield AwsRouteRig(cloud, world, front, resources, clock)


async def read(route: Any) -> RouteStatus:
    status = (await route.status()).value
    assert isinstance(status, RouteStatus)
    return status


async def apply(route: Any, **weights: int) -> None:
    """Apply weights, by backend, to the present state."""
    split = {BackendName(name): weight for name, weight in weights.items()}
    await route.apply(RouteDecision(split, ""), await read(route))
