"""Actuator contract of EC2 Fleets, maintaining and instant ones."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.config.kinds.aws_pools import Ec2Fleet, Ec2InstantFleet
from scaler.ports import Actuator
from scaler.shared_resources import AdapterContext
from tests.contracts.actuator import ActuatorContract
from tests.contracts.aws_rig import ZONES, AwsRig, aws_rig
from tests.servers.aws import KEYS, isolate
from tests.servers.aws_world import Fleet, Instance, InstanceSet

pytestmark = pytest.mark.slow

FLEET = "fleet-11111111-2222-3333-4444-555555555555"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path, **KEYS)


class FleetRig(AwsRig):
    write = "ec2:ModifyFleet"

    def build(self) -> None:
        self.world.fleets[FLEET] = Fleet(FLEET, ZONES, desired=2, market="spot")

    @property
    def instance_set(self) -> InstanceSet:
        return self.world.fleets[FLEET]

    async def open(self, context: AdapterContext) -> Actuator:
        spec = Ec2Fleet(fleet=FLEET, account=self.account, notices=self.notices, market="spot")
        return await open_pool(spec, context, WorkloadName("llm"), PoolName("gpus"))


class InstantRig(AwsRig):
    write = "ec2:CreateFleet"

    def build(self) -> None:
        self._flock = InstanceSet("instant", ZONES, market="spot", tags={"forescale:pool": "llm/gpus"})
        for zone in ZONES:
            self.world.launch(self._flock, zone, "spot")
        self.world.standalone += self._flock.instances

    @property
    def instance_set(self) -> InstanceSet:
        return self._flock

    def machines(self) -> list[Instance]:
        return self.world.standalone

    async def size(self) -> int:
        return len(self.world.standalone)

    async def set_ready(self, replicas: int) -> None:
        for i, instance in enumerate(self.world.standalone):
            instance.up = i < replicas

    async def run_out(self) -> bool:
        self.world.shortages["*", "spot"] = "capacity"
        return True

    async def fail_late(self, *, quota: bool) -> bool:
        del quota
        return False  # an instant fleet reports failures at once

    async def open(self, context: AdapterContext) -> Actuator:
        spec = Ec2InstantFleet(
            launch_template="llm",
            subnets=("subnet-a", "subnet-b"),
            account=self.account,
            notices=self.notices,
            market="spot",
        )
        return await open_pool(spec, context, WorkloadName("llm"), PoolName("gpus"))


class TestEc2Fleet(ActuatorContract):
    def rig(self) -> AbstractAsyncContextManager[AwsRig]:
        return aws_rig(FleetRig)


class TestEc2InstantFleet(ActuatorContract):
    def rig(self) -> AbstractAsyncContextManager[AwsRig]:
        return aws_rig(InstantRig)
