"""Failures that a platform reports after it accepted a size, replicas by zone, and reservations."""

from __future__ import annotations

from typing import Any

import pytest

from policies.model import Fresh, PoolName, PoolPart, PoolStatus, Shortfall, Tick
from scaler.config.load import workload_from
from simulators.experiments import run
from simulators.world.infrastructure.market import PoolOffer, ZoneOffer
from simulators.world.infrastructure.pending import Failures
from simulators.world.infrastructure.supply import SupplyStep
from simulators.world.infrastructure.units import to_ps
from simulators.world.queue import SimulatedQueue
from tests.simulators.world import makers
from tests.simulators.world.infrastructure.worlds import World, offer

MORE_NODES = SupplyStep(at_s=130.0, nodes=9)


def limited_world(failures: Failures | None, *steps: SupplyStep, begin: int = 2, **settings: Any) -> World:
    """Return a world whose zone has two nodes, until `steps` change that."""
    return World(offer(zones={"z": ZoneOffer(capacity=2, steps=steps)}, failures=failures, **settings), begin=begin)


def state(world: World) -> tuple[int, int, int, float | None]:
    """Return desired, pending and failed replicas, and the time of the shortfall."""
    status = world.pool.status(world.now_ps)
    return status.desired, status.pending, status.failed, status.shortfall.at if status.shortfall else None


def test_without_failures_a_pool_reports_no_shortfall() -> None:
    world = limited_world(None)
    world.resize(4)
    world.until(3600)
    assert world.pool.status(world.now_ps) == PoolStatus(4, 2)


def test_replicas_without_a_node_are_pending_and_then_fail_with_a_reason() -> None:
    world = limited_world(Failures(after_s=60.0), market="spot")
    world.resize(4)
    world.until(59.999)
    assert state(world) == (4, 2, 0, None)
    world.until(60)
    shortfall = Shortfall(60.0, "no spot capacity in z", quota=False)
    assert world.pool.status(world.now_ps) == PoolStatus(4, 2, failed=2, shortfall=shortfall)
    world.bill()


def test_replicas_that_get_a_node_before_the_deadline_do_not_fail() -> None:
    world = limited_world(Failures(after_s=131.0), MORE_NODES)
    world.resize(4)
    world.until(140)
    assert state(world) == (4, 2, 0, None)
    assert world.pool.waiting == 0


def test_a_retrying_group_reports_the_failure_of_each_retry() -> None:
    world = limited_world(Failures(after_s=60.0, retry_s=50.0), SupplyStep(at_s=130.0, nodes=3))
    world.resize(4)
    world.until(129)
    assert state(world) == (4, 0, 2, 110.0)
    world.until(159)
    assert state(world) == (4, 0, 2, 110.0), "a node that becomes available between two attempts is found by the next"
    world.until(160)
    assert state(world) == (4, 1, 1, 160.0)
    world.until(1000)
    assert state(world) == (4, 0, 1, 960.0)
    assert world.sizes() == (4, 3)
    world.bill()


def test_later_requests_fail_at_a_later_time() -> None:
    world = limited_world(Failures(after_s=60.0, retry_s=1000.0))
    world.resize(3)
    world.until(30)
    world.resize(5)
    world.until(60)
    assert state(world) == (5, 2, 1, 60.0)
    world.until(90)
    assert state(world) == (5, 0, 3, 90.0)


def test_an_agent_pool_retries_failed_replicas_only_after_a_larger_resize() -> None:
    world = limited_world(Failures(after_s=60.0, then="stay"), MORE_NODES)
    world.resize(4)
    world.until(1000)
    assert state(world) == (4, 0, 2, 60.0), "nodes are available, and the pool does not retry"
    assert world.sizes() == (4, 2)
    world.resize(5)
    assert state(world) == (5, 3, 0, None)
    world.until(1200)
    assert world.sizes() == (5, 5)
    world.bill()


def test_a_repeated_attempt_fails_again_after_its_delay() -> None:
    world = limited_world(Failures(after_s=60.0, then="stay"))
    world.resize(4)
    world.until(100)
    world.resize(5)
    world.until(159)
    assert state(world) == (5, 3, 0, None)
    world.until(160)
    assert state(world) == (5, 0, 3, 160.0)


def test_a_node_group_rolls_back_and_keeps_its_reason_until_resized() -> None:
    world = limited_world(Failures(after_s=60.0, then="roll_back"))
    world.resize(4)
    world.until(60)
    assert state(world) == (2, 0, 0, 60.0)
    world.until(500)
    assert state(world) == (2, 0, 0, 60.0)
    world.resize(3)
    assert state(world) == (3, 1, 0, None)
    world.until(560)
    assert state(world) == (2, 0, 0, 560.0)
    world.resize(1)
    assert state(world) == (1, 0, 0, None)
    world.bill()


def test_scale_in_removes_failed_replicas_first() -> None:
    world = limited_world(Failures(after_s=60.0, retry_s=1000.0))
    world.resize(4)
    world.until(50)
    world.resize(5)
    world.until(100)
    assert state(world) == (5, 1, 2, 60.0)
    world.resize(4)
    assert state(world) == (4, 1, 1, 60.0)
    world.resize(3)
    assert state(world) == (3, 1, 0, None), "the shortfall ends with the failed replicas"
    world.resize(2)
    assert state(world) == (2, 0, 0, None)
    assert world.engines.drained == {}


