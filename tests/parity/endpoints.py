"""Managed endpoints of each cloud: two pools that share a lock, on a counterpart with time that the test advances."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.clouds.aws.account import AwsAccount
from scaler.config.kinds.azure_managed_pools import AzureOpenAiPtu
from scaler.config.kinds.gcp_managed_pools import VertexEndpoint
from scaler.config.kinds.sagemaker_pools import SageMakerVariant
from scaler.ports import Actuator, Clock
from scaler.shared_resources import AdapterContext
from tests.servers.aws import REGION, aws
from tests.servers.aws_compute import compute
from tests.servers.aws_sagemaker import Endpoint, Sized, finish
from tests.servers.aws_world import World as AwsWorld
from tests.servers.azure import Azure, azure
from tests.servers.azure_openai import NO_CAPACITY, Account, Ptu
from tests.servers.gcp import PROJECT, Gcp, gcp
from tests.servers.gcp_vertex import Deployed

WORKLOAD: Final = WorkloadName("llm")
PATH: Final = f"projects/{PROJECT}/locations/us-central1/endpoints/123"


class EndpointRig(ABC):
    """One pool of a managed endpoint, of size 1. Its updates last until `end`."""

    @abstractmethod
    async def open(self, context: AdapterContext) -> Actuator: ...

    @property
    @abstractmethod
    def is_updating(self) -> bool:
        """Whether the platform holds the lock for an update of this pool, or its roll-back."""

    @abstractmethod
    def serve(self, replicas: int) -> None:
        """Let this many replicas serve, during an update or without one."""

    @abstractmethod
    def fail(self, provided: int) -> None:
        """Fail the update in progress: there is capacity for `provided` replicas."""

    @abstractmethod
    def end(self) -> None:
        """End the update in progress, or its roll-back."""


class VariantRig(EndpointRig):
    """A SageMaker variant. A failed update is rolled back, and holds the lock meanwhile."""

    def __init__(self, world: AwsWorld, url: str, variant: Sized) -> None:
        self._world = world
        self._account = AwsAccount(region=REGION, endpoint_url=url)
        self._variant = variant

    async def open(self, context: AdapterContext) -> Actuator:
        name = self._variant.name
        spec = SageMakerVariant(endpoint="chat", variant=name, account=self._account)
        return await open_pool(spec, context, WORKLOAD, PoolName(name))

    @property
    def _endpoint(self) -> Endpoint:
        return self._world.sagemaker.endpoints["chat"]

    @property
    def is_updating(self) -> bool:
        return self._endpoint.updating is self._variant

    def serve(self, replicas: int) -> None:
        self._variant.current = replicas

    def fail(self, provided: int) -> None:
        self._variant.capacity = provided
        finish(self._endpoint)
        self._variant.capacity = 1000

    def end(self) -> None:
        if self._endpoint.state != "RollingBack":
            finish(self._endpoint)
            return
        self._endpoint.rollback_s = 0.0
        self._world.settle()
        self._endpoint.rollback_s = math.inf


class DeployedModelRig(EndpointRig):
    """A model on a Vertex AI endpoint. An update that is short of machines succeeds in part."""

    def __init__(self, cloud: Gcp, model: Deployed) -> None:
        self._cloud = cloud
        self._model = model

    async def open(self, context: AdapterContext) -> Actuator:
        name, project = self._model.id, self._cloud.project()
        spec = VertexEndpoint(project=project, location="us-central1", endpoint="123", deployed_model=name)
        return await open_pool(spec, context, WORKLOAD, PoolName(name))

    @property
    def is_updating(self) -> bool:
        return any(o.model is self._model and not o.done for o in self._cloud.vertex.operations)

    def serve(self, replicas: int) -> None:
        self._cloud.vertex.serve(self._model, replicas)

    def fail(self, provided: int) -> None:
        self._model.stock = provided
        self._cloud.vertex.finish()
        self._model.stock = math.inf

    def end(self) -> None:
        self._cloud.vertex.finish()


class PtuRig(EndpointRig):
    """A provisioned deployment of an Azure OpenAI account. An update that fails releases the lock at once."""

    def __init__(self, cloud: Azure, account: Account, ptu: Ptu) -> None:
        self._cloud = cloud
        self._account = account
        self._ptu = ptu

    async def open(self, context: AdapterContext) -> Actuator:
        name, account = self._ptu.name, self._cloud.account(self._cloud.port)
        spec = AzureOpenAiPtu(
            resource_group="llm",
            resource="llm",
            deployment=name,
            release_capacity=True,
            change_interval_s=0.0,
            account=account,
        )
        return await open_pool(spec, context, WORKLOAD, PoolName(name))

    @property
    def is_updating(self) -> bool:
        return self._account.changing is self._ptu

    def serve(self, replicas: int) -> None:
        self._ptu.current = replicas

    def fail(self, provided: int) -> None:
        self._account.end(NO_CAPACITY)

    def end(self) -> None:
        self._account.end()


@asynccontextmanager
async def sagemaker(_: Path, __: Clock) -> AsyncIterator[list[EndpointRig]]:
    world = AwsWorld()
    variants = [Sized("a", 1, 1), Sized("b", 1, 1)]
    world.sagemaker.endpoints["chat"] = Endpoint("chat", variants, rollback_s=math.inf, held=True)
    async with aws() as cloud, compute(world, cloud.url) as front:
        yield [VariantRig(world, front.url, variant) for variant in variants]


@asynccontextmanager
async def vertex(folder: Path, clock: Clock) -> AsyncIterator[list[EndpointRig]]:
    async with gcp(folder) as cloud:
        cloud.vertex.now, cloud.vertex.operation_s = clock.now, math.inf
        yield [DeployedModelRig(cloud, cloud.vertex.add(PATH, name, 1)) for name in ("7", "8")]


@asynccontextmanager
async def openai(folder: Path, _: Clock) -> AsyncIterator[list[EndpointRig]]:
    async with azure(folder) as cloud:
        deployments = [Ptu("a", 1), Ptu("b", 1)]
        account = Account(cloud, deployments, minimum=1, step=1).register()
        yield [PtuRig(cloud, account, ptu) for ptu in deployments]


ENDPOINTS: dict[str, Callable[[Path, Clock], AbstractAsyncContextManager[list[EndpointRig]]]] = {
    "aws": sagemaker,
    "gcp": vertex,
    "azure": openai,
}
"""The managed endpoint of each cloud: SageMaker variants, models on Vertex AI, provisioned Azure OpenAI."""
