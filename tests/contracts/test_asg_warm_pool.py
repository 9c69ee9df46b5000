"""Actuator contract of Auto Scaling groups' warm pools."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.config.kinds.aws_pools import AsgWarmPool
from scaler.ports import Actuator
from scaler.shared_resources import AdapterContext
from tests.contracts.actuator import ActuatorContract
from tests.contracts.aws_rig import ZONES, AwsRig, aws_rig
from tests.servers.aws import KEYS, isolate
from tests.servers.aws_world import Group, InstanceSet

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path, **KEYS)


class WarmRig(AwsRig):
    write = "autoscaling:PutWarmPool"

    def build(self) -> None:
        warm = InstanceSet("llm/warm", ZONES, desired=2, min_size=2)
        self.world.groups["llm"] = Group("llm", ZONES, desired=0, warm=warm, prepared=2)

    @property
    def instance_set(self) -> InstanceSet:
        warm = self.world.groups["llm"].warm
        assert warm is not None
        return warm

    async def set_size(self, replicas: int) -> None:
        self.instance_set.min_size = self.world.groups["llm"].prepared = replicas

    async def announce_interruption(self, replicas: int) -> bool:
        return False  # stopped instances are not interrupted, and there are no spot warm pools

    async def open(self, context: AdapterContext) -> Actuator:
        spec = AsgWarmPool(group="llm", account=self.account, tier="warm_node", serves=PoolName("gpus"))
        return await open_pool(spec, context, WorkloadName("llm"), PoolName("warm"))


class TestAsgWarmPool(ActuatorContract):
    def rig(self) -> AbstractAsyncContextManager[AwsRig]:
        return aws_rig(WarmRig)
