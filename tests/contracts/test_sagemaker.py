"""Actuator contract of SageMaker variants and inference components, on a counterpart with time."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.config.kinds.sagemaker_pools import SageMakerInferenceComponent, SageMakerVariant
from scaler.ports import Actuator
from scaler.shared_resources import AdapterContext
from tests.contracts.actuator import ActuatorContract
from tests.contracts.aws_rig import AwsRig, aws_rig
from tests.servers.aws import KEYS, isolate
from tests.servers.aws_sagemaker import CAPACITY, QUOTA, Component, Endpoint, Sized, finish, finish_component
from tests.servers.aws_world import InstanceSet

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path, **KEYS)


class SageMakerRig(AwsRig):
    """Base of the rigs on SageMaker: it gives no notices, and has no instances of its own."""

    sized: Sized

    @property
    def instance_set(self) -> InstanceSet:
        raise NotImplementedError

    async def size(self) -> int:
        self.world.settle()
        return self.sized.desired

    async def set_size(self, replicas: int) -> None:
        self.sized.desired = self.sized.current = replicas

    async def set_ready(self, replicas: int) -> None:
        self.sized.capacity = replicas
        self.end_update()

    async def announce_interruption(self, replicas: int) -> bool:
        return False

    async def fail_late(self, *, quota: bool) -> bool:
        self.sized.capacity = self.sized.current
        self.sized.failure = QUOTA.format(limit=2, used=2, more=3) if quota else CAPACITY
        self.end_update()
        return True

    def end_update(self) -> None:
        raise NotImplementedError


class VariantRig(SageMakerRig):
    write = "sagemaker:UpdateEndpointWeightsAndCapacities"

    def build(self) -> None:
        self.sized = Sized("h100", desired=2, current=2)
        self.endpoint = Endpoint("chat", [Sized("other", 1, 1), self.sized], rollback_s=1.0, allows_zero=True)
        self.world.sagemaker.endpoints["chat"] = self.endpoint

    def end_update(self) -> None:
        finish(self.endpoint)

    async def open(self, context: AdapterContext) -> Actuator:
        spec = SageMakerVariant(endpoint="chat", variant="h100", account=self.account)
        return await open_pool(spec, context, WorkloadName("llm"), PoolName("gpus"))


class ComponentRig(SageMakerRig):
    write = "sagemaker:UpdateInferenceComponentRuntimeConfig"

    def build(self) -> None:
        self.component = Component("llama", desired=2, current=2, endpoint="chat")
        self.sized = self.component
        self.world.sagemaker.components["llama"] = self.component

    def end_update(self) -> None:
        finish_component(self.component)

    async def open(self, context: AdapterContext) -> Actuator:
        spec = SageMakerInferenceComponent(component="llama", account=self.account)
        return await open_pool(spec, context, WorkloadName("llm"), PoolName("copies"))


class TestSageMakerVariant(ActuatorContract):
    def rig(self) -> AbstractAsyncContextManager[AwsRig]:
        return aws_rig(VariantRig)


class TestSageMakerInferenceComponent(ActuatorContract):
    def rig(self) -> AbstractAsyncContextManager[AwsRig]:
        return aws_rig(ComponentRig)
