"""What is peculiar to Auto Scaling groups and their warm pools."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import web

from policies.model import Part, PoolName
from scaler.config.kinds.aws_pools import Asg, AsgWarmPool
from scaler.ports import Conflict, Misconfigured, OutOfCapacity, OutOfQuota, Throttled, Unavailable
from tests.scaler.clouds.aws_place import A, B, Place, place, status
from tests.servers.aws import KEYS, isolate
from tests.servers.aws_wire import Refusal
from tests.servers.aws_world import Flock, Group

LAUNCH = "autoscaling:LaunchInstances"
SET = "autoscaling:SetDesiredCapacity"


@pytest.fixture
async def there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Place]:
    isolate(monkeypatch, tmp_path, **KEYS)
    async with place() as found:
        found.world.groups["llm"] = Group("llm", (A, B), desired=2)
        found.world.ready(found.world.groups["llm"], 2)
        yield found


async def test_pools_of_one_account_are_described_in_one_call(there: Place) -> None:
    for i in range(30):
        there.world.groups[f"g{i}"] = Group(f"g{i}", (A,), desired=i % 3, market="spot")
    pools = [await there.open(Asg, group=f"g{i}") for i in range(30)]
    found = await asyncio.gather(*map(status, pools))
    assert [s.desired for s in found] == [i % 3 for i in range(30)]
    assert there.endpoint.count("autoscaling:DescribeAutoScalingGroups") == 1


async def test_a_group_that_is_not_there_is_misconfigured_and_the_others_answer(there: Place) -> None:
    known, unknown = await there.open(Asg, group="llm"), await there.open(Asg, group="lln")
    good, bad = await asyncio.gather(status(known), status(unknown), return_exceptions=True)
    assert getattr(good, "ready", None) == 2
    assert isinstance(bad, Misconfigured)
    assert "lln" in str(bad)


async def test_parts_are_told_by_zone_and_by_the_market_each_instance_was_bought_in(there: Place) -> None:
    there.world.groups["mixed"] = Group("mixed", (A, B), spot_share=0.5, desired=4)
    there.world.ready(there.world.groups["mixed"], 3)
    pool = await there.open(Asg, group="mixed")
    found = await status(pool)
    assert sum(p.ready for p in found.parts) == 3
    assert {p.market for p in found.parts} == {"spot", "on_demand"}
    await status(pool)
    assert there.endpoint.count("ec2:DescribeInstances") == 1, "a market never changes"


async def test_a_size_beyond_the_group_s_bounds_is_not_written(there: Place) -> None:
    pool = await there.open(Asg, group="llm")
    with pytest.raises(Misconfigured, match="MinSize and MaxSize are 0 and 10"):
        await pool.resize(11, await status(pool))
    assert there.endpoint.count(SET) == 0


async def test_a_group_that_may_not_launch_is_not_grown(there: Place) -> None:
    there.world.groups["llm"].suspended = ("Launch",)
    pool = await there.open(Asg, group="llm")
    with pytest.raises(Misconfigured, match="process Launch is suspended"):
        await pool.resize(3, await status(pool))
    await pool.resize(1, await status(pool))
    assert there.world.groups["llm"].desired == 1


async def test_another_writer_is_named_for_a_while(there: Place) -> None:
    pool = await there.open(Asg, group="llm", other_writer_yield_s=0.3)
    assert (await status(pool)).other_writer is None
    await pool.resize(4, await status(pool))
    assert (await status(pool)).other_writer is None, "that was us"
    there.world.groups["llm"].desired = 6
    assert "set Auto Scaling group llm to 6" in str((await status(pool)).other_writer)
    await asyncio.sleep(0.4)
    assert (await status(pool)).other_writer is None


async def test_what_somebody_wrote_since_we_looked_is_a_conflict(there: Place) -> None:
    pool = await there.open(Asg, group="llm")
    seen = await status(pool)
    there.world.groups["llm"].desired = 6
    with pytest.raises(Conflict, match="was 2 and is 6"):
        await pool.resize(3, seen)
    assert there.world.groups["llm"].desired == 6


async def test_a_failure_from_before_we_asked_is_not_told_of_what_we_asked(there: Place) -> None:
    group = there.world.groups["llm"]
    there.world.lacks["*", "on-demand"] = "capacity"
    group.desired = 3
    there.world.settle()
    group.told = [(at - 600, zone, lack) for at, zone, lack in group.told]
    pool = await there.open(Asg, group="llm")
    before = await status(pool)
    assert before.shortfall is not None, "somebody asked, and it did not come"
    assert "sufficient p5.48xlarge capacity" in before.shortfall.reason
    assert before.shortfall.reason.startswith("p5.48xlarge, us-east-1")
    there.world.lacks.clear()
    there.world.retry_s, group.tried = 3600.0, (5, there.context.clock.now())
    await pool.resize(5, before)
    assert (await status(pool)).shortfall is None


async def test_instances_come_from_the_zone_that_has_them(there: Place) -> None:
    there.world.lacks[A, "on-demand"] = "capacity"
    pool = await there.open(Asg, group="llm", launch="instances")
    await pool.resize(5, await status(pool))
    found = await status(pool)
    assert found.desired == 5
    assert Part(B, "on_demand", 1, 3) in found.parts


@pytest.mark.parametrize(
    ("lack", "error", "code"),
    [("capacity", OutOfCapacity, "InsufficientInstanceCapacity"), ("quota", OutOfQuota, "VcpuLimitExceeded")],
)
async def test_what_no_zone_has_is_told_at_once_with_type_zone_and_market(
    there: Place, lack: str, error: type[Exception], code: str
) -> None:
    there.world.lacks["*", "on-demand"] = "quota" if lack == "quota" else "capacity"
    pool = await there.open(Asg, group="llm", launch="instances")
    with pytest.raises(error) as raised:
        await pool.resize(5, await status(pool))
    for zone in (A, B):
        assert f"p5.48xlarge, {zone}, on-demand: {code}" in str(raised.value)


async def test_a_pool_of_one_zone_asks_no_other(there: Place) -> None:
    there.world.lacks[A, "on-demand"] = "capacity"
    pool = await there.open(Asg, group="llm", launch="instances", zone=A)
    with pytest.raises(OutOfCapacity):
        await pool.resize(3, await status(pool))
    assert [g["AvailabilityZones"] for g in there.endpoint.given[LAUNCH]] == [[A]]


async def test_what_a_group_does_not_show_yet_is_not_launched_again(there: Place) -> None:
    pool = await there.open(Asg, group="llm", launch="instances")
    before: list[web.Response] = []

    def first(_: str, whole: web.Response) -> web.Response:
        before.append(whole)
        return web.Response(body=before[0].body, content_type="text/xml")

    there.endpoint.spoils["autoscaling:DescribeAutoScalingGroups"] = first
    seen = await status(pool)
    await pool.resize(5, seen)
    with pytest.raises(Conflict, match="does not show 3 instances"):
        await pool.resize(5, await status(pool))
    there.endpoint.clear()
    await pool.resize(6, await status(pool))
    assert there.world.groups["llm"].desired == 6


async def test_a_zone_that_the_group_has_not_is_misconfigured(there: Place) -> None:
    pool = await there.open(Asg, group="llm", launch="instances", zone="us-east-1f")
    with pytest.raises(Misconfigured, match="its zones are us-east-1a, us-east-1b"):
        await pool.resize(3, await status(pool))
    assert there.endpoint.count(LAUNCH) == 0


async def test_weighted_instances_count_by_their_weight_and_are_not_launched_one_by_one(there: Place) -> None:
    for instance in there.world.groups["llm"].instances:
        instance.weight = 2
    there.world.groups["llm"].desired = 4
    pool = await there.open(Asg, group="llm", launch="instances")
    found = await status(pool)
    assert (found.desired, found.ready, found.pending) == (4, 4, 0)
    with pytest.raises(Misconfigured, match="weighs its instances"):
        await pool.resize(6, found)


async def test_what_a_mixed_group_and_a_reservation_need_is_asked_for_too(there: Place) -> None:
    there.world.groups["mixed"] = Group("mixed", (A, B), spot_share=0.5)
    there.world.reservations.append({"CapacityReservationId": "cr-00000001", "State": "active"})
    plain = await there.open(Asg, group="llm")
    both = await there.open(Asg, group="mixed", reservation=("cr-00000001",))
    await status(plain)
    await status(both)
    more = {p.action for p in await both.permits()} - {p.action for p in await plain.permits()}
    assert more == {"ec2:DescribeInstances", "ec2:DescribeCapacityReservations"}


async def test_a_launch_whose_answer_was_lost_is_said_again_under_its_token_only(there: Place) -> None:
    pool = await there.open(Asg, group="llm", launch="instances", zone=A)
    there.endpoint.faults[LAUNCH] = Refusal("InternalFailure", "Something went wrong.", 500)
    with pytest.raises(Unavailable):
        await pool.resize(3, await status(pool))
    there.endpoint.faults.clear()
    await pool.resize(3, await status(pool))
    await pool.resize(2, await status(pool))
    await pool.resize(3, await status(pool))
    lost, again, later = (g["ClientToken"] for g in there.endpoint.given[LAUNCH])
    assert lost == again
    assert later != again
    assert there.world.groups["llm"].desired == 3


async def test_a_group_without_a_warm_pool_gets_one(there: Place) -> None:
    pool = await there.open(AsgWarmPool, group="llm", tier="slept", serves=PoolName("gpus"), state="hibernated")
    assert (await status(pool)).desired == 0
    await pool.resize(2, await status(pool))
    (put,) = there.endpoint.given["autoscaling:PutWarmPool"]
    assert (put["MinSize"], put["MaxGroupPreparedCapacity"], put["PoolState"]) == (2, 2, "Hibernated")
    there.world.ready(there.warm, 1)
    found = await status(pool)
    assert (found.desired, found.ready, found.pending) == (2, 1, 1)


async def test_a_warm_pool_that_follows_the_group_is_as_large_as_aws_makes_it(there: Place) -> None:
    there.world.groups["llm"].warm = Flock("warm", (A,), least=1)
    pool = await there.open(AsgWarmPool, group="llm", tier="warm_node", serves=PoolName("gpus"))
    assert (await status(pool)).desired == 8, "the group's maximum of 10 less the 2 that it has"
    there.world.groups["llm"].desired = 4
    moved = await status(pool)
    assert (moved.desired, moved.other_writer) == (6, None), "it moved with the group, by nobody's hand"
    await pool.resize(2, moved)
    assert (await status(pool)).desired == 2
    there.warm.least = there.world.groups["llm"].prepared = 3
    assert "set warm pool of Auto Scaling group llm to 3" in str((await status(pool)).other_writer)


async def test_the_group_takes_from_its_warm_pool_and_aws_fills_it_again(there: Place) -> None:
    group = there.world.groups["llm"]
    group.warm, group.prepared = Flock("warm", (A, B), least=2), 2
    there.world.settle()
    there.world.ready(group.warm, 2)
    serving = await there.open(Asg, group="llm")
    warm = await there.open(AsgWarmPool, "warm", group="llm", tier="warm_node", serves=PoolName("gpus"))
    await serving.resize(4, await status(serving))
    assert (await status(serving)).ready == 4
    drained = await status(warm)
    assert (drained.desired, drained.ready, drained.pending) == (2, 0, 2)
    there.world.ready(group.warm, 2)
    assert (await status(warm)).ready == 2


async def test_a_warm_pool_does_not_serve(there: Place) -> None:
    with pytest.raises(Misconfigured, match="warm_node or slept"):
        await there.open(AsgWarmPool, group="llm")


async def test_a_throttle_holds_polling_back_and_not_what_was_decided(there: Place) -> None:
    pool = await there.open(Asg, group="llm")
    seen = await status(pool)
    describe = "autoscaling:DescribeAutoScalingGroups"
    there.endpoint.faults[describe] = Refusal("Throttling", "Rate exceeded", retry_after_s=30)
    with pytest.raises(Throttled):
        await pool.status()
    there.endpoint.faults.clear()
    asked = there.endpoint.count(describe)
    with pytest.raises(Throttled):
        await pool.status()
    assert there.endpoint.count(describe) == asked, "polling gives way"
    await pool.resize(4, seen)
    assert there.world.groups["llm"].desired == 4
