"""Actuator contract of Auto Scaling groups, with both ways of growing."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import ClassVar, Literal

import pytest

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.config.kinds.aws_pools import Asg
from scaler.ports import Actuator
from scaler.shared_resources import AdapterContext
from tests.contracts.actuator import ActuatorContract
from tests.contracts.aws_rig import ZONES, AwsRig, aws_rig
from tests.servers.aws import KEYS, isolate
from tests.servers.aws_world import Group

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path, **KEYS)


class AsgRig(AwsRig):
    write = "autoscaling:SetDesiredCapacity"
    launch: ClassVar[Literal["desired_capacity", "instances"]] = "desired_capacity"

    def build(self) -> None:
        self.world.groups["llm"] = Group("llm", ZONES, desired=2)

    @property
    def instance_set(self) -> Group:
        return self.world.groups["llm"]

    async def open(self, context: AdapterContext) -> Actuator:
        spec = Asg(group="llm", account=self.account, notices=self.notices, launch=self.launch)
        return await open_pool(spec, context, WorkloadName("llm"), PoolName("gpus"))


class LaunchingRig(AsgRig):
    write = "autoscaling:LaunchInstances"
    launch = "instances"

    async def run_out(self) -> bool:
        self.world.shortages["*", "on-demand"] = "capacity"
        return True


class TestAsg(ActuatorContract):
    def rig(self) -> AbstractAsyncContextManager[AwsRig]:
        return aws_rig(AsgRig)


class TestAsgByInstances(ActuatorContract):
    def rig(self) -> AbstractAsyncContextManager[AwsRig]:
        return aws_rig(LaunchingRig)
