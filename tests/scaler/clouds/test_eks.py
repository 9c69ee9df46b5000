"""EKS managed node groups."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from scaler.config.kinds.aws_pools import EksNodeGroup
from scaler.ports import Conflict, Misconfigured, Unavailable
from tests.scaler.clouds.aws_place import A, AwsEnvironment, B, aws_environment, read_status
from tests.servers.aws import KEYS, isolate
from tests.servers.aws_handlers import finish
from tests.servers.aws_wire import Refusal
from tests.servers.aws_world import Group, NodeGroup

UPDATE = "eks:UpdateNodegroupConfig"


@pytest.fixture
async def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[AwsEnvironment]:
    isolate(monkeypatch, tmp_path, **KEYS)
    async with aws_environment() as environment:
        group = environment.world.groups["eks-1"] = Group("eks-1", (A, B), desired=2, market="spot")
        environment.world.nodes["serving", "h100"] = NodeGroup("serving", "h100", group, desired=2)
        environment.world.ready(group, 2)
        yield environment


@pytest.fixture
def nodes(env: AwsEnvironment) -> NodeGroup:
    return env.world.nodes["serving", "h100"]


NODE_GROUP = {"cluster": "serving", "node_group": "h100", "market": "spot"}


async def test_size_of_a_running_update_is_desired(env: AwsEnvironment, nodes: NodeGroup) -> None:
    pool = await env.open(EksNodeGroup, **NODE_GROUP)
    nodes.slow = True
    await pool.resize(5, await read_status(pool))
    under_way = await read_status(pool)
    assert (under_way.desired, under_way.ready, under_way.other_writer) == (5, 2, None)
    with pytest.raises(Conflict, match="one at a time"):
        await pool.resize(6, under_way)
    assert env.endpoint.count(UPDATE) == 1, "a second update is not requested"
    finish(nodes)
    env.world.ready(nodes.group, 5)
    done = await read_status(pool)
    assert (done.desired, done.ready, done.other_writer) == (5, 5, None)
    calls = env.endpoint.count("eks:DescribeUpdate")
    await read_status(pool)
    assert env.endpoint.count("eks:DescribeUpdate") == calls, "an ended update is not read again"


async def test_update_ending_between_two_reads_is_not_a_foreign_write(env: AwsEnvironment, nodes: NodeGroup) -> None:
    pool = await env.open(EksNodeGroup, **NODE_GROUP)
    nodes.slow = True
    await pool.resize(5, await read_status(pool))
    await read_status(pool)

    def ends(_: str, whole: web.Response) -> web.Response:
        finish(nodes)
        return whole

    env.endpoint.spoils["eks:DescribeNodegroup"] = ends  # the update ends after the description
    assert ((await read_status(pool)).desired, nodes.desired) == (5, 5)
    env.endpoint.clear()
    assert (await read_status(pool)).other_writer is None


async def test_failed_update_is_a_shortfall_and_the_group_size_is_desired(
    env: AwsEnvironment, nodes: NodeGroup
) -> None:
    pool = await env.open(EksNodeGroup, **NODE_GROUP)
    nodes.slow = True
    await pool.resize(5, await read_status(pool))
    finish(nodes, error={"errorCode": "InsufficientFreeAddresses", "errorMessage": "subnet-1 has none left"})
    failed = await read_status(pool)
    assert (failed.desired, failed.ready, failed.pending) == (2, 2, 0)
    assert failed.other_writer is None, "EKS rolled back by itself"
    assert failed.shortfall is not None
    assert "InsufficientFreeAddresses" in failed.shortfall.reason
    assert (await read_status(pool)).shortfall == failed.shortfall, "a repeated report is one shortfall"
    nodes.slow = False
    await pool.resize(3, failed)
    assert (await read_status(pool)).shortfall is None


@pytest.mark.slow
@pytest.mark.parametrize(
    ("code", "text", "quota"),
    [
        ("InstanceLimitExceeded", "Your AWS account is unable to launch any more instances of this type.", True),
        ("AsgInstanceLaunchFailures", "Could not launch Spot Instances. UnfulfillableCapacity - Unable.", False),
    ],
)
async def test_health_issue_is_the_shortfall_of_missing_nodes(
    env: AwsEnvironment, nodes: NodeGroup, code: str, text: str, quota: bool
) -> None:
    pool = await env.open(EksNodeGroup, **NODE_GROUP)
    nodes.group.suspended = ("Launch",)  # so that its activities report nothing
    await pool.resize(4, await read_status(pool))
    nodes.issues.append({"code": code, "message": text, "resourceIds": []})
    status = await read_status(pool)
    assert status.shortfall is not None
    assert (status.failed, status.pending, status.shortfall.quota) == (2, 0, quota)
    assert (await read_status(pool)).shortfall == status.shortfall
    nodes.issues[:] = [{"code": "Ec2SecurityGroupNotFound", "message": "sg-1", "resourceIds": []}]
    assert (await read_status(pool)).shortfall is None, "an issue that blocks no node"


async def test_another_writer_of_the_scaling_group_is_reported(env: AwsEnvironment, nodes: NodeGroup) -> None:
    pool = await env.open(EksNodeGroup, **NODE_GROUP)
    nodes.group.desired = 4
    assert "another writer, probably a Cluster Autoscaler, set Auto Scaling group eks-1 to 4" in str(
        (await read_status(pool)).other_writer
    )


async def test_a_lost_update_is_repeated_under_its_token(env: AwsEnvironment) -> None:
    pool = await env.open(EksNodeGroup, **NODE_GROUP)
    env.endpoint.faults[UPDATE] = Refusal("ServerException", "It is our fault.", 500)
    with pytest.raises(Unavailable):
        await pool.resize(3, await read_status(pool))
    env.endpoint.faults.clear()
    await pool.resize(3, await read_status(pool))
    first, second = (g["clientRequestToken"] for g in env.endpoint.given[UPDATE])
    assert first == second


async def test_update_of_another_writer_is_a_conflict(env: AwsEnvironment, nodes: NodeGroup) -> None:
    pool = await env.open(EksNodeGroup, **NODE_GROUP)
    observed = await read_status(pool)
    env.endpoint.faults[UPDATE] = Refusal("ResourceInUseException", "Nodegroup is currently being updated", 409)
    with pytest.raises(Conflict):
        await pool.resize(3, observed)
    assert nodes.desired == 2


@pytest.mark.slow
async def test_missing_node_group_or_size_beyond_its_bounds_is_misconfigured(env: AwsEnvironment) -> None:
    pool = await env.open(EksNodeGroup, cluster="serving", node_group="h200")
    with pytest.raises(Misconfigured, match="serving/h200"):
        await pool.status()
    bounded = await env.open(EksNodeGroup, **NODE_GROUP)
    with pytest.raises(Misconfigured, match="minSize and maxSize"):
        await bounded.resize(99, await read_status(bounded))
