"""Life cycle of a pool's replicas: sizes, scale-in order, drains, headroom, shortage and loss."""

from __future__ import annotations

from typing import Any

import pytest

from policies.model import PoolStatus
from scaler.ports import OutOfCapacity, OutOfQuota
from simulators.world.infrastructure.market import InterruptionNotices, NodeHeadroom, ZoneOffer
from simulators.world.infrastructure.node_lifecycle import PHASES, NodeState, Phase, StartUp, Tier
from simulators.world.infrastructure.supply import SupplyStep, constant
from simulators.world.infrastructure.units import to_ps
from simulators.world.infrastructure.zones import Zone, choose_interrupted
from tests.simulators.world.infrastructure.worlds import World, offer

FAST = StartUp(**{phase: Phase(median_s=0.001) for phase in PHASES})


def spot(*steps: tuple[float, int], begin: int = 4, capacity: int | None = None, **settings: Any) -> World:
    """Return a spot pool in one zone whose capacity changes in steps."""
    zone = ZoneOffer(capacity=capacity, steps=tuple(SupplyStep(at_s=at_s, nodes=n) for at_s, n in steps))
    return World(offer(market="spot", zones={"z": zone}, **settings), begin=begin)


def states(world: World) -> list[NodeState]:
    return [node.state for node in world.pool.ledger.nodes]


def test_a_replica_serves_once_all_start_up_phases_are_complete() -> None:
    world = World(offer())
    world.resize(2)
    assert world.sizes() == (2, 0)
    world.until(184)
    assert world.sizes() == (2, 0)
    assert [n.phase(world.now_ps) for n in world.pool.ledger.nodes] == ["ready", "ready"]
    world.until(185)
    assert world.sizes() == (2, 2)
    assert world.engines.started == {0: to_ps(185), 1: to_ps(185)}


def test_initial_replicas_serve_from_the_start() -> None:
    world = World(offer(headroom=NodeHeadroom(slept=1)), begin=3)
    assert world.sizes() == (3, 3)
    assert states(world)[0] is NodeState.RESTING


def test_a_resize_to_the_same_size_changes_nothing() -> None:
    world = World(offer(), begin=3)
    world.resize(3)
    assert world.engines.drained == {}
    assert len(world.pool.ledger.nodes) == 3


def test_scale_in_removes_waiting_then_starting_then_least_loaded_replicas() -> None:
    world = World(offer(zones={"z": ZoneOffer(capacity=6)}), begin=3)
    world.engines.load = {0: 5, 1: 2, 2: 2}
    world.resize(4)
    world.until(10)
    world.resize(7)
    assert world.pool.waiting == 1
    world.resize(6)
    assert world.pool.waiting == 0
    world.resize(4)
    assert states(world) == [NodeState.READY] * 3 + [NodeState.STARTING, NodeState.GONE, NodeState.GONE]
    world.resize(1)
    assert sorted(world.engines.drained) == [1, 2]
    assert states(world)[3] is NodeState.GONE


@pytest.mark.parametrize(("how", "gone"), [("newest", [2, 3]), ("oldest", [0, 1]), ("least_loaded", [0, 3])], ids=str)
def test_scale_in_order_follows_the_offer(how: str, gone: list[int]) -> None:
    world = World(offer(scale_in=how), begin=4)
    world.engines.load = {0: 0, 1: 9, 2: 8, 3: 0}
    world.resize(2)
    assert sorted(world.engines.drained) == gone


def test_scale_in_removes_the_newest_of_equally_loaded_replicas() -> None:
    world = World(offer(), begin=4)
    world.resize(2)
    assert sorted(world.engines.drained) == [2, 3]


def test_a_drained_replica_finishes_its_requests_and_is_billed_until_then() -> None:
    world = World(offer(), begin=1)
    world.engines.left_s = {0: 1234.5678}
    world.until(100)
    world.resize(0)
    assert world.sizes() == (0, 0)
    assert world.pool.draining() == 1
    world.until(5000)
    assert world.pool.draining() == 0
    assert world.pool.ledger.nodes[0].moves[-1] == (to_ps(100 + 1234.568), NodeState.GONE)
    assert world.engines.killed == {}
    assert world.bill().draining == 3_600_000 * to_ps(1234.568)


