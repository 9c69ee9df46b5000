"""What is peculiar to EKS managed node groups."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from scaler.config.kinds.aws_pools import EksNodeGroup
from scaler.ports import Conflict, Misconfigured, Unavailable
from tests.scaler.clouds.aws_place import A, B, Place, place, status
from tests.servers.aws import KEYS, isolate
from tests.servers.aws_handlers import finish
from tests.servers.aws_wire import Refusal
from tests.servers.aws_world import Group, NodeGroup

UPDATE = "eks:UpdateNodegroupConfig"


@pytest.fixture
async def there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Place]:
    isolate(monkeypatch, tmp_path, **KEYS)
    async with place() as found:
        group = found.world.groups["eks-1"] = Group("eks-1", (A, B), desired=2, market="spot")
        found.world.nodes["serving", "h100"] = NodeGroup("serving", "h100", group, desired=2)
        found.world.ready(group, 2)
        yield found


@pytest.fixture
def nodes(there: Place) -> NodeGroup:
    return there.world.nodes["serving", "h100"]


KEYS_OF_IT = {"cluster": "serving", "node_group": "h100", "market": "spot"}


async def test_an_update_is_followed_and_its_size_is_what_was_asked_for(there: Place, nodes: NodeGroup) -> None:
    pool = await there.open(EksNodeGroup, **KEYS_OF_IT)
    nodes.slow = True
    await pool.resize(5, await status(pool))
    under_way = await status(pool)
    assert (under_way.desired, under_way.ready, under_way.other_writer) == (5, 2, None)
    with pytest.raises(Conflict, match="one at a time"):
        await pool.resize(6, under_way)
    assert there.endpoint.count(UPDATE) == 1, "it would have been refused"
    finish(nodes)
    there.world.ready(nodes.group, 5)
    done = await status(pool)
    assert (done.desired, done.ready, done.other_writer) == (5, 5, None)
    asked = there.endpoint.count("eks:DescribeUpdate")
    await status(pool)
    assert there.endpoint.count("eks:DescribeUpdate") == asked, "what ended is not asked for again"


async def test_an_update_that_ends_between_two_looks_is_nobody_else_s_write(there: Place, nodes: NodeGroup) -> None:
    pool = await there.open(EksNodeGroup, **KEYS_OF_IT)
    nodes.slow = True
    await pool.resize(5, await status(pool))
    await status(pool)

    def ends(_: str, whole: web.Response) -> web.Response:
        finish(nodes)
        return whole

    there.endpoint.spoils["eks:DescribeNodegroup"] = ends  # after it was described
    assert ((await status(pool)).desired, nodes.desired) == (5, 5)
    there.endpoint.clear()
    assert (await status(pool)).other_writer is None


async def test_an_update_that_fails_is_told_and_the_group_s_own_size_counts(there: Place, nodes: NodeGroup) -> None:
    pool = await there.open(EksNodeGroup, **KEYS_OF_IT)
    nodes.slow = True
    await pool.resize(5, await status(pool))
    finish(nodes, error={"errorCode": "InsufficientFreeAddresses", "errorMessage": "subnet-1 has none left"})
    failed = await status(pool)
    assert (failed.desired, failed.ready, failed.pending) == (2, 2, 0)
    assert failed.other_writer is None, "EKS went back by itself"
    assert failed.shortfall is not None
    assert "InsufficientFreeAddresses" in failed.shortfall.reason
    assert (await status(pool)).shortfall == failed.shortfall, "one saying is one refusal"
    nodes.slow = False
    await pool.resize(3, failed)
    assert (await status(pool)).shortfall is None


@pytest.mark.parametrize(
    ("code", "text", "quota"),
    [
        ("InstanceLimitExceeded", "Your AWS account is unable to launch any more instances of this type.", True),
        ("AsgInstanceLaunchFailures", "Could not launch Spot Instances. UnfulfillableCapacity - Unable.", False),
    ],
)
async def test_health_issues_tell_why_nodes_do_not_come(
    there: Place, nodes: NodeGroup, code: str, text: str, quota: bool
) -> None:
    pool = await there.open(EksNodeGroup, **KEYS_OF_IT)
    nodes.group.suspended = ("Launch",)  # so that its activities tell nothing
    await pool.resize(4, await status(pool))
    nodes.issues.append({"code": code, "message": text, "resourceIds": []})
    found = await status(pool)
    assert found.shortfall is not None
    assert (found.failed, found.pending, found.shortfall.quota) == (2, 0, quota)
    assert (await status(pool)).shortfall == found.shortfall
    nodes.issues[:] = [{"code": "Ec2SecurityGroupNotFound", "message": "sg-1", "resourceIds": []}]
    assert (await status(pool)).shortfall is None, "an issue that keeps no node from coming"


async def test_who_sizes_the_group_behind_eks_is_named(there: Place, nodes: NodeGroup) -> None:
    pool = await there.open(EksNodeGroup, **KEYS_OF_IT)
    nodes.group.desired = 4
    assert "another writer set Auto Scaling group eks-1 to 4" in str((await status(pool)).other_writer)


async def test_a_lost_update_is_said_again_under_its_token(there: Place) -> None:
    pool = await there.open(EksNodeGroup, **KEYS_OF_IT)
    there.endpoint.faults[UPDATE] = Refusal("ServerException", "It is our fault.", 500)
    with pytest.raises(Unavailable):
        await pool.resize(3, await status(pool))
    there.endpoint.faults.clear()
    await pool.resize(3, await status(pool))
    first, second = (g["clientRequestToken"] for g in there.endpoint.given[UPDATE])
    assert first == second


async def test_another_s_update_is_a_conflict(there: Place, nodes: NodeGroup) -> None:
    pool = await there.open(EksNodeGroup, **KEYS_OF_IT)
    seen = await status(pool)
    there.endpoint.faults[UPDATE] = Refusal("ResourceInUseException", "Nodegroup is currently being updated", 409)
    with pytest.raises(Conflict):
        await pool.resize(3, seen)
    assert nodes.desired == 2


async def test_a_node_group_that_is_not_there_is_misconfigured(there: Place) -> None:
    pool = await there.open(EksNodeGroup, cluster="serving", node_group="h200")
    with pytest.raises(Misconfigured, match="serving/h200"):
        await pool.status()
    bounded = await there.open(EksNodeGroup, **KEYS_OF_IT)
    with pytest.raises(Misconfigured, match="minSize and maxSize"):
        await bounded.resize(99, await status(bounded))
