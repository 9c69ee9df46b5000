"""Contract of the reads of Bedrock's provisioned throughput. Its writes are steps of a plan."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path

import pytest

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.config.kinds.bedrock_pools import BedrockProvisioned
from scaler.ports import Actuator
from scaler.shared_resources import AdapterContext
from tests.contracts.actuator import StatusContract
from tests.contracts.aws_rig import AwsRig, aws_rig
from tests.servers.aws import KEYS, isolate
from tests.servers.aws_world import InstanceSet

pytestmark = pytest.mark.slow
PARAMETER = "/llm/claude"


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path, **KEYS)


class BedrockRig(AwsRig):
    """Two units that serve. Bedrock gives no notices."""

    write = "bedrock:CreateProvisionedModelThroughput"

    def build(self) -> None:
        self.held = self.world.bedrock.add("claude-0123456789ab", 2)
        self.held.finish()

    @property
    def instance_set(self) -> InstanceSet:
        raise NotImplementedError

    async def size(self) -> int:
        return self.world.bedrock.units

    async def announce_interruption(self, replicas: int) -> bool:
        return False

    async def open(self, context: AdapterContext) -> Actuator:
        ssm = await self.cloud.client("ssm")
        await ssm.put_parameter(Name=PARAMETER, Value=self.held.arn, Type="String", Overwrite=True)
        spec = BedrockProvisioned(
            name="claude",
            model="claude",
            parameter=PARAMETER,
            account=self.account,
            offer="claude",
            term="hour",
            term_h=1.0,
            price_usd_per_hour=39.6,
            min_replicas=2,
            max_replicas=2,
        )
        return await open_pool(spec, context, WorkloadName("llm"), PoolName("claude"))


class TestBedrockProvisioned(StatusContract):
    def rig(self) -> AbstractAsyncContextManager[AwsRig]:
        return aws_rig(BedrockRig)
