"""Cost allocation: candidates, risk, shortages, moves, and known mistakes of other allocators."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from policies.allocate import transition
from policies.allocate.candidates import PoolCandidate
from policies.allocate.optimize import AllocationTarget, best_supply
from policies.allocate.shortfall import shortfall
from policies.history.capacity_backoff import FIRST_S
from policies.history.pool_memory import PoolMemory
from policies.model import Outcome, PoolName, PoolStatus, Result, RuleId, Shortfall
from policies.model.cost_allocation import CostAllocationSpec
from policies.model.pool import Pool
from policies.model.spec import ScaleUp
from tests.policies.allocate.worlds import POOLS, Simulation, workload_over

A, B, OD = PoolName("spot-a"), PoolName("spot-b"), PoolName("on-demand")
SPOT = {name: POOLS[name] for name in ("spot-a", "spot-b", "on-demand")}
CALM: dict[str, Any] = {"slo_violation_cost_ratio": 0.01}
"""Violations so cheap that no spare replica pays off: only the price decides."""


def run_without_losses(sim: Simulation, hours: float, work: float) -> None:
    """Run hours without a loss, so that the interruption rate of spot pools falls."""
    sim.run(round(hours * 240), work)


# --- order


def test_reserved_pool_fills_first_and_spot_before_on_demand() -> None:
    sim = Simulation.of(workload_over(**CALM))
    sim.tick(5)
    assert sim.sizes() == {"reserved": 2, "spot-a": 2, "spot-b": 1}
    assert "reserved 2 (already paid)" in sim.reason_of(RuleId.COST_ALLOCATION)


def test_pool_counts_only_its_actual_reservation_as_paid() -> None:
    sim = Simulation.of(workload_over(**CALM))
    sim.fake_pools[PoolName("reserved")].reserved = 1
    sim.tick(5)
    assert sim.sizes() == {"reserved": 1, "spot-a": 2, "spot-b": 2}


def test_failed_replicas_are_requested_elsewhere_in_the_same_tick() -> None:
    sim = Simulation.of(workload_over(SPOT, **CALM))
    sim.tick(6)
    sim.fake_pools[PoolName("spot-a")].fail(sim.now)
    sim.tick(6)
    assert sim.sizes()["spot-b"] == 6
    assert "spot-a" in sim.reason_of("shortage")


@pytest.mark.parametrize("quota", [False, True], ids=["capacity", "quota"])
def test_withdrawn_replicas_are_requested_elsewhere_in_the_same_tick(quota: bool) -> None:
    sim = Simulation.of(workload_over(SPOT, **CALM))
    sim.tick(6)
    fake_pool = sim.fake_pools[PoolName("spot-a")]
    fake_pool.fail(sim.now, quota=quota)
    fake_pool.desired = fake_pool.ready
    sim.tick(6)
    assert sim.sizes() == {"spot-b": 6}
    assert sim.reason_of("shortage") == ("spot-a: quota error (none to be had)" if quota else "spot-a: none to be had")


def test_standing_shortfall_counts_as_one_refusal() -> None:
    sim = Simulation.of(workload_over(SPOT, **CALM))
    sim.tick(6)
    sim.fake_pools[PoolName("spot-a")].fail(sim.now)
    sim.run(20, 6)  # beyond the first wait, and within the patience for pending replicas
    assert sim.history.pool_memories.of(PoolName("spot-a")).backoff.wait_s == FIRST_S


def test_spot_replicas_are_spread_over_zones() -> None:
    sim = Simulation.of(workload_over(SPOT, **CALM))
    sim.tick(6)
    assert sim.sizes() == {"spot-a": 3, "spot-b": 3}


def test_identical_pools_fill_in_the_order_listed() -> None:
    sim = Simulation.of(workload_over({"a": Pool(max_replicas=2), "b": Pool()}))
    sim.tick(5)
    assert sim.sizes() == {"a": 2, "b": 3}
    assert sim.decisions[-1].cost_usd_per_hour is None


def test_cost_of_a_decision_is_the_cost_of_its_targets() -> None:
    sim = Simulation.of(workload_over(**CALM))
    assert sim.tick(5).cost_usd_per_hour == 2 * 2.0 + 3 * 1.0


@pytest.mark.parametrize(
    ("work", "sizes"),
    [(2.0, {"big": 2}), (2.3, {"big": 2, "small": 1}), (2.7, {"big": 3}), (0.3, {"small": 1}), (0.9, {"big": 1})],
)
def test_small_remainder_goes_to_a_small_machine(work: float, sizes: dict[str, int]) -> None:
    pools = {
        "big": Pool(price_usd_per_hour=2.0),
        "small": Pool(price_usd_per_hour=1.1, work_per_replica=0.4),
    }
    sim = Simulation.of(workload_over(pools))
    sim.tick(work)
    assert sim.sizes() == sizes


def test_unlike_machines_leave_zero_together() -> None:
    pools = {"big": Pool(price_usd_per_hour=2.0), "small": Pool(price_usd_per_hour=1.1, work_per_replica=0.4)}
    sim = Simulation.of(workload_over(pools, min_replicas=0))
    assert sim.tick(0).target == 0
    sim.tick(1.4)
    assert sim.sizes() == {"big": 1, "small": 1}


@pytest.mark.slow
@pytest.mark.parametrize(
    "floor",
    [
        CostAllocationSpec(floor_replicas=2),
        CostAllocationSpec(floor_share=0.5),
        CostAllocationSpec(floor_replicas=1, floor_share=0.5),
    ],
)
def test_floor_is_kept_in_the_on_demand_pool(floor: CostAllocationSpec) -> None:
    sim = Simulation.of(workload_over(SPOT, cost_allocation=floor, slo_violation_cost_ratio=5.0), spot_a=2, spot_b=2)
    run_without_losses(sim, 3, 4)
    assert sim.fake_pools[OD].desired >= 2


# --- risk


def test_spare_replicas_are_kept_where_a_loss_would_cost_more() -> None:
    cheap_violations, costly_violations = (
        Simulation.of(workload_over(SPOT, slo_violation_cost_ratio=r), spot_a=2, spot_b=2) for r in (0.01, 300.0)
    )
    cheap_violations.tick(4)
    costly_violations.tick(4)
    assert sum(cheap_violations.sizes().values()) == 4
    assert sum(costly_violations.sizes().values()) > 4
    assert "spare for interruptions" in costly_violations.reason_of(RuleId.COST_ALLOCATION)


@pytest.mark.parametrize("spare", [True, False], ids=["unannounced", "announced"])
def test_announced_interruptions_need_no_spare_replica(spare: bool) -> None:
    notice_s = 0.0 if spare else 280.0
    pools = {n: replace(p, notice_s=notice_s if p.market == "spot" else 0.0) for n, p in SPOT.items()}
    sim = Simulation.of(workload_over(pools, slo_violation_cost_ratio=300.0), spot_a=2, spot_b=2)
    sim.tick(4)
    assert (sum(sim.sizes().values()) > 4) == spare


def test_spare_replicas_do_not_count_in_the_target() -> None:
    sim = Simulation.of(workload_over(SPOT, slo_violation_cost_ratio=300.0), spot_a=2, spot_b=2)
    first = sim.tick(4)
    sim.run(40, 4)
    assert {d.target for d in sim.decisions} == {first.target} == {4}
    assert sum(sim.sizes().values()) <= 10


@pytest.mark.slow
def test_on_demand_covers_a_zone_with_repeated_interruptions() -> None:
    sim = Simulation.of(
        workload_over({n: SPOT[n] for n in ("spot-a", "on-demand")}, slo_violation_cost_ratio=30.0), spot_a=3
    )
    for _ in range(6):
        sim.fake_pools[A].interrupt(sim.fake_pools[A].ready)
        sim.run(12, 3)
        sim.fake_pools[A].capacity = 99
        sim.run(40, 3)
    assert sim.fake_pools[OD].ready >= 2, "before the next interruption"
    run_without_losses(sim, 40, 3)
    assert sim.fake_pools[OD].desired == 0, "spot is used again after a quiet time"


def test_on_demand_moves_to_spot_with_spares_where_one_move_does_not_pay() -> None:
    sim = Simulation.of(workload_over(SPOT, slo_violation_cost_ratio=40.0), on_demand=3)
    sim.run(60, 3)
    assert OD not in sim.sizes()
    spot = [sim.sizes()[A], sim.sizes()[B]]
    assert min(spot) >= 3, f"each zone by itself carries the work, at {sum(spot)} USD/h instead of 9"


def test_moves_to_spot_are_spread_over_equal_zones() -> None:
    sim = Simulation.of(workload_over(SPOT, **CALM), on_demand=6)
    sim.run(60, 6)
    assert sim.sizes() == {"spot-a": 3, "spot-b": 3}


def test_requests_beyond_a_capacity_ceiling_double_after_each_success() -> None:
    sim = Simulation.of(
        workload_over({n: SPOT[n] for n in ("spot-a", "on-demand")}, max_replicas=40, **CALM), on_demand=12
    )
    fake_pool, requested = sim.fake_pools[A], 0
    fake_pool.capacity = 4
    sim.tick(12)
    assert fake_pool.desired == 12
    sim.run(10, 12)
    assert fake_pool.ready == 4
    fake_pool.desired, fake_pool.shortfall = 4, Shortfall(sim.now, "none to be had")
    sim.run(8, 12)
    assert fake_pool.desired == 4
    fake_pool.capacity, fake_pool.shortfall = 99, None
    requests = []
    for _ in range(120):
        sim.tick(12)
        if fake_pool.desired != requested:
            requested = fake_pool.desired
            requests.append(requested)
    assert requests == [4, 5, 7, 11, 12]
    assert sim.sizes() == {"spot-a": 12}


def test_capacity_ceiling_is_ignored_where_no_other_pool_can_grow() -> None:
    sim = Simulation.of(workload_over({"spot-a": SPOT["spot-a"]}, **CALM), spot_a=4)
    fake_pool = sim.fake_pools[A]
    sim.tick(4)
    fake_pool.shortfall = Shortfall(sim.now, "none to be had")
    sim.run(round(FIRST_S / 15) + 2, 4)
    sim.tick(12)
    assert fake_pool.desired == 12


# --- losses and notices


@pytest.mark.slow
def test_interrupted_zone_is_not_requested_again_immediately() -> None:
    sim = Simulation.of(workload_over(SPOT), spot_a=3)
    run_without_losses(sim, 1, 3)
    before = sim.fake_pools[A].desired
    sim.fake_pools[A].interrupt(sim.fake_pools[A].ready)
    sim.tick(3)
    assert "replicas were just interrupted" in sim.reason_of("shortage")
    assert sim.fake_pools[A].desired <= before
    others = sim.fake_pools[B].desired + sim.fake_pools[OD].desired
    assert others >= 3, "in the same tick"
    sim.run(8, 3)
    assert sim.fake_pools[A].desired <= before


def test_replacements_of_lost_replicas_are_abandoned_until_they_arrive() -> None:
    pools = {**SPOT, "spot-b": replace(SPOT["spot-b"], max_replicas=2)}
    sim = Simulation.of(workload_over(pools, **CALM), spot_a=2, spot_b=2)
    sim.run(3, 4)
    sim.fake_pools[A].interrupt(2)
    sim.tick(4)
    assert sim.decisions[-1].abandoned == {A: 2}
    assert "2 of spot-a" in sim.reason_of(RuleId.ABANDONED)
    sim.run(20, 4)
    assert sim.sizes() == {"spot-a": 2, "spot-b": 2, "on-demand": 2}, "the requests stand, and do not count"
    assert sim.decisions[-1].cost_usd_per_hour == 2 * 1.0 + 2 * 3.0, "pending replicas cost nothing"
    sim.fake_pools[A].capacity = 99
    sim.run(30, 4)
    assert not sim.decisions[-1].abandoned
    assert sim.sizes() == {"spot-a": 2, "spot-b": 2}


def test_interruption_notice_starts_a_replacement_and_keeps_the_replica() -> None:
    sim = Simulation.of(workload_over(SPOT), on_demand=1, spot_a=2)
    sim.run(3, 3)
    sim.fake_pools[A].interruption_pending = 2
    ready = sim.fake_pools[A].ready
    sim.tick(3)
    assert "2 of spot-a" in sim.reason_of(RuleId.INTERRUPTION_PENDING)
    assert sim.fake_pools[A].ready == ready
    assert sim.fake_pools[B].desired + sim.fake_pools[OD].desired >= 3


def test_interruption_pending_replicas_count_towards_the_pool_maximum() -> None:
    pools = {"first": Pool(price_usd_per_hour=1.0, max_replicas=3), "rest": Pool(price_usd_per_hour=3.0)}
    sim = Simulation.of(workload_over(pools, **CALM), first=3)
    sim.run(3, 3)
    sim.fake_pools[PoolName("first")].interruption_pending = 2
    sim.tick(3)
    assert sim.sizes() == {"first": 3, "rest": 2}


# --- shortages


@pytest.mark.slow
def test_capacity_error_moves_requests_elsewhere_and_backs_off() -> None:
    sim = Simulation.of(workload_over({n: SPOT[n] for n in ("spot-a", "on-demand")}, **CALM))
    sim.fake_pools[A].refusal = Result.OUT_OF_CAPACITY
    requested_at: list[float] = []
    for _ in range(1200):
        tick = sim.tick(2)
        if tick.targets[A] > 0:
            requested_at.append(tick.at - sim.decisions[0].at)
        if len(sim.decisions) == 2:
            assert sim.fake_pools[OD].desired == 2
            assert "none to be had" in sim.reason_of("shortage")
    waits = [round(b - a) for a, b in itertools.pairwise(requested_at)]
    assert waits[:5] == [180, 360, 720, 1440, 1800]
    assert set(waits[5:]) == {1800}
    sim.fake_pools[A].refusal = None
    sim.run(300, 2)
    assert sim.sizes() == {"spot-a": 2}, "an arrival ends the backoff, and the expensive pool is released"


def test_closed_pool_is_no_alternative_to_a_shortage_at_zero() -> None:
    closed = replace(SPOT["on-demand"], max_replicas=0)
    sim = Simulation.of(workload_over({"spot-a": SPOT["spot-a"], "on-demand": closed}, **CALM))
    sim.fake_pools[A].refusal = Result.OUT_OF_CAPACITY
    sim.run(5, 2)
    assert [d.targets[A] for d in sim.decisions[1:]] == [1] * 4, "without a replica, no backoff is waited for"


def test_misconfigured_pool_is_requested_again_without_a_signal() -> None:
    sim = Simulation.of(workload_over({n: SPOT[n] for n in ("spot-a", "on-demand")}, **CALM))
    sim.fake_pools[A].refusal = Result.MISCONFIGURED
    sim.run(10, 2)
    assert sim.sizes() == {"on-demand": 2}, "requested elsewhere"
    sim.fake_pools[A].refusal = None
    sim.run(300, 2)
    assert sim.sizes() == {"spot-a": 2}


@pytest.mark.parametrize("refusal", [Result.MISCONFIGURED, Result.OUT_OF_CAPACITY, Result.OUT_OF_QUOTA])
def test_refused_scale_in_does_not_start_a_backoff(refusal: Result) -> None:
    market = PoolMemory()
    market.note(0.0, PoolStatus(2, 2), Outcome(A, 2, 1, refusal, "MinSize is 2"), 0, "abc")
    assert not market.backoff.is_active(1.0)


def test_shortage_applies_to_pools_of_the_same_type_zone_and_market() -> None:
    pools = {**SPOT, "spot-a-too": replace(SPOT["spot-a"], price_usd_per_hour=1.1)}
    sim = Simulation.of(workload_over(pools, **CALM))
    sim.fake_pools[A].refusal = Result.OUT_OF_CAPACITY
    sim.run(3, 4)
    assert sim.fake_pools[PoolName("spot-a-too")].desired == 0
    assert sim.reason_of("shortage").count("none to be had") == 2


def test_overdue_pending_replicas_are_replaced_elsewhere() -> None:
    sim = Simulation.of(workload_over({n: SPOT[n] for n in ("spot-a", "on-demand")}, **CALM))
    sim.fake_pools[A].capacity = 0
    sim.run(24, 2)
    assert sim.fake_pools[OD].desired == 0, "it counts as supply within three times its lead time"
    sim.run(2, 2)
    assert sim.decisions[-1].abandoned == {A: 2}
    assert sim.fake_pools[OD].desired == 2


def test_abandoned_request_stands_and_its_arrival_ends_the_shortage() -> None:
    sim = Simulation.of(workload_over({n: SPOT[n] for n in ("spot-a", "on-demand")}, **CALM))
    sim.fake_pools[A].capacity = 0
    sim.run(60, 2)
    assert sim.fake_pools[A].desired > 0
    sim.fake_pools[A].capacity = 9
    sim.run(20, 2)
    assert (sim.fake_pools[A].ready, sim.fake_pools[OD].desired) == (2, 0)


# --- moves


def test_expensive_replicas_leave_only_once_cheaper_ones_serve() -> None:
    sim = Simulation.of(workload_over({n: SPOT[n] for n in ("spot-a", "on-demand")}, **CALM), on_demand=3)
    sim.tick(3)
    assert sim.sizes() == {"spot-a": 3, "on-demand": 3}
    assert "3 of on-demand" in sim.reason_of(RuleId.MAKE_BEFORE_BREAK)
    while sim.fake_pools[A].ready < 3:
        assert sim.fake_pools[OD].ready == 3
        sim.tick(3)
    assert sim.sizes() == {"spot-a": 3}


def test_limited_growth_removes_no_ready_replica_of_a_move() -> None:
    pools = {n: SPOT[n] for n in ("spot-a", "on-demand")}
    slow = ScaleUp(max_replicas=1, max_share=0.0, period_s=300.0)
    sim = Simulation.of(workload_over(pools, scale_up=slow, **CALM), on_demand=3)
    sim.tick(3)
    sim.fake_pools[A].ready = 3
    assert sim.tick(6).target == 6
    assert sim.sizes()["on-demand"] == 3


def test_move_that_does_not_pay_back_its_start_is_not_made() -> None:
    short = CostAllocationSpec(payback_s=60.0)
    sim = Simulation.of(
        workload_over({n: SPOT[n] for n in ("spot-a", "on-demand")}, cost_allocation=short, **CALM), on_demand=3
    )
    sim.run(40, 3)
    assert sim.sizes() == {"on-demand": 3}


def test_ready_cheap_replica_stays_and_pending_expensive_one_goes() -> None:
    pools = {"l4": Pool(price_usd_per_hour=0.8, work_per_replica=0.5), "a100": Pool(price_usd_per_hour=3.0)}
    sim = Simulation.of(workload_over(pools, slo_violation_cost_ratio=100.0), l4=2)
    sim.fake_pools[PoolName("l4")].refusal = Result.OUT_OF_CAPACITY
    sim.run(2, 2)
    assert (sim.fake_pools[PoolName("a100")].desired, sim.fake_pools[PoolName("a100")].ready) == (1, 0)
    sim.tick(1)
    assert sim.sizes() == {"l4": 2}


def test_no_replica_moves_without_full_evidence() -> None:
    sim = Simulation.of(workload_over({n: SPOT[n] for n in ("spot-a", "on-demand")}, **CALM), on_demand=3)
    for _ in range(20):
        decision = sim.tick(3, blind=True)
        assert not decision.may_scale_in
    assert sim.sizes() == {"on-demand": 3}


@pytest.mark.slow
def test_steady_load_does_not_flap() -> None:
    sim = Simulation.of(workload_over(slo_violation_cost_ratio=30.0), reserved=2, spot_a=2, spot_b=1)
    run_without_losses(sim, 2, 5)
    sizes = {tuple(sorted(d.targets.items())) for d in sim.decisions[-240:]}
    assert len(sizes) <= 2


def test_spare_replicas_do_not_accumulate_while_blind() -> None:
    sim = Simulation.of(workload_over(SPOT, slo_violation_cost_ratio=300.0), spot_a=2, spot_b=2)
    sim.run(10, 4)
    with_spares = sum(sim.sizes().values())
    for _ in range(30):
        sim.tick(4, blind=True)
    assert sim.decisions[-1].target == 4
    assert sum(sim.sizes().values()) == with_spares


def test_replica_that_the_maximum_delays_is_named() -> None:
    pools: dict[str, Pool] = {
        A: Pool(market="spot", price_usd_per_hour=1.0, min_replicas=1),
        OD: Pool(price_usd_per_hour=3.0),
    }
    sim = Simulation.of(workload_over(pools, max_replicas=2), on_demand=1)
    sim.fake_pools[A].desired = 1
    sim.fake_pools[A].fail(sim.now)
    sim.run(4, 2)
    assert sim.sizes() == {A: 1, OD: 1}
    assert sim.reason_of(RuleId.BOUNDS) == "max_replicas 2 leaves no more now: on-demand gets 1 of 2"


def test_abandoned_requests_free_room_under_max_replicas() -> None:
    sim = Simulation.of(workload_over({n: SPOT[n] for n in ("spot-a", "on-demand")}, max_replicas=4, **CALM), spot_a=3)
    sim.run(3, 3)
    sim.fake_pools[A].interrupt(3)
    sim.tick(3)
    assert (sim.fake_pools[A].desired, sim.fake_pools[OD].desired) == (1, 3)


def test_max_replicas_holds_during_a_move() -> None:
    sim = Simulation.of(
        workload_over({n: SPOT[n] for n in ("spot-a", "on-demand")}, max_replicas=4, **CALM), on_demand=3
    )
    for _ in range(40):
        sim.tick(3)
        assert sum(sim.sizes().values()) <= 4
    assert sim.sizes() == {"spot-a": 3}, "replicas move one after the other"


# --- shortfall and transition


def candidate(name: str = "spot-a", **values: Any) -> PoolCandidate:
    """Return a candidate without supply that may reach 10 replicas."""
    defaults: dict[str, Any] = {
        "name": PoolName(name),
        "pool": POOLS[name],
        "price": POOLS[name].price_usd_per_hour,
        **dict.fromkeys(("desired", "ready", "interruption_pending", "expected_pending", "abandoned"), 0),
        "oldest_pending_s": 0.0,
        "fixed": False,
        "unavailable": "",
        "max_supply": 10,
        "lead_time_h": 0.03,
        "loss_probability": 0.0,
        "interrupted_share": 1.0,
        "grant_probability": 1.0,
    }
    return PoolCandidate(**{**defaults, **values})


@pytest.mark.parametrize(
    ("fleet", "missing"),
    [((4, 0), 0.4), ((2, 2), 0.1 * 2 + 0.1 * 2), ((4, 4), 4 * 0.01), ((6, 2), 0.1 * 0.9 * 2 + 0.01 * 4)],
    ids=["all in one zone", "spread, no spare", "either zone does", "one zone does"],
)
def test_expected_shortfall_assumes_independent_losses(fleet: tuple[int, int], missing: float) -> None:
    zones = [candidate(n, ready=k, loss_probability=0.1) for n, k in zip(("spot-a", "spot-b"), fleet, strict=True)]
    assert shortfall(zones, fleet, 4.0) == pytest.approx(missing)


def test_refusals_are_correlated_across_zones() -> None:
    zones = [candidate(n, expected_pending=1, grant_probability=0.6) for n in ("spot-a", "spot-b")]
    assert shortfall(zones, (1, 1), 1.0) == pytest.approx(0.7 * 0.4**2 + 0.3 * 0.4)


def test_refusal_weighs_more_the_longer_it_takes_to_find() -> None:
    zone = candidate(expected_pending=1, grant_probability=0.9)
    assert shortfall([zone], (1,), 1.0) == pytest.approx(0.1)
    assert shortfall([replace(zone, patience_starts=3.0)], (1,), 1.0) == pytest.approx(0.3)
    assert shortfall([replace(zone, patience_starts=3.0)], (1,), 1.0, refusals=False) == 0


@pytest.mark.parametrize(
    ("grant_probability", "supply"), [(0.9, [2, 0, 0]), (0.5, [1, 1, 0])], ids=["grants", "refuses half"]
)
def test_move_goes_to_the_zone_with_the_lowest_expected_cost(grant_probability: float, supply: list[int]) -> None:
    candidates = [
        candidate("spot-a", ready=1, desired=1, loss_probability=0.003, grant_probability=grant_probability),
        candidate("spot-b", loss_probability=0.01, grant_probability=0.75),
        candidate("on-demand", ready=1, desired=1),
    ]
    target = AllocationTarget(
        work=2.0,
        floor=0.0,
        violation_usd_per_hour=30.0,
        payback_h=1.0,
        max_replicas=20,
        missing_usd_per_hour=1e5,
    )
    _, final = best_supply(candidates, target, may_scale_in=True)
    assert final == supply


def test_shortfall_of_40_zones_is_computed_within_bounds() -> None:
    zones = [candidate("spot-a", ready=3, loss_probability=0.1) for _ in range(40)]
    assert 0 < shortfall(zones, [3] * 40, 119.0) < 40 * 0.3 + 1


def test_transition_keeps_the_ready_replicas_that_the_work_needs() -> None:
    candidates = [
        candidate("on-demand", desired=3, ready=2, expected_pending=1),
        candidate("spot-a", desired=4, ready=3, expected_pending=1, grant_probability=0.5),
    ]
    target = AllocationTarget(
        work=3.0,
        floor=0.0,
        violation_usd_per_hour=1.0,
        payback_h=1.0,
        max_replicas=20,
        missing_usd_per_hour=1e5,
    )
    assert transition.sizes(candidates, [3, 4], [0, 4], target, may_scale_in=True) == [3, 4]
    assert transition.sizes(candidates, [0, 4], [0, 4], target, may_scale_in=True) == [1, 4], "4 of 5 ready stay"