def test_the_end_of_the_grace_period_interrupts_remaining_requests() -> None:
    world = World(offer(grace_s=30.0), begin=2)
    world.engines.left_s = {0: 29.0, 1: 31.0}
    world.engines.load = {1: 7}
    world.resize(0)
    world.until(100)
    assert world.events() == [(30.0, "cut", 1, 7)]
    assert world.engines.killed == {1: to_ps(30)}


@pytest.mark.parametrize(
    ("tier", "after_s"), [("awake_spare", 0), ("slept", 1), ("warm_node", 35), ("stopped", 75)], ids=str
)
def test_headroom_shortens_a_start_by_its_completed_phases_and_is_refilled(tier: str, after_s: int) -> None:
    world = World(offer(headroom=NodeHeadroom(**{tier: 1}), disk_usd_per_hour=0.01), begin=0)
    world.until(1000)
    world.resize(1)
    if after_s:
        world.until(1000 + after_s - 0.001)
        assert world.sizes() == (1, 0)
    world.until(1000 + after_s)
    assert world.sizes() == (1, 1)
    world.until(2000)
    assert states(world) == [NodeState.READY, NodeState.RESTING]
    world.bill()


def test_a_node_still_being_prepared_continues_to_serving() -> None:
    world = World(offer(headroom=NodeHeadroom(warm_node=1, slept=1)))
    world.pool.advance(0)
    world.until(120)
    world.resize(1)
    world.until(185)
    assert world.sizes() == (1, 1)


def test_a_node_entering_sleep_completes_sleep_before_it_wakes() -> None:
    world = World(offer(headroom=NodeHeadroom(slept=1)))
    world.pool.advance(0)
    world.until(190)
    world.resize(1)
    world.until(196.999)
    assert world.sizes() == (1, 0)
    world.until(197)
    assert world.sizes() == (1, 1)


def test_headroom_can_be_resized() -> None:
    world = World(offer(headroom=NodeHeadroom(warm_node=2)), begin=0)
    world.pool.resize_headroom(Tier.WARM_NODE, 0, 0)
    world.pool.resize_headroom(Tier.SLEPT, 1, 0)
    assert states(world) == [NodeState.GONE, NodeState.GONE, NodeState.PREPARING]


def test_headroom_still_being_prepared_is_removed_first() -> None:
    world = World(offer(headroom=NodeHeadroom(warm_node=1)), begin=0)
    world.pool.resize_headroom(Tier.WARM_NODE, 2, 0)
    world.pool.resize_headroom(Tier.WARM_NODE, 1, 0)
    assert states(world) == [NodeState.RESTING, NodeState.GONE]


def test_a_stopped_node_holds_no_capacity_and_may_find_none() -> None:
    zones = {"z": ZoneOffer(capacity=1)}
    world = World(offer(headroom=NodeHeadroom(stopped=1), disk_usd_per_hour=0.01, zones=zones), begin=1)
    assert states(world) == [NodeState.RESTING, NodeState.READY]
    world.resize(2)
    assert world.pool.waiting == 1
    world.until(1000)
    assert states(world) == [NodeState.RESTING, NodeState.READY]
    world.bill()


def test_a_stopped_node_cannot_fail_and_a_restarted_one_can() -> None:
    zones = {"z": ZoneOffer(losses_per_node_hour=1.0)}
    world = World(offer(headroom=NodeHeadroom(stopped=1), disk_usd_per_hour=0.01, zones=zones, replace=False), begin=0)
    world.until(100 * 3600)
    assert world.events() == []
    world.resize(1)
    world.until(200 * 3600)
    assert (0, "failed") in [(node, kind) for _, kind, node, _ in world.events()]


def test_replicas_without_capacity_wait_and_start_when_it_returns() -> None:
    world = spot((100, 6), capacity=1, begin=3)
    assert (world.sizes(), world.pool.waiting) == ((3, 1), 2)
    world.until(100)
    assert (world.sizes(), world.pool.waiting) == ((3, 1), 0)
    world.until(285)
    assert world.sizes() == (3, 3)


def test_a_waiting_replica_takes_the_capacity_of_a_drained_one() -> None:
    world = World(offer(zones={"z": ZoneOffer(capacity=1)}), begin=1)
    world.engines.left_s = {0: 50.0}
    world.resize(0)
    world.resize(1)
    assert world.pool.waiting == 1
    world.until(60)
    assert world.pool.waiting == 0
    world.bill()