def test_an_interrupted_replica_without_a_replacement_counts_as_failed() -> None:
    world = World(
        offer(
            market="spot",
            on_shortage="refuse",
            failures=Failures(after_s=60.0),
            zones={"z": ZoneOffer(capacity=2, steps=(SupplyStep(at_s=500.0, nodes=1),))},
        ),
        begin=2,
    )
    world.until(1000)
    assert state(world) == (2, 0, 1, 980.0)


def test_an_accepted_size_above_the_quota_fails_later_as_a_quota_error() -> None:
    zones = {"z": ZoneOffer()}
    world = World(offer(zones=zones, quota=3, failures=Failures(after_s=60.0, quota=True)), begin=2)
    world.resize(5)
    world.until(60)
    shortfall = Shortfall(60.0, "the quota of 3 nodes is exhausted: request a quota increase", quota=True)
    assert world.pool.status(world.now_ps) == PoolStatus(5, 2, failed=2, shortfall=shortfall)
    world.resize(0)
    world.resize(3)
    world.until(300)
    assert state(world) == (3, 0, 0, None)
    world.bill()


def test_shortfall_times_use_the_world_clock() -> None:
    failures = Failures(after_s=60.0)
    pool = makers.offer(zones={"z": ZoneOffer(capacity=1)}, failures=failures)
    world = makers.world(makers.trace((0.0, 1, 1)), pool=pool, replicas=2, epoch_s=1_800_000_000.0)
    world.run_until(70 * 10**12)
    shortfall = world.status(makers.POOL).shortfall
    assert shortfall is not None
    assert shortfall.at == 1_800_000_060.0


@pytest.mark.parametrize(
    ("settings", "shortfall"),
    [
        (
            {"failures": Failures(quota=True), "on_shortage": "refuse"},
            "failures quota: true requires on_shortage: wait",
        ),
        ({"reports": ("reserved",)}, "reports reserved requires market: reserved, not on_demand"),
    ],
    ids=["a quota told twice", "a reservation of nothing"],
)
def test_a_contradictory_offer_is_rejected(settings: dict[str, Any], shortfall: str) -> None:
    with pytest.raises(ValueError, match=f"pool pool-a: {shortfall}"):
        World(offer(**settings))


# --- other contents of the status


def test_replicas_are_reported_by_zone_where_the_platform_reports_them() -> None:
    zones = {"b": ZoneOffer(capacity=2), "a": ZoneOffer(), "c": ZoneOffer(capacity=0)}
    world = World(offer(zones=zones, reports=("parts",), market="spot", on_notice="serve"), begin=3)
    world.resize(6)
    world.pool.interrupt(1, to_ps(130), world.now_ps)
    world.until(20)
    parts = world.pool.status(world.now_ps).parts
    assert parts == (PoolPart("b", "spot", 2, 0), PoolPart("a", "spot", 1, 3, interruption_pending=1))
    assert World(offer(zones=zones), begin=3).pool.status(0).parts == ()


def test_a_reservation_reports_its_capacity_where_it_is_readable() -> None:
    settings: dict[str, Any] = {
        "market": "reserved",
        "zones": {"a": ZoneOffer(capacity=3), "b": ZoneOffer(capacity=2)},
    }
    assert World(offer(**settings, reports=("reserved",)), begin=1).pool.status(0).reserved == 5
    assert World(offer(**settings), begin=1).pool.status(0).reserved is None


# --- a whole run


@pytest.mark.parametrize("then", ["retry", "stay", "roll_back"])
def test_a_workload_replaces_replicas_that_a_platform_reports_as_failed(then: Any) -> None:
    """The cheap pool accepts every size but provides one replica; the expensive one replaces the reported failures."""
    failures = Failures(after_s=45.0, then=then, retry_s=45.0)
    pools: dict[str, PoolOffer] = {
        "cheap": makers.offer(zones={"z": ZoneOffer(capacity=1)}, failures=failures),
        "dear": makers.offer(price_usd_per_hour=7.2),
    }
    scaled = makers.document("sqs", pools=("cheap", "dear"))
    for name, offered in pools.items():
        scaled["pools"][name]["price_usd_per_hour"] = offered.price_usd_per_hour
    scenario = makers.case(
        workload_from(scaled), pools, queue=SimulatedQueue(), initial_replicas={PoolName("cheap"): 1}
    )
    ticks: list[Tick] = []
    run.simulate(scenario, 1, makers.trace(*[(0.5 * k, 100, 1000) for k in range(400)]), record=[ticks.append])
    cheap_statuses = [(t, r.value) for t in ticks if isinstance(r := t.observation.pools[PoolName("cheap")], Fresh)]
    first = next(t for t, status in cheap_statuses if status.shortfall is not None)
    assert first.at - ticks[0].at <= 75.0
    expensive_tick = next(t for t in ticks if t.decision.targets.get(PoolName("dear"), 0) > 0)
    assert first.at <= expensive_tick.at <= first.at + 15.0
    assert max(t.decision.targets[PoolName("dear")] for t in ticks) == 3
