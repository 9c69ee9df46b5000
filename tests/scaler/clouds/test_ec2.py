"""What is peculiar to EC2 fleets, to instances bought by instant ones, and to capacity reservations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from policies.model import Part
from scaler.clock import SystemClock
from scaler.clouds.interruptions import Notice, board
from scaler.config.kinds.aws_pools import Asg, Ec2Fleet, Ec2InstantFleet
from scaler.ports import Conflict, Misconfigured, OutOfCapacity, OutOfQuota, Unavailable
from tests.scaler.clouds.aws_place import FLEET, A, B, Place, place, status
from tests.servers.aws import KEYS, isolate
from tests.servers.aws_wire import Refusal
from tests.servers.aws_world import Fleet, Group

BUY = "ec2:CreateFleet"
BOUGHT: dict[str, Any] = {"launch_template": "llm", "subnets": ("subnet-a", "subnet-b"), "market": "spot"}


@pytest.fixture
async def there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[Place]:
    isolate(monkeypatch, tmp_path, **KEYS)
    async with place() as found:
        yield found


def fleet(there: Place, number: int = 1) -> str:
    name = f"fleet-{number:08x}-2222-3333-4444-555555555555"
    made = there.world.fleets[name] = Fleet(name, (A, B), market="spot", desired=2)
    there.world.ready(made, 2)
    return name


async def test_a_fleet_s_parts_are_told_by_zone_and_market(there: Place) -> None:
    pool = await there.open(Ec2Fleet, fleet=fleet(there), market="spot")
    assert (await status(pool)).parts == (Part(A, "spot", 1), Part(B, "spot", 1))


async def test_a_wrong_id_does_not_spoil_the_call_for_the_others(there: Place) -> None:
    pools = [await there.open(Ec2Fleet, fleet=fleet(there, i)) for i in range(1, 8)]
    pools.insert(3, await there.open(Ec2Fleet, fleet=FLEET))
    found = await asyncio.gather(*map(status, pools), return_exceptions=True)
    wrong = found.pop(3)
    assert isinstance(wrong, Misconfigured)
    assert FLEET in str(wrong)
    assert [getattr(s, "ready", s) for s in found] == [2] * 7
    assert there.endpoint.count("ec2:DescribeFleets") == 7, "8 ids, 4 and 4, 2 and 2, 1 and 1"


async def test_a_fleet_that_is_being_modified_is_a_conflict(there: Place) -> None:
    name = fleet(there)
    pool = await there.open(Ec2Fleet, fleet=name, market="spot")
    seen = await status(pool)
    there.world.fleets[name].state = "modifying"
    with pytest.raises(Conflict, match="one change at a time"):
        await pool.resize(3, seen)
    there.world.fleets[name].state = "deleted_running"
    with pytest.raises(Misconfigured, match="deleted_running"):
        await pool.status()


async def test_an_instance_that_the_fleet_still_lists_and_ec2_has_no_more_does_not_serve(there: Place) -> None:
    name = fleet(there)
    pool = await there.open(Ec2Fleet, fleet=name, market="spot")
    listed: list[web.Response] = []

    def first(_: str, whole: web.Response) -> web.Response:
        listed.append(whole)
        return web.Response(body=listed[0].body, content_type="text/xml")

    there.endpoint.spoils["ec2:DescribeFleetInstances"] = first
    assert (await status(pool)).ready == 2
    there.world.lacks["*", "spot"] = "capacity"
    there.world.take([there.world.fleets[name].instances[0].id])
    found = await status(pool)
    assert (found.desired, found.ready) == (2, 1)
    assert found.shortfall is not None


@pytest.mark.parametrize(
    ("market", "default", "spot"), [("spot", "spot", 3), ("on_demand", "on-demand", 0), ("reserved", None, None)]
)
async def test_a_fleet_is_asked_for_the_pool_s_market(
    there: Place, market: str, default: str | None, spot: int | None
) -> None:
    pool = await there.open(Ec2Fleet, fleet=fleet(there), market=market)
    await pool.resize(3, await status(pool))
    (given,) = there.endpoint.given["ec2:ModifyFleet"]
    asked = given["TargetCapacitySpecification"]
    assert asked["TotalTargetCapacity"] == 3
    assert (asked.get("DefaultTargetCapacityType"), asked.get("SpotTargetCapacity")) == (default, spot)
    assert given["ExcessCapacityTerminationPolicy"] == "termination"


async def test_what_ec2_does_not_show_yet_is_not_bought_again(there: Place) -> None:
    there.world.hidden_s = 3600.0
    pool = await there.open(Ec2InstantFleet, **BOUGHT)
    await pool.resize(3, await status(pool))
    found = await status(pool)
    assert (found.desired, found.ready, found.pending) == (3, 0, 3)
    await pool.resize(3, found)
    assert len(there.world.loose) == 3


async def test_what_was_ended_is_not_counted_while_ec2_still_shows_it(there: Place) -> None:
    pool = await there.open(Ec2InstantFleet, **BOUGHT)
    await pool.resize(2, await status(pool))
    kept = list(there.world.loose)
    await pool.resize(1, await status(pool))
    there.world.loose[:] = kept  # EC2 shows what it showed before
    assert (await status(pool)).desired == 1
    await pool.resize(1, await status(pool))
    assert there.endpoint.count("ec2:TerminateInstances") == 1


async def test_a_lost_purchase_is_said_again_under_its_token_before_anything_else_is_bought(there: Place) -> None:
    there.world.hidden_s = 3600.0
    pool = await there.open(Ec2InstantFleet, **BOUGHT)
    seen = await status(pool)
    there.endpoint.spoils[BUY] = lambda _, whole: type(whole)(body=b"<CreateFleetResponse><fl", content_type="text/xml")
    with pytest.raises(Unavailable):
        await pool.resize(3, seen)
    assert len(there.world.loose) == 3, "it was done, and nobody knows"
    there.endpoint.clear()
    await pool.resize(5, await status(pool))
    first, again, more = there.endpoint.given[BUY]
    assert first == again
    assert more["TargetCapacitySpecification"]["TotalTargetCapacity"] == 2
    assert len(there.world.loose) == 5


async def test_a_part_of_a_purchase_is_kept_and_the_rest_is_out_of_capacity(there: Place) -> None:
    there.world.lacks[A, "spot"] = "capacity"
    pool = await there.open(Ec2InstantFleet, **BOUGHT)
    await pool.resize(2, await status(pool))
    assert {i.zone for i in there.world.loose} == {B}
    there.world.lacks[B, "spot"] = "quota"
    with pytest.raises(OutOfCapacity) as raised:
        await pool.resize(4, await status(pool))
    assert f"{A}, spot: UnfulfillableCapacity" in str(raised.value)
    assert f"{B}, spot: MaxSpotInstanceCountExceeded" in str(raised.value)
    there.world.lacks[A, "spot"] = "quota"
    with pytest.raises(OutOfQuota):
        await pool.resize(4, await status(pool))
    assert (await status(pool)).desired == 2


async def test_those_that_will_be_taken_go_first(there: Place) -> None:
    pool = await there.open(Ec2InstantFleet, **BOUGHT)
    await pool.resize(4, await status(pool))
    for instance in there.world.loose:
        instance.up = True
    doomed = there.world.loose[2].id
    (await board(there.context)).pin(Notice(doomed, "interruption", SystemClock().now()))
    assert (await status(pool)).interruption_pending == 1
    await pool.resize(3, await status(pool))
    assert doomed not in {i.id for i in there.world.loose}


async def test_pools_do_not_count_each_other_s_instances(there: Place) -> None:
    one, other = await there.open(Ec2InstantFleet, **BOUGHT), await there.open(Ec2InstantFleet, "other", **BOUGHT)
    await one.resize(2, await status(one))
    await other.resize(1, await status(other))
    there.endpoint.asked.clear()
    assert [s.desired for s in await asyncio.gather(status(one), status(other))] == [2, 1]
    assert there.endpoint.count("ec2:DescribeInstances") == 1


def reservation(number: int, **more: Any) -> dict[str, Any]:
    return {"CapacityReservationId": f"cr-{number:08x}", "State": "active", "TotalInstanceCount": 3, **more}


def ending(in_s: float) -> datetime:
    return datetime.fromtimestamp(SystemClock().now() + in_s, UTC)


@pytest.mark.parametrize(
    ("known", "held"),
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
async def test_reservations_tell_what_is_paid_for(there: Place, known: list[dict[str, Any]], held: int) -> None:
    there.world.groups["llm"] = Group("llm", (A,), desired=1)
    there.world.reservations += known
    pool = await there.open(Asg, group="llm", reservation=tuple(r["CapacityReservationId"] for r in known))
    assert (await status(pool)).reserved == held
    assert there.endpoint.count("ec2:DescribeCapacityReservations") == 1


async def test_a_reservation_that_is_not_there_is_misconfigured(there: Place) -> None:
    there.world.groups["llm"] = Group("llm", (A,), desired=1)
    pool = await there.open(Asg, group="llm", reservation=("cr-00000009",))
    with pytest.raises(Misconfigured, match="cr-00000009"):
        await pool.status()
    assert (await status(await there.open(Asg, group="llm"))).reserved is None


async def test_quotas_of_the_account_are_told_by_code(there: Place) -> None:
    pool = await there.open(Ec2InstantFleet, **BOUGHT)
    seen = await status(pool)
    there.endpoint.faults[BUY] = Refusal("MaxSpotInstanceCountExceeded", "Max spot instance count exceeded")
    with pytest.raises(OutOfQuota):
        await pool.resize(1, seen)
