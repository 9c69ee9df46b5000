"""Billing: each cloud's rule by hand, every category, and that the total is the integral of the price."""

from __future__ import annotations

from typing import Any

import pytest

from simulators.world.infrastructure.billing import Bill, Billing, by_market
from simulators.world.infrastructure.market import InterruptionNotices, NodeHeadroom, PoolOffer, ZoneOffer
from simulators.world.infrastructure.node_lifecycle import Phase, StartUp
from simulators.world.infrastructure.pool import FleetPool
from simulators.world.infrastructure.units import COST_PER_MICRO_USD, micro_usd, to_ps
from tests.simulators.world.infrastructure.worlds import FakeEngines, World, offer

PER_S = 1000
"""Price of a node of the worlds. Micro-dollars per second."""


def parts_micro_usd(bill: Bill) -> dict[str, int]:
    """Return the bill's parts that are not zero, in micro-dollars."""
    parts = {name: getattr(bill, name) for name in Bill.__slots__ if isinstance(getattr(bill, name), int)}
    return {name: micro_usd(cost) for name, cost in parts.items() if cost}


@pytest.mark.parametrize(
    ("ran_s", "charged_s"), [(0, 60), (10, 60), (60, 60), (60.001, 61), (3599.5, 3600)], ids=lambda v: f"{v}"
)
def test_a_run_is_charged_per_second_with_a_minimum_of_a_minute(ran_s: float, charged_s: float) -> None:
    assert Billing().charged_ps(to_ps(ran_s)) == to_ps(charged_s)


def test_a_bill_splits_serving_time_into_starting_used_and_idle() -> None:
    world = World(offer())
    world.resize(2)
    world.until(285)
    world.resize(1)
    world.until(385)
    assert parts_micro_usd(world.bill()) == {
        "starting": 2 * 185 * PER_S,
        "used": 150 * PER_S,  # the engines are busy for half of their serving time
        "idle": 150 * PER_S,
    }


def test_draining_is_charged_until_empty_and_rounding_is_listed_separately() -> None:
    world = World(offer(), begin=1)
    world.engines.left_s = {0: 20.25}
    world.until(100)
    world.resize(0)
    world.until(500)
    bill = world.bill()
    assert parts_micro_usd(bill) == {"used": 50_000, "idle": 50_000, "draining": 20_250, "rounding": 750}
    assert bill.total_micro_usd == 121 * PER_S


def test_a_start_cancelled_by_scale_in_is_billed_as_lost() -> None:
    world = World(offer())
    world.resize(1)
    world.until(10)
    world.resize(0)
    assert parts_micro_usd(world.bill()) == {"lost": 10 * PER_S, "rounding": 50 * PER_S}


@pytest.mark.parametrize(
    ("cloud", "at_s", "paid"),
    [
        ("aws", 3599, {"waived": 3_599_000}),
        ("aws", 3600, {"used": 1_800_000, "idle": 1_800_000}),
        ("gcp", 59, {"waived": 59_000}),
        ("gcp", 60, {"used": 30_000, "idle": 30_000}),
        ("azure", 20, {"used": 10_000, "idle": 10_000, "rounding": 40_000}),
    ],
)
def test_an_early_interruption_is_free_where_the_cloud_waives_it(cloud: str, at_s: float, paid: dict[str, int]) -> None:
    world = World(offer(market="spot", cloud=cloud, notices=InterruptionNotices(), replace=False), begin=1)
    world.pool.interrupt(0, to_ps(at_s), 0)
    world.until(5000)
    assert parts_micro_usd(world.bill()) == paid


def test_a_node_released_at_the_interruption_notice_is_billed() -> None:
    world = World(offer(market="spot", cloud="aws", replace=False), begin=1)
    world.pool.interrupt(0, to_ps(1000), 0)
    world.until(5000)
    assert parts_micro_usd(world.bill()) == {"used": 440_000, "idle": 440_000}


def test_a_node_that_exceeds_its_grace_period_is_billed() -> None:
    world = World(offer(market="spot", cloud="aws", grace_s=40.0), begin=1)
    world.engines.left_s = {0: 999.0}
    world.until(100)
    world.resize(0)
    world.until(500)
    assert parts_micro_usd(world.bill()) == {"used": 50_000, "idle": 50_000, "draining": 40_000}


