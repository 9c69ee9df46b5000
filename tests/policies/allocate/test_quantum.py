"""Whole quanta: a pool scales in multiples of its quantum under all policies and limits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.allocate import quantum as quanta
from policies.allocate.in_order import allocate
from policies.model import PoolName, RuleId
from policies.model.limits import BlastRadius, Budget
from policies.model.pool import Pool
from tests.laws import LAW
from tests.policies.allocate.test_laws import simulation_runs
from tests.policies.allocate.worlds import FakePool, Simulation, workload_over
from tests.policies.random_workloads import WorkloadRun, workload_runs
from tests.policies.test_laws import is_blind, sizes

SOME = (1, 2, 4)
NODES = {"nodes": Pool(quantum=8)}


@LAW
@given(workload_runs(quanta=SOME))
def test_targets_change_to_whole_quanta_and_never_scale_in_blind(run: WorkloadRun) -> None:
    for tick in run.ticks:
        current = sizes(tick.observation)
        for name, target in tick.decision.targets.items():
            assert target == current[name] or target % run.spec.pools[name].quantum == 0
            assert target >= current[name] or not is_blind(tick)


@LAW
@given(workload_runs(quanta=SOME))
def test_quanta_respect_the_bounds_of_pools_and_workload(run: WorkloadRun) -> None:
    for tick in run.ticks:
        current, targets = sizes(tick.observation), tick.decision.targets
        for name, target in targets.items():
            minimum, maximum = quanta.bounds(run.spec.pools[name], run.spec.max_replicas)
            assert min(minimum, current[name]) <= target <= max(maximum, current[name])
        if targets.keys() == run.spec.pools.keys():
            assert sum(targets.values()) <= max(run.spec.max_replicas, sum(current.values()))


@pytest.mark.slow
@LAW
@given(workload_runs(quanta=SOME))
def test_pools_hold_the_decided_size_unless_no_whole_quantum_fits(run: WorkloadRun) -> None:
    for tick in run.ticks:
        decision, targets, spec = tick.decision, tick.decision.targets, run.spec
        settled = next(
            (s.replicas for s in reversed(decision.steps) if s.rule not in {RuleId.POOL_BOUNDS, RuleId.QUANTUM}), None
        )
        if settled is None or targets.keys() != spec.pools.keys():
            continue
        total = sum(targets.values())
        max_growths = [quanta.bounds(p, spec.max_replicas)[1] - targets[n] for n, p in spec.pools.items()]
        fits = [
            min(max_growth, spec.max_replicas - total) >= p.quantum
            for max_growth, p in zip(max_growths, spec.pools.values(), strict=True)
        ]
        beyond = sum(sizes(tick.observation).values()) > spec.max_replicas  # scale-in to it takes whole quanta
        assert total >= settled - 1e-9 or beyond or not any(fits)


def check_targets(run: list[tuple[Simulation, dict[PoolName, FakePool]]]) -> None:
    """Assert that targets are multiples of the quantum or the current size, within all bounds."""
    for tick, (sim, current) in enumerate(run):
        targets, spec = sim.decisions[tick].targets, sim.workload
        for name, target in targets.items():
            minimum, maximum = quanta.bounds(spec.pools[name], spec.max_replicas)
            assert target == current[name].desired or target % spec.pools[name].quantum == 0
            assert min(current[name].desired, minimum) <= target <= max(current[name].desired, maximum)
            assert target >= current[name].desired or sim.decisions[tick].may_scale_in
        assert sum(targets.values()) <= max(spec.max_replicas, sum(p.desired for p in current.values()))


@pytest.mark.slow
@LAW
@given(simulation_runs(SOME))
def test_cost_allocation_requests_whole_quanta(run: list[tuple[Simulation, dict[PoolName, FakePool]]]) -> None:
    check_targets(run)


@pytest.mark.slow
@LAW
@given(simulation_runs(SOME, {"budget": Budget(gpus=7), "blast_radius": BlastRadius(share=0.3, window_s=60.0)}))
def test_guard_limits_cut_to_whole_quanta(
    run: list[tuple[Simulation, dict[PoolName, FakePool]]],
) -> None:
    check_targets(run)
    for tick, (sim, current) in enumerate(run):
        assert sum(sim.decisions[tick].targets.values()) <= max(7, sum(p.desired for p in current.values()))


@LAW
@given(simulation_runs(SOME))
def test_serving_replicas_stay_when_sizes_are_rounded_to_quanta(
    run: list[tuple[Simulation, dict[PoolName, FakePool]]],
) -> None:
    for tick, (sim, current) in enumerate(run):
        decision = sim.decisions[tick]
        work = {n: p.work_per_replica for n, p in sim.workload.pools.items()}
        remaining = {n: min(p.ready, p.desired) - min(p.interruption_pending, p.ready) for n, p in current.items()}
        before = sum(n * work[name] for name, n in remaining.items())
        after = sum(min(current[n].ready, target) * work[n] for n, target in decision.targets.items())
        needed = min(decision.demand or 0.0, decision.target if decision.target is not None else 0.0)
        assert after >= min(before, needed) - 1e-6


@LAW
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(1, 9))
def test_growth_rounds_up_and_removal_rounds_down_to_whole_quanta(
    size: int, by: int, max_growth: int, quantum: int
) -> None:
    held = quanta.round_up(size, quantum)
    grown, shrunk = quanta.growth(held, by, max_growth, quantum), quanta.removal(held, by, quantum)
    assert grown % quantum == shrunk % quantum == 0
    assert grown <= max_growth
    assert grown >= by or grown + quantum > max_growth
    assert by - quantum < shrunk <= by or shrunk == held


@pytest.mark.parametrize(
    ("target", "cap", "expected"),
    [
        pytest.param(9, 40, 16, id="up"),
        pytest.param(9, 15, 8, id="down at the workload's maximum"),
        pytest.param(5, 40, 8, id="a part does not go"),
        pytest.param(0, 40, 0, id="a whole one goes"),
    ],
)
def test_allocate_meets_a_target_in_whole_quanta(target: int, cap: int, expected: int) -> None:
    current = {PoolName("nodes"): 8}
    assert allocate(target, current, {PoolName("nodes"): NODES["nodes"]}, set(), cap) == {"nodes": expected}


def test_scale_in_to_the_maximum_rounds_up_to_a_whole_quantum() -> None:
    nodes = PoolName("nodes")
    assert allocate(20, {nodes: 24}, {nodes: Pool(quantum=8)}, set(), 20) == {nodes: 16}


def test_forced_removal_of_quanta_frees_room_for_single_replicas() -> None:
    one, nodes = PoolName("one"), PoolName("nodes")
    pools = {nodes: Pool(quantum=4, max_replicas=0), one: Pool()}
    assert allocate(1, {nodes: 6, one: 0}, pools, set(), 1) == {nodes: 0, one: 1}


def test_surplus_below_a_quantum_is_removed_from_a_pool_of_single_replicas() -> None:
    one, nodes = PoolName("one"), PoolName("nodes")
    assert allocate(15, {one: 10, nodes: 8}, {one: Pool(), nodes: Pool(quantum=8)}, set(), 40) == {one: 7, nodes: 8}


def test_small_step_and_small_blast_radius_still_remove_a_quantum() -> None:
    sim = Simulation.of(
        workload_over(NODES, max_replicas=32, blast_radius=BlastRadius(share=0.1, window_s=60.0)), nodes=24
    )
    sim.run(60, 3.0)
    assert sim.sizes() == {"nodes": 8}


def test_workload_over_its_budget_scales_in_by_a_quantum() -> None:
    sim = Simulation.of(workload_over(NODES, max_replicas=32, budget=Budget(gpus=15)), nodes=16)
    sim.run(60, 16.0)
    assert sim.sizes() == {"nodes": 8}


def test_cost_allocation_adds_a_single_replica_before_another_quantum() -> None:
    pools = {
        "slices": Pool(quantum=4, price_usd_per_hour=1.0),
        "single": Pool(price_usd_per_hour=1.5),
    }
    sim = Simulation.of(workload_over(pools))
    sim.run(30, 5.0)
    assert sim.sizes() == {"slices": 4, "single": 1}


def test_no_replica_is_removed_for_a_quantum_that_does_not_fit() -> None:
    pools = {
        "nodes": Pool(quantum=3, price_usd_per_hour=1.0),
        "spot": Pool(market="spot", price_usd_per_hour=2.0),
        "dear": Pool(market="spot", price_usd_per_hour=3.0, max_replicas=1, min_replicas=1),
    }
    sim = Simulation.of(workload_over(pools, max_replicas=8), nodes=3, spot=3, dear=1)
    sim.run(30, 7.0)
    sim.fake_pools[PoolName("spot")].interrupt(1)
    assert sum(sim.tick(7.0).targets.values()) >= 7


def test_quantum_above_the_maximum_is_replaced_by_pools_that_fit() -> None:
    pools = {
        "held": Pool(market="reserved", price_usd_per_hour=1.0),
        "block": Pool(market="reserved", price_usd_per_hour=1.0, quantum=8),
        "dear": Pool(price_usd_per_hour=3.0),
    }
    sim = Simulation.of(workload_over(pools, max_replicas=8), held=4)
    sim.tick(4.0)
    sim.tick(5.0)
    assert sim.sizes() == {"held": 5}
    sim.fake_pools[PoolName("held")].fail(sim.now)
    sim.tick(5.0)
    assert sim.sizes() == {"held": 4, "dear": 1}
    sim.run(11, 5.0)  # until the shortage is forgotten
    assert sim.sizes() == {"held": 4, "dear": 1}
    assert sim.fake_pools[PoolName("dear")].ready == 1