@pytest.mark.parametrize(("how", "desired"), [("refuse", 2), ("partial", 3)])
def test_an_out_of_capacity_error_names_the_available_replicas(how: str, desired: int) -> None:
    world = World(offer(on_shortage=how, zones={"z": ZoneOffer(capacity=3)}), begin=2)
    with pytest.raises(OutOfCapacity, match=r"pool pool-a: 4 more on_demand replicas requested in z, 1 available"):
        world.resize(6)
    assert world.sizes()[0] == desired
    world.bill()


def test_a_size_above_the_quota_is_rejected_and_changes_nothing() -> None:
    world = World(offer(quota=4), begin=3)
    with pytest.raises(OutOfQuota, match="5 nodes exceed the quota of 4"):
        world.resize(5)
    assert world.sizes() == (3, 3)
    world.resize(4)
    assert world.sizes() == (4, 3)


def test_zones_are_balanced_or_filled_in_order() -> None:
    zones = {"a": ZoneOffer(capacity=3), "b": ZoneOffer()}
    balanced, ordered = (World(offer(zones=zones, placement=p), begin=5) for p in ("balanced", "ordered"))
    assert [n.zone for n in balanced.pool.ledger.nodes] == [0, 1, 0, 1, 0]
    assert [n.zone for n in ordered.pool.ledger.nodes] == [0, 0, 0, 1, 1]


def test_an_interruption_gives_notice_drains_and_replaces_the_node() -> None:
    world = spot((1000, 3), cloud="aws", reclaim="newest")
    world.engines.left_s = {3: 30.0}
    world.until(879)
    assert world.events() == []
    world.until(880)
    assert world.events() == [(880.0, "notice", 3, 0)]
    assert world.sizes() == (4, 3)
    world.until(1000)
    assert world.events() == [(880.0, "notice", 3, 0), (1000.0, "interrupted", 4, 0)]
    assert world.pool.waiting == 1  # the replacement was placed in the shrinking zone
    world.bill()


def test_a_stream_longer_than_the_notice_is_interrupted() -> None:
    world = spot((1000, 3), cloud="gcp", reclaim="newest", replace=False)
    world.engines.left_s, world.engines.load = {3: 31.0}, {3: 2}
    world.until(1100)
    assert world.events() == [(970.0, "notice", 3, 0), (1000.0, "interrupted", 3, 2)]
    assert world.sizes() == (3, 3)
    world.bill()


def test_a_node_may_serve_until_its_interruption_without_draining() -> None:
    world = spot((1000, 3), on_notice="serve", reclaim="newest", replace=False)
    world.until(999)
    assert world.sizes() == (4, 4)
    world.until(1000)
    assert world.sizes() == (3, 3)
    assert world.engines.killed == {3: to_ps(1000)}


def test_an_interruption_notice_may_be_missing() -> None:
    world = spot((1000, 3), notices=InterruptionNotices(notice_s=120, missing_share=1.0), replace=False)
    world.until(1000)
    assert [kind for _, kind, _, _ in world.events()] == ["interrupted"]


def test_a_rebalance_recommendation_may_be_missing() -> None:
    notices = InterruptionNotices(notice_s=120, rebalance_s=300, rebalance_missing_share=1.0)
    world = spot((1000, 3), notices=notices, replace=False)
    world.until(1000)
    assert [kind for _, kind, _, _ in world.events()] == ["notice"]


def test_random_reclaim_selects_varying_nodes() -> None:
    zone = Zone("z", constant(8), nodes=dict.fromkeys(range(8)))
    choices = [choose_interrupted(zone, 2, "random", 1, "pool-a") for _ in range(20)]
    assert len({tuple(sorted(choice)) for choice in choices}) > 10
    assert choose_interrupted(zone, 2, "newest", 1, "pool-a") == [7, 6]


def test_an_interruption_too_soon_for_a_full_notice_gives_none() -> None:
    world = spot((1000, 3), replace=False)
    world.until(10)
    world.pool.interrupt(2, to_ps(129), world.now_ps)
    world.until(200)
    assert world.events() == [(129.0, "interrupted", 2, 0)]


