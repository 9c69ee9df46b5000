"""The AWS adapters on moto's own Auto Scaling, EC2 and EKS, independent of this project's fakes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from policies.model import PoolName, PoolStatus, WorkloadName
from scaler.adapters import open_pool
from scaler.clock import SystemClock
from scaler.clouds.aws.account import AwsAccount
from scaler.config.kinds.aws_pools import Asg, AsgWarmPool, Ec2Fleet, Ec2InstantFleet, EksNodeGroup
from scaler.ports import Misconfigured
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.servers.aws import KEYS, REGION, Aws, aws, isolate

pytestmark = pytest.mark.slow


@dataclass
class Moto:
    cloud: Aws
    context: AdapterContext

    async def open(self, kind: type, **keys: Any) -> Any:
        account = AwsAccount(region=REGION, endpoint_url=self.cloud.url)
        return await open_pool(kind(account=account, **keys), self.context, WorkloadName("llm"), PoolName("gpus"))

    async def template(self) -> str:
        ec2 = await self.cloud.client("ec2")
        image = (await ec2.describe_images())["Images"][0]["ImageId"]
        data = {"ImageId": image, "InstanceType": "g5.xlarge"}
        await ec2.create_launch_template(LaunchTemplateName="llm", LaunchTemplateData=data)
        return "llm"

    async def subnets(self) -> list[str]:
        ec2 = await self.cloud.client("ec2")
        described = (await ec2.describe_subnets())["Subnets"]
        return [s["SubnetId"] for s in sorted(described, key=lambda s: s["AvailabilityZone"])][:2]

    async def group(self, desired: int) -> None:
        autoscaling = await self.cloud.client("autoscaling")
        await autoscaling.create_auto_scaling_group(
            AutoScalingGroupName="llm",
            LaunchTemplate={"LaunchTemplateName": await self.template(), "Version": "$Default"},
            MinSize=0,
            MaxSize=5,
            DesiredCapacity=desired,
            VPCZoneIdentifier=",".join(await self.subnets()),
        )


@pytest.fixture
async def moto(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Moto]:
    isolate(monkeypatch, tmp_path, **KEYS)
    async with aws() as cloud, Resources() as resources:
        yield Moto(cloud, AdapterContext(resources, SystemClock(), DEADLINE_S))


async def read_status(pool: Any) -> PoolStatus:
    status = (await pool.status()).value
    assert isinstance(status, PoolStatus)
    return status


async def test_auto_scaling_group_is_read_and_resized_on_moto(moto: Moto) -> None:
    await moto.group(2)
    pool = await moto.open(Asg, group="llm")
    status = await read_status(pool)
    assert (status.desired, status.ready, status.pending) == (2, 2, 0)
    assert sum(p.ready for p in status.parts) == 2
    await pool.resize(4, status)
    assert (await read_status(pool)).desired == 4
    with pytest.raises(Misconfigured, match="MaxSize"):
        await pool.resize(6, await read_status(pool))
    await pool.resize(0, await read_status(pool))
    assert (await read_status(pool)).ready == 0


async def test_warm_pool_is_read_and_resized_on_moto(moto: Moto) -> None:
    await moto.group(1)
    pool = await moto.open(AsgWarmPool, group="llm", tier="warm_node", serves=PoolName("gpus"))
    assert (await read_status(pool)).desired == 0
    await pool.resize(2, await read_status(pool))
    status = await read_status(pool)
    assert status.desired == 2


async def test_eks_node_group_is_read_and_resized_on_moto(moto: Moto) -> None:
    eks = await moto.cloud.client("eks")
    subnets = await moto.subnets()
    role = "arn:aws:iam::123456789012:role/node"
    await eks.create_cluster(name="serving", roleArn=role, resourcesVpcConfig={"subnetIds": subnets})
    created = await eks.create_nodegroup(
        clusterName="serving",
        nodegroupName="h100",
        scalingConfig={"minSize": 0, "maxSize": 5, "desiredSize": 1},
        subnets=subnets,
        nodeRole=role,
    )
    autoscaling = await moto.cloud.client("autoscaling")
    behind = created["nodegroup"]["resources"]["autoScalingGroups"][0]["name"]
    await autoscaling.create_auto_scaling_group(  # moto names the group, but does not create it
        AutoScalingGroupName=behind,
        LaunchTemplate={"LaunchTemplateName": await moto.template(), "Version": "$Default"},
        MinSize=0,
        MaxSize=5,
        DesiredCapacity=1,
        VPCZoneIdentifier=",".join(subnets),
    )
    pool = await moto.open(EksNodeGroup, cluster="serving", node_group="h100")
    status = await read_status(pool)
    assert (status.desired, status.ready, status.other_writer) == (1, 1, None)
    await pool.resize(3, status)
    sizes = (await eks.describe_nodegroup(clusterName="serving", nodegroupName="h100"))["nodegroup"]["scalingConfig"]
    assert sizes == {"minSize": 0, "maxSize": 5, "desiredSize": 3}, "only the size was changed"


async def test_maintained_fleet_is_read_on_moto(moto: Moto) -> None:
    ec2 = await moto.cloud.client("ec2")
    template = {"LaunchTemplateName": await moto.template(), "Version": "$Default"}
    capacity = {"TotalTargetCapacity": 2, "OnDemandTargetCapacity": 2, "DefaultTargetCapacityType": "on-demand"}
    fleet = await ec2.create_fleet(
        Type="maintain",
        LaunchTemplateConfigs=[{"LaunchTemplateSpecification": template}],
        TargetCapacitySpecification=capacity,
    )
    pool = await moto.open(Ec2Fleet, fleet=fleet["FleetId"])
    status = await read_status(pool)
    assert (status.desired, status.ready) == (2, 2)


async def test_instant_fleet_is_launched_and_reduced_on_moto(moto: Moto) -> None:
    keys = {"launch_template": await moto.template(), "subnets": tuple(await moto.subnets())}
    pool = await moto.open(Ec2InstantFleet, **keys)
    assert (await read_status(pool)).desired == 0
    await pool.resize(2, await read_status(pool))
    status = await read_status(pool)
    assert status.desired == 2
    await pool.resize(1, status)
    assert (await read_status(pool)).desired == 1
