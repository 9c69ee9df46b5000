"""Auto Scaling groups and their warm pools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from policies.model import PoolName, PoolPart
from scaler.config.kinds.aws_pools import Asg, AsgWarmPool
from scaler.ports import Conflict, Misconfigured, OutOfCapacity, OutOfQuota, Throttled, Unavailable
from tests.scaler.clouds.aws_place import A, AwsEnvironment, B, aws_environment, read_status
from tests.servers.aws import KEYS, isolate
from tests.servers.aws_wire import Refusal
from tests.servers.aws_world import Group, InstanceSet

LAUNCH = "autoscaling:LaunchInstances"
SET = "autoscaling:SetDesiredCapacity"


@pytest.fixture
async def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[AwsEnvironment]:
    isolate(monkeypatch, tmp_path, **KEYS)
    async with aws_environment() as environment:
        environment.world.groups["llm"] = Group("llm", (A, B), desired=2)
        environment.world.ready(environment.world.groups["llm"], 2)
        yield environment


async def test_groups_of_one_account_are_described_in_one_call(env: AwsEnvironment) -> None:
    for i in range(30):
        env.world.groups[f"g{i}"] = Group(f"g{i}", (A,), desired=i % 3, market="spot")
    pools = [await env.open(Asg, group=f"g{i}") for i in range(30)]
    statuses = await asyncio.gather(*map(read_status, pools))
    assert [s.desired for s in statuses] == [i % 3 for i in range(30)]
    assert env.endpoint.count("autoscaling:DescribeAutoScalingGroups") == 1


async def test_missing_group_is_misconfigured_and_the_others_are_read(env: AwsEnvironment) -> None:
    known, unknown = await env.open(Asg, group="llm"), await env.open(Asg, group="lln")
    answered, failed = await asyncio.gather(read_status(known), read_status(unknown), return_exceptions=True)
    assert getattr(answered, "ready", None) == 2
    assert isinstance(failed, Misconfigured)
    assert "lln" in str(failed)


async def test_parts_are_by_zone_and_market_of_each_instance(env: AwsEnvironment) -> None:
    env.world.groups["mixed"] = Group("mixed", (A, B), spot_share=0.5, desired=4)
    env.world.ready(env.world.groups["mixed"], 3)
    pool = await env.open(Asg, group="mixed")
    status = await read_status(pool)
    assert sum(p.ready for p in status.parts) == 3
    assert {p.market for p in status.parts} == {"spot", "on_demand"}
    await read_status(pool)
    assert env.endpoint.count("ec2:DescribeInstances") == 1, "a market never changes"


@pytest.mark.slow
async def test_a_size_beyond_the_group_s_bounds_is_not_written(env: AwsEnvironment) -> None:
    pool = await env.open(Asg, group="llm")
    with pytest.raises(Misconfigured, match="MinSize and MaxSize are 0 and 10"):
        await pool.resize(11, await read_status(pool))
    assert env.endpoint.count(SET) == 0


async def test_group_with_launch_suspended_is_not_scaled_out(env: AwsEnvironment) -> None:
    env.world.groups["llm"].suspended = ("Launch",)
    pool = await env.open(Asg, group="llm")
    with pytest.raises(Misconfigured, match="process Launch is suspended"):
        await pool.resize(3, await read_status(pool))
    assert [text.partition(": ")[2] for text in await pool.scale_out_refusals()] == [
        "its process Launch is suspended, so no instance starts; resume it"
    ]
    await pool.resize(1, await read_status(pool))
    assert env.world.groups["llm"].desired == 1


@pytest.mark.slow
async def test_another_writer_is_reported_for_its_yield_time(env: AwsEnvironment) -> None:
    pool = await env.open(Asg, group="llm", other_writer_yield_s=0.3)
    assert (await read_status(pool)).other_writer is None
    await pool.resize(4, await read_status(pool))
    assert (await read_status(pool)).other_writer is None, "own write"
    env.world.groups["llm"].desired = 6
    assert "set Auto Scaling group llm to 6" in str((await read_status(pool)).other_writer)
    await asyncio.sleep(0.4)
    assert (await read_status(pool)).other_writer is None


async def test_size_changed_since_the_last_read_is_a_conflict(env: AwsEnvironment) -> None:
    pool = await env.open(Asg, group="llm")
    observed = await read_status(pool)
    env.world.groups["llm"].desired = 6
    with pytest.raises(Conflict, match="changed from 2 to 6: another writer set it"):
        await pool.resize(3, observed)
    assert env.world.groups["llm"].desired == 6


async def test_failure_before_the_request_is_not_its_shortfall(env: AwsEnvironment) -> None:
    group = env.world.groups["llm"]
    env.world.shortages["*", "on-demand"] = "capacity"
    group.desired = 3
    env.world.settle()
    group.activities = [(at - 600, zone, lack) for at, zone, lack in group.activities]
    pool = await env.open(Asg, group="llm")
    before = await read_status(pool)
    assert before.shortfall is not None, "a requested instance was not launched"
    assert "sufficient p5.48xlarge capacity" in before.shortfall.reason
    assert before.shortfall.reason.startswith("p5.48xlarge, us-east-1")
    env.world.shortages.clear()
    env.world.retry_s, group.last_attempt = 3600.0, (5, env.context.clock.now())
    await pool.resize(5, before)
    assert (await read_status(pool)).shortfall is None


async def test_instances_are_launched_in_the_zone_with_capacity(env: AwsEnvironment) -> None:
    env.world.shortages[A, "on-demand"] = "capacity"
    pool = await env.open(Asg, group="llm", launch="instances")
    await pool.resize(5, await read_status(pool))
    status = await read_status(pool)
    assert status.desired == 5
    assert PoolPart(B, "on_demand", 1, 3) in status.parts


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lack", "error", "code"),
    [("capacity", OutOfCapacity, "InsufficientInstanceCapacity"), ("quota", OutOfQuota, "VcpuLimitExceeded")],
)
async def test_capacity_error_in_every_zone_names_type_zone_and_market(
    env: AwsEnvironment, lack: str, error: type[Exception], code: str
) -> None:
    env.world.shortages["*", "on-demand"] = "quota" if lack == "quota" else "capacity"
    pool = await env.open(Asg, group="llm", launch="instances")
    with pytest.raises(error) as raised:
        await pool.resize(5, await read_status(pool))
    for zone in (A, B):
        assert f"p5.48xlarge, {zone}, on-demand: {code}" in str(raised.value)


async def test_pool_with_a_zone_launches_only_there(env: AwsEnvironment) -> None:
    env.world.shortages[A, "on-demand"] = "capacity"
    pool = await env.open(Asg, group="llm", launch="instances", zone=A)
    with pytest.raises(OutOfCapacity):
        await pool.resize(3, await read_status(pool))
    assert [g["AvailabilityZones"] for g in env.endpoint.given[LAUNCH]] == [[A]]


async def test_instance_not_yet_listed_by_the_group_is_not_launched_again(env: AwsEnvironment) -> None:
    pool = await env.open(Asg, group="llm", launch="instances")
    before: list[web.Response] = []

    def first(_: str, whole: web.Response) -> web.Response:
        before.append(whole)
        return web.Response(body=before[0].body, content_type="text/xml")

    env.endpoint.spoils["autoscaling:DescribeAutoScalingGroups"] = first
    observed = await read_status(pool)
    await pool.resize(5, observed)
    with pytest.raises(Conflict, match="does not list 3 instances yet"):
        await pool.resize(5, await read_status(pool))
    env.endpoint.clear()
    await pool.resize(6, await read_status(pool))
    assert env.world.groups["llm"].desired == 6


async def test_a_zone_outside_the_group_is_misconfigured(env: AwsEnvironment) -> None:
    pool = await env.open(Asg, group="llm", launch="instances", zone="us-east-1f")
    with pytest.raises(Misconfigured, match="set zone to one of us-east-1a, us-east-1b"):
        await pool.resize(3, await read_status(pool))
    assert env.endpoint.count(LAUNCH) == 0


async def test_refusals_of_the_group_are_known_before_a_scale_out(env: AwsEnvironment) -> None:
    assert await (await env.open(Asg, group="llm", max_replicas=10)).scale_out_refusals() == []
    for instance in env.world.groups["llm"].instances:
        instance.weight = 2
    pool = await env.open(Asg, group="llm", launch="instances", zone="us-east-1f", max_replicas=12)
    assert [text.removeprefix("Auto Scaling group llm ") for text in await pool.scale_out_refusals()] == [
        "uses instance weights, which require launch: desired_capacity",
        "has no zone us-east-1f; set zone to one of us-east-1a, us-east-1b",
        "has MaxSize 10; raise it to max_replicas, which is 12",
    ]
    assert (env.endpoint.count(SET), env.endpoint.count(LAUNCH)) == (0, 0)


async def test_weighted_instances_count_by_weight_and_reject_single_launches(env: AwsEnvironment) -> None:
    for instance in env.world.groups["llm"].instances:
        instance.weight = 2
    env.world.groups["llm"].desired = 4
    pool = await env.open(Asg, group="llm", launch="instances")
    status = await read_status(pool)
    assert (status.desired, status.ready, status.pending) == (4, 4, 0)
    with pytest.raises(Misconfigured, match="uses instance weights, which require launch: desired_capacity"):
        await pool.resize(6, status)


async def test_permissions_of_mixed_groups_and_reservations_are_checked(env: AwsEnvironment) -> None:
    env.world.groups["mixed"] = Group("mixed", (A, B), spot_share=0.5)
    env.world.reservations.append({"CapacityReservationId": "cr-00000001", "State": "active"})
    plain = await env.open(Asg, group="llm")
    both = await env.open(Asg, group="mixed", reservation=("cr-00000001",))
    await read_status(plain)
    await read_status(both)
    extra = {p.action for p in await both.permits()} - {p.action for p in await plain.permits()}
    assert extra == {"ec2:DescribeInstances", "ec2:DescribeCapacityReservations"}


async def test_a_launch_with_a_lost_response_is_repeated_under_its_token(env: AwsEnvironment) -> None:
    pool = await env.open(Asg, group="llm", launch="instances", zone=A)
    env.endpoint.faults[LAUNCH] = Refusal("InternalFailure", "Something went wrong.", 500)
    with pytest.raises(Unavailable):
        await pool.resize(3, await read_status(pool))
    env.endpoint.faults.clear()
    await pool.resize(3, await read_status(pool))
    await pool.resize(2, await read_status(pool))
    await pool.resize(3, await read_status(pool))
    lost, repeated, later = (g["ClientToken"] for g in env.endpoint.given[LAUNCH])
    assert lost == repeated
    assert later != repeated
    assert env.world.groups["llm"].desired == 3


async def test_warm_pool_is_created_for_a_group_without_one(env: AwsEnvironment) -> None:
    pool = await env.open(AsgWarmPool, group="llm", tier="slept", serves=PoolName("gpus"), state="hibernated")
    assert (await read_status(pool)).desired == 0
    await pool.resize(2, await read_status(pool))
    (put,) = env.endpoint.given["autoscaling:PutWarmPool"]
    assert (put["MinSize"], put["MaxGroupPreparedCapacity"], put["PoolState"]) == (2, 2, "Hibernated")
    env.world.ready(env.warm, 1)
    status = await read_status(pool)
    assert (status.desired, status.ready, status.pending) == (2, 1, 1)


async def test_warm_pool_without_a_size_has_the_group_s_spare_capacity(env: AwsEnvironment) -> None:
    env.world.groups["llm"].warm = InstanceSet("warm", (A,), min_size=1)
    pool = await env.open(AsgWarmPool, group="llm", tier="warm_node", serves=PoolName("gpus"))
    assert (await read_status(pool)).desired == 8, "the group's maximum of 10 minus its size of 2"
    env.world.groups["llm"].desired = 4
    moved = await read_status(pool)
    assert (moved.desired, moved.other_writer) == (6, None), "its size changed with the group, without another writer"
    await pool.resize(2, moved)
    assert (await read_status(pool)).desired == 2
    env.warm.min_size = env.world.groups["llm"].prepared = 3
    assert "set warm pool of Auto Scaling group llm to 3" in str((await read_status(pool)).other_writer)


async def test_aws_refills_the_warm_pool_after_a_scale_out(env: AwsEnvironment) -> None:
    group = env.world.groups["llm"]
    group.warm, group.prepared = InstanceSet("warm", (A, B), min_size=2), 2
    env.world.settle()
    env.world.ready(group.warm, 2)
    serving = await env.open(Asg, group="llm")
    warm = await env.open(AsgWarmPool, "warm", group="llm", tier="warm_node", serves=PoolName("gpus"))
    await serving.resize(4, await read_status(serving))
    assert (await read_status(serving)).ready == 4
    drained = await read_status(warm)
    assert (drained.desired, drained.ready, drained.pending) == (2, 0, 2)
    env.world.ready(group.warm, 2)
    assert (await read_status(warm)).ready == 2


async def test_a_throttle_pauses_reads_and_not_writes(env: AwsEnvironment) -> None:
    pool = await env.open(Asg, group="llm")
    observed = await read_status(pool)
    describe = "autoscaling:DescribeAutoScalingGroups"
    env.endpoint.faults[describe] = Refusal("Throttling", "Rate exceeded", retry_after_s=30)
    with pytest.raises(Throttled):
        await pool.status()
    env.endpoint.faults.clear()
    calls = env.endpoint.count(describe)
    with pytest.raises(Throttled):
        await pool.status()
    assert env.endpoint.count(describe) == calls, "reads pause after a throttle"
    await pool.resize(4, observed)
    assert env.world.groups["llm"].desired == 4