@pytest.mark.slow
def test_nodes_are_lost_at_the_rate_of_their_zone() -> None:
    """Exponential lifetimes: the number of interruptions is Poisson, within 4 standard errors."""
    zone = ZoneOffer(losses_per_node_hour=0.2)
    world = World(offer(market="spot", zones={"z": zone}, start_up=FAST, on_notice="serve"), begin=1000)
    world.until(36_000)
    lost = sum(kind == "interrupted" for _, kind, _, _ in world.events())
    assert lost == pytest.approx(0.2 * 1000 * 10, abs=4 * 2000**0.5)
    world.bill()


def test_a_rebalance_recommendation_precedes_the_notice() -> None:
    world = spot((1000, 3), notices=InterruptionNotices(notice_s=120, rebalance_s=300), reclaim="newest", replace=False)
    world.until(1000)
    assert [(at, kind) for at, kind, _, _ in world.events()] == [(700, "rebalance"), (880, "notice")]


def test_a_single_node_can_be_interrupted_explicitly() -> None:
    world = spot()
    world.until(10)
    world.pool.interrupt(2, to_ps(500), world.now_ps)
    world.until(600)
    assert [(at, kind, node) for at, kind, node, _ in world.events()] == [(380.0, "notice", 2)]
    assert world.sizes() == (4, 4)


def test_on_demand_nodes_survive_a_capacity_drop_but_none_is_added() -> None:
    zone = ZoneOffer(capacity=4, steps=(SupplyStep(at_s=100, nodes=1),))
    world = World(offer(zones={"z": zone}), begin=3)
    world.until(200)
    world.resize(4)
    world.until(1000)
    assert (world.sizes(), world.pool.waiting) == ((4, 3), 1)
    assert world.events() == []
    world.bill()


def test_advancing_past_a_due_event_raises_an_error() -> None:
    world = World(offer())
    world.resize(1)
    with pytest.raises(ValueError, match=r"missed an event at 185 s, advanced to 200 s"):
        world.pool.advance(to_ps(200))


def test_start_up_times_and_engines_do_not_depend_on_the_policy() -> None:
    early, late = World(offer(start_up=StartUp())), World(offer(start_up=StartUp()))
    early.resize(3)
    late.until(500)
    late.resize(1)
    late.until(700)
    late.resize(3)
    durations = [[n.due_ps - n.born_ps for n in w.pool.ledger.nodes] for w in (early, late)]
    assert durations[0] == durations[1]
    assert len(set(durations[0])) == 3
    for world in (early, late):
        world.until(5000)
    assert sorted(early.engines.keys) == sorted(late.engines.keys)


# --- status


@pytest.mark.parametrize(
    ("on_notice", "expected"),
    [("serve", [(4, 4, 0, 0), (4, 4, 2, 0), (4, 2, 0, 2)]), ("replace", [(4, 4, 0, 0), (4, 2, 0, 2), (4, 2, 0, 2)])],
    ids=["serve: doomed, then taken", "replace: taken at the notice, and not again when it is cut"],
)
def test_status_reports_pending_interruptions_and_counts_each_only_once(
    on_notice: str, expected: list[tuple[int, ...]]
) -> None:
    world = spot((300, 2), capacity=4, on_notice=on_notice)
    world.engines.left_s = dict.fromkeys(range(4), 1000.0)
    observed = []
    for at_s in (100, 200, 301):
        world.until(at_s)
        s = world.pool.status(world.now_ps)
        observed.append((s.desired, s.ready, s.interruption_pending, s.interrupted))
    assert observed == expected


def test_a_failed_on_demand_replica_counts_as_interrupted() -> None:
    world = World(offer(zones={"z": ZoneOffer(losses_per_node_hour=60.0)}), begin=1)
    world.until(3600)
    status = world.pool.status(world.now_ps)
    assert status.interrupted == len(world.pool.events) > 0


def test_tier_status_reports_desired_and_resting_nodes() -> None:
    world = World(offer(), begin=1)
    world.pool.resize_headroom(Tier.SLEPT, 2, world.now_ps)
    assert world.pool.headroom_status(Tier.SLEPT, world.now_ps).pending == 2
    world.until(300)
    assert world.pool.headroom_status(Tier.SLEPT, world.now_ps) == PoolStatus(2, 2)
    assert world.pool.status(world.now_ps) == PoolStatus(1, 1), "headroom is not part of the pool's size"