def test_an_on_demand_node_failure_is_billed() -> None:
    world = World(offer(replace=False), begin=1)
    world.pool.interrupt(0, to_ps(1000), 0)
    world.until(5000)
    assert world.events() == [(1000.0, "failed", 0, 0)]
    assert parts_micro_usd(world.bill()) == {"used": 500_000, "idle": 500_000}


def test_reserved_nodes_are_billed_whether_used_or_not() -> None:
    world = World(offer(market="reserved", zones={"z": ZoneOffer(capacity=3)}), begin=1)
    world.until(100.0005)
    bill = world.bill()
    assert bill.total == 3 * 3_600_000 * to_ps(100.0005)
    assert parts_micro_usd(bill) == {"used": 50_000, "idle": 50_000, "unused": 200_000}


@pytest.mark.parametrize("tier", ["awake_spare", "slept", "warm_node"])
def test_headroom_that_holds_a_node_is_billed_as_a_node(tier: str) -> None:
    world = World(offer(headroom=NodeHeadroom(**{tier: 2})), begin=0)
    world.until(500)
    assert parts_micro_usd(world.bill()) == {"headroom": 2 * 500 * PER_S}


def test_a_stopped_node_is_billed_for_its_disk_and_for_each_run() -> None:
    quick = StartUp(
        node=Phase(median_s=5), image=Phase(median_s=5), weights=Phase(median_s=5), restart=Phase(median_s=5)
    )
    world = World(offer(headroom=NodeHeadroom(stopped=1), disk_usd_per_hour=0.036, start_up=quick))
    world.pool.advance(0)
    world.until(110)
    assert parts_micro_usd(world.bill()) == {"headroom": 10 * PER_S + 100 * 10, "rounding": 50 * PER_S}
    world.resize(1)
    world.until(111)
    assert parts_micro_usd(world.bill())["rounding"] == (50 + 59 + 59) * PER_S  # the two runs, and the replacement's


def test_each_zone_has_its_own_price() -> None:
    zones = {"a": ZoneOffer(price_usd_per_hour=7.2), "b": ZoneOffer()}
    world = World(offer(zones=zones), begin=2)
    world.until(100)
    assert world.bill().total_micro_usd == (2 + 1) * 100 * PER_S


def test_a_price_of_zero_must_be_explicit() -> None:
    world = World(offer(price_usd_per_hour=0), begin=1)
    world.until(100)
    assert world.bill().total == 0
    with pytest.raises(ValueError, match=r"pool chat-spot: price_usd_per_hour is missing for zone zone-a"):
        FleetPool("chat-spot", offer(price_usd_per_hour=None), FakeEngines(), model=0, seed=1)


def test_cost_is_rounded_half_up_once() -> None:
    assert [micro_usd(n * COST_PER_MICRO_USD // 2) for n in (0, 1, 2, 3)] == [0, 1, 1, 2]


def test_bills_are_summed_by_market() -> None:
    bills = [Bill("a", "spot", used=1), Bill("b", "on_demand", idle=2, waived=9), Bill("c", "spot", lost=4)]
    assert list(by_market(bills).items()) == [("on_demand", 2), ("spot", 5)]


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"zones": {}}, "zones must name"),
        ({"price_usd_per_hour": 0.0000001}, "price_usd_per_hour of zone zone-a is 1e-07: must be a whole number"),
        ({"market": "reserved"}, "zones zone-a: a reserved pool has a fixed capacity"),
        ({"headroom": NodeHeadroom(stopped=1)}, "disk_usd_per_hour is required"),
        (
            {"market": "spot", "headroom": NodeHeadroom(stopped=1), "disk_usd_per_hour": 0.01},
            "headroom stopped must be 0",
        ),
        (
            {"notices": InterruptionNotices(notice_s=120, rebalance_s=60)},
            "notices.rebalance_s must be above notice_s, 120",
        ),
    ],
    ids=["no zone", "a price too fine", "reserved without end", "disk", "stopped spot", "recommendation after notice"],
)
def test_an_invalid_offer_is_rejected_with_its_key(settings: dict[str, Any], key: str) -> None:
    with pytest.raises(ValueError, match=f"pool p: .*{key}"):
        FleetPool("p", offer(**settings), FakeEngines(), model=0, seed=1)


def test_price_is_a_required_setting() -> None:
    with pytest.raises(TypeError, match="price_usd_per_hour"):
        PoolOffer(model="m")  # type: ignore[call-arg]
