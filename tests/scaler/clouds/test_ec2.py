"""EC2 Fleets, instances of instant fleets, and capacity reservations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from policies.model import PoolPart
from scaler.clock import SystemClock
from scaler.clouds.interruptions import InterruptionNotice, board
from scaler.config.kinds.aws_pools import Asg, Ec2Fleet, Ec2InstantFleet
from scaler.ports import Conflict, Misconfigured, OutOfCapacity, OutOfQuota, Unavailable
from tests.scaler.clouds.aws_place import FLEET, A, AwsEnvironment, B, aws_environment, read_status
from tests.servers.aws import KEYS, isolate
from tests.servers.aws_wire import Refusal
from tests.servers.aws_world import Fleet, Group

CREATE_FLEET = "ec2:CreateFleet"
BOUGHT: dict[str, Any] = {"launch_template": "llm", "subnets": ("subnet-a", "subnet-b"), "market": "spot"}


@pytest.fixture
async def env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[AwsEnvironment]:
    isolate(monkeypatch, tmp_path, **KEYS)
    async with aws_environment() as environment:
        yield environment


def fleet(env: AwsEnvironment, number: int = 1) -> str:
    name = f"fleet-{number:08x}-2222-3333-4444-555555555555"
    new_fleet = env.world.fleets[name] = Fleet(name, (A, B), market="spot", desired=2)
    env.world.ready(new_fleet, 2)
    return name


@pytest.mark.slow
async def test_a_fleet_s_parts_are_by_zone_and_market(env: AwsEnvironment) -> None:
    pool = await env.open(Ec2Fleet, fleet=fleet(env), market="spot")
    assert (await read_status(pool)).parts == (PoolPart(A, "spot", 1), PoolPart(B, "spot", 1))


@pytest.mark.slow
async def test_unknown_fleet_id_does_not_fail_the_other_fleets(env: AwsEnvironment) -> None:
    pools = [await env.open(Ec2Fleet, fleet=fleet(env, i)) for i in range(1, 8)]
    pools.insert(3, await env.open(Ec2Fleet, fleet=FLEET))
    statuses = await asyncio.gather(*map(read_status, pools), return_exceptions=True)
    wrong = statuses.pop(3)
    assert isinstance(wrong, Misconfigured)
    assert FLEET in str(wrong)
    assert [getattr(s, "ready", s) for s in statuses] == [2] * 7
    assert env.endpoint.count("ec2:DescribeFleets") == 7, "8 ids, 4 and 4, 2 and 2, 1 and 1"


async def test_a_fleet_that_is_being_modified_is_a_conflict(env: AwsEnvironment) -> None:
    name = fleet(env)
    pool = await env.open(Ec2Fleet, fleet=name, market="spot")
    observed = await read_status(pool)
    env.world.fleets[name].state = "modifying"
    with pytest.raises(Conflict, match="one change at a time"):
        await pool.resize(3, observed)
    env.world.fleets[name].state = "deleted_running"
    with pytest.raises(Misconfigured, match="deleted_running"):
        await pool.status()


async def test_instance_listed_by_the_fleet_only_is_not_ready(env: AwsEnvironment) -> None:
    name = fleet(env)
    pool = await env.open(Ec2Fleet, fleet=name, market="spot")
    listed: list[web.Response] = []

    def first(_: str, whole: web.Response) -> web.Response:
        listed.append(whole)
        return web.Response(body=listed[0].body, content_type="text/xml")

    env.endpoint.spoils["ec2:DescribeFleetInstances"] = first
    assert (await read_status(pool)).ready == 2
    env.world.shortages["*", "spot"] = "capacity"
    env.world.remove([env.world.fleets[name].instances[0].id])
    status = await read_status(pool)
    assert (status.desired, status.ready) == (2, 1)
    assert status.shortfall is not None


@pytest.mark.parametrize(
    ("market", "default", "spot"), [("spot", "spot", 3), ("on_demand", "on-demand", 0), ("reserved", None, None)]
)
async def test_a_fleet_is_resized_in_the_pool_s_market(
    env: AwsEnvironment, market: str, default: str | None, spot: int | None
) -> None:
    pool = await env.open(Ec2Fleet, fleet=fleet(env), market=market)
    await pool.resize(3, await read_status(pool))
    (given,) = env.endpoint.given["ec2:ModifyFleet"]
    capacity = given["TargetCapacitySpecification"]
    assert capacity["TotalTargetCapacity"] == 3
    assert (capacity.get("DefaultTargetCapacityType"), capacity.get("SpotTargetCapacity")) == (default, spot)
    assert given["ExcessCapacityTerminationPolicy"] == "termination"


async def test_instance_not_yet_listed_by_ec2_is_not_launched_again(env: AwsEnvironment) -> None:
    env.world.hidden_s = 3600.0
    pool = await env.open(Ec2InstantFleet, **BOUGHT)
    await pool.resize(3, await read_status(pool))
    status = await read_status(pool)
    assert (status.desired, status.ready, status.pending) == (3, 0, 3)
    await pool.resize(3, status)
    assert len(env.world.standalone) == 3


async def test_terminated_instance_still_listed_by_ec2_is_not_counted(env: AwsEnvironment) -> None:
    pool = await env.open(Ec2InstantFleet, **BOUGHT)
    await pool.resize(2, await read_status(pool))
    instances = list(env.world.standalone)
    await pool.resize(1, await read_status(pool))
    env.world.standalone[:] = instances  # EC2 still lists the terminated instance
    assert (await read_status(pool)).desired == 1
    await pool.resize(1, await read_status(pool))
    assert env.endpoint.count("ec2:TerminateInstances") == 1


async def test_lost_launch_is_repeated_under_its_token_first(
    env: AwsEnvironment,
) -> None:
    env.world.hidden_s = 3600.0
    pool = await env.open(Ec2InstantFleet, **BOUGHT)
    observed = await read_status(pool)
    env.endpoint.spoils[CREATE_FLEET] = lambda _, whole: type(whole)(
        body=b"<CreateFleetResponse><fl", content_type="text/xml"
    )
    with pytest.raises(Unavailable):
        await pool.resize(3, observed)
    assert len(env.world.standalone) == 3, "the launch was applied, and its response lost"
    env.endpoint.clear()
    await pool.resize(5, await read_status(pool))
    first, repeated, further = env.endpoint.given[CREATE_FLEET]
    assert first == repeated
    assert further["TargetCapacitySpecification"]["TotalTargetCapacity"] == 2
    assert len(env.world.standalone) == 5


async def test_partial_launch_is_kept_and_a_failed_one_is_out_of_capacity(env: AwsEnvironment) -> None:
    env.world.shortages[A, "spot"] = "capacity"
    pool = await env.open(Ec2InstantFleet, **BOUGHT)
    await pool.resize(2, await read_status(pool))
    assert {i.zone for i in env.world.standalone} == {B}
    env.world.shortages[B, "spot"] = "quota"
    with pytest.raises(OutOfCapacity) as raised:
        await pool.resize(4, await read_status(pool))
    assert f"{A}, spot: UnfulfillableCapacity" in str(raised.value)
    assert f"{B}, spot: MaxSpotInstanceCountExceeded" in str(raised.value)
    env.world.shortages[A, "spot"] = "quota"
    with pytest.raises(OutOfQuota):
        await pool.resize(4, await read_status(pool))
    assert (await read_status(pool)).desired == 2


async def test_instances_with_a_pending_interruption_are_removed_first(env: AwsEnvironment) -> None:
    pool = await env.open(Ec2InstantFleet, **BOUGHT)
    await pool.resize(4, await read_status(pool))
    for instance in env.world.standalone:
        instance.up = True
    noticed = env.world.standalone[2].id
    (await board(env.context)).pin(InterruptionNotice(noticed, "interruption", SystemClock().now()))
    assert (await read_status(pool)).interruption_pending == 1
    await pool.resize(3, await read_status(pool))
    assert noticed not in {i.id for i in env.world.standalone}


async def test_pools_do_not_count_each_other_s_instances(env: AwsEnvironment) -> None:
    first_pool, second_pool = (
        await env.open(Ec2InstantFleet, **BOUGHT),
        await env.open(Ec2InstantFleet, "other", **BOUGHT),
    )
    await first_pool.resize(2, await read_status(first_pool))
    await second_pool.resize(1, await read_status(second_pool))
    env.endpoint.requests.clear()
    assert [s.desired for s in await asyncio.gather(read_status(first_pool), read_status(second_pool))] == [2, 1]
    assert env.endpoint.count("ec2:DescribeInstances") == 1


def reservation(number: int, **further: Any) -> dict[str, Any]:
    return {"CapacityReservationId": f"cr-{number:08x}", "State": "active", "TotalInstanceCount": 3, **further}


def ending(in_s: float) -> datetime:
    return datetime.fromtimestamp(SystemClock().now() + in_s, UTC)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reservations", "held"),
    [
        pytest.param([reservation(1)], 3, id="active"),
        pytest.param([reservation(1), reservation(2, TotalInstanceCount=2)], 5, id="two"),
        pytest.param([reservation(1, State="scheduled")], 0, id="not there yet"),
        pytest.param([reservation(1, State="expired")], 0, id="over"),
        pytest.param([reservation(1, ReservationType="capacity-block", EndDate=ending(7200))], 3, id="block"),
        pytest.param([reservation(1, ReservationType="capacity-block", EndDate=ending(1200))], 0, id="block that ends"),
        pytest.param([reservation(1, EndDate=ending(1200))], 3, id="reservation that ends"),
    ],
)
async def test_reservations_report_the_paid_instances(
    env: AwsEnvironment, reservations: list[dict[str, Any]], held: int
) -> None:
    env.world.groups["llm"] = Group("llm", (A,), desired=1)
    env.world.reservations += reservations
    pool = await env.open(Asg, group="llm", reservation=tuple(r["CapacityReservationId"] for r in reservations))
    assert (await read_status(pool)).reserved == held
    assert env.endpoint.count("ec2:DescribeCapacityReservations") == 1


async def test_missing_reservation_is_misconfigured(env: AwsEnvironment) -> None:
    env.world.groups["llm"] = Group("llm", (A,), desired=1)
    pool = await env.open(Asg, group="llm", reservation=("cr-00000009",))
    with pytest.raises(Misconfigured, match="cr-00000009"):
        await pool.status()
    assert (await read_status(await env.open(Asg, group="llm"))).reserved is None


async def test_account_quota_error_is_out_of_quota(env: AwsEnvironment) -> None:
    pool = await env.open(Ec2InstantFleet, **BOUGHT)
    observed = await read_status(pool)
    env.endpoint.faults[CREATE_FLEET] = Refusal("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
    with pytest.raises(OutOfQuota):
        await pool.resize(1, observed)
