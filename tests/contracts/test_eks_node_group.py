"""Actuator contract of EKS managed node groups."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.config.kinds.aws_pools import EksNodeGroup
from scaler.ports import Actuator
from scaler.shared_resources import AdapterContext
from tests.contracts.actuator import ActuatorContract
from tests.contracts.aws_rig import ZONES, AwsRig, aws_rig
from tests.servers.aws import KEYS, isolate
from tests.servers.aws_world import Group, NodeGroup

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path, **KEYS)


class EksRig(AwsRig):
    write = "eks:UpdateNodegroupConfig"

    def build(self) -> None:
        group = self.world.groups["eks-h100-1"] = Group("eks-h100-1", ZONES, desired=2, market="spot")
        self.world.nodes["serving", "h100"] = NodeGroup("serving", "h100", group, desired=2)

    @property
    def instance_set(self) -> Group:
        return self.world.groups["eks-h100-1"]

    async def set_size(self, replicas: int) -> None:
        self.world.nodes["serving", "h100"].desired = self.instance_set.desired = replicas

    async def open(self, context: AdapterContext) -> Actuator:
        spec = EksNodeGroup(
            cluster="serving", node_group="h100", account=self.account, notices=self.notices, market="spot"
        )
        return await open_pool(spec, context, WorkloadName("llm"), PoolName("gpus"))


class TestEksNodeGroup(ActuatorContract):
    def rig(self) -> AbstractAsyncContextManager[AwsRig]:
        return aws_rig(EksRig)
