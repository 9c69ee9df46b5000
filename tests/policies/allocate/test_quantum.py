"""Whole quanta: replicas of a pool come and go in multiples, whatever wants them and whatever forbids it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.allocate import quantum as quanta
from policies.allocate.in_order import allocate
from policies.model import PoolName, RuleId
from policies.model.limits import BlastRadius, Budget
from policies.model.spec import Pool
from tests.laws import LAW
from tests.policies.allocate.test_laws import stories
from tests.policies.allocate.worlds import Lived, Place, ladder
from tests.policies.lives import Life, lives
from tests.policies.test_laws import is_blind, sizes

SOME = (1, 2, 4)
NODES = {"nodes": Pool(quantum=8)}


@LAW
@given(lives(quanta=SOME))
def test_what_changes_changes_to_whole_quanta_and_never_down_blind(life: Life) -> None:
    for turn in life.turns:
        found = sizes(turn.seen)
        for name, target in turn.decision.targets.items():
            assert target == found[name] or target % life.spec.pools[name].quantum == 0
            assert target >= found[name] or not is_blind(turn)


@LAW
@given(lives(quanta=SOME))
def test_quanta_pass_no_bound(life: Life) -> None:
    for turn in life.turns:
        found, targets = sizes(turn.seen), turn.decision.targets
        for name, target in targets.items():
            least, most = quanta.bounds(life.spec.pools[name], life.spec.max_replicas)
            assert min(least, found[name]) <= target <= max(most, found[name])
        if targets.keys() == life.spec.pools.keys():
            assert sum(targets.values()) <= max(life.spec.max_replicas, sum(found.values()))


@LAW
@given(lives(quanta=SOME))
def test_the_pools_hold_the_size_decided_unless_no_whole_quantum_fits(life: Life) -> None:
    for turn in life.turns:
        decision, targets, spec = turn.decision, turn.decision.targets, life.spec
        settled = next(
            (s.replicas for s in reversed(decision.steps) if s.rule not in {RuleId.POOL_BOUNDS, RuleId.QUANTUM}), None
        )
        if settled is None or targets.keys() != spec.pools.keys():
            continue
        total = sum(targets.values())
        rooms = [quanta.bounds(p, spec.max_replicas)[1] - targets[n] for n, p in spec.pools.items()]
        fits = [
            min(room, spec.max_replicas - total) >= p.quantum
            for room, p in zip(rooms, spec.pools.values(), strict=True)
        ]
        beyond = sum(sizes(turn.seen).values()) > spec.max_replicas  # coming back within it takes a whole quantum
        assert total >= settled - 1e-9 or beyond or not any(fits)


def kept(story: list[tuple[Lived, dict[PoolName, Place]]]) -> None:
    """Multiples or as found, and within the bounds of pools and workload."""
    for turn, (lived, found) in enumerate(story):
        targets, spec = lived.decisions[turn].targets, lived.workload
        for name, target in targets.items():
            least, most = quanta.bounds(spec.pools[name], spec.max_replicas)
            assert target == found[name].desired or target % spec.pools[name].quantum == 0
            assert min(found[name].desired, least) <= target <= max(found[name].desired, most)
            assert target >= found[name].desired or lived.decisions[turn].may_scale_in
        assert sum(targets.values()) <= max(spec.max_replicas, sum(p.desired for p in found.values()))


@LAW
@given(stories(SOME))
def test_money_buys_whole_quanta(story: list[tuple[Lived, dict[PoolName, Place]]]) -> None:
    kept(story)


@LAW
@given(stories(SOME, {"budget": Budget(gpus=7), "blast_radius": BlastRadius(share=0.3, window_s=60.0)}))
def test_what_the_guard_cuts_it_cuts_to_whole_quanta(story: list[tuple[Lived, dict[PoolName, Place]]]) -> None:
    kept(story)
    for turn, (lived, found) in enumerate(story):
        assert sum(lived.decisions[turn].targets.values()) <= max(7, sum(p.desired for p in found.values()))


@LAW
@given(stories(SOME))
def test_what_serves_stays_through_quanta(story: list[tuple[Lived, dict[PoolName, Place]]]) -> None:
    for turn, (lived, found) in enumerate(story):
        decision = lived.decisions[turn]
        work = {n: p.work_per_replica for n, p in lived.workload.pools.items()}
        lasting = {n: min(p.ready, p.desired) - min(p.doomed, p.ready) for n, p in found.items()}
        before = sum(n * work[name] for name, n in lasting.items())
        after = sum(min(found[n].ready, target) * work[n] for n, target in decision.targets.items())
        wanted = min(decision.demand or 0.0, decision.target if decision.target is not None else 0.0)
        assert after >= min(before, wanted) - 1e-6


@LAW
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 40), st.integers(1, 9))
def test_a_part_of_a_quantum_comes_whole_and_goes_not_at_all(size: int, by: int, room: int, quantum: int) -> None:
    held = quanta.round_up(size, quantum)
    grown, shrunk = quanta.growth(held, by, room, quantum), quanta.removal(held, by, quantum)
    assert grown % quantum == shrunk % quantum == 0
    assert grown <= room
    assert grown >= by or grown + quantum > room
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
def test_a_size_is_met_in_whole_nodes(target: int, cap: int, expected: int) -> None:
    found = {PoolName("nodes"): 8}
    assert allocate(target, found, {PoolName("nodes"): NODES["nodes"]}, set(), cap) == {"nodes": expected}


def test_above_the_maximum_a_quantum_more_goes_rather_than_less() -> None:
    nodes = PoolName("nodes")
    assert allocate(20, {nodes: 24}, {nodes: Pool(quantum=8)}, set(), 20) == {nodes: 16}


def test_whole_nodes_that_must_go_make_room_for_single_ones() -> None:
    one, nodes = PoolName("one"), PoolName("nodes")
    pools = {nodes: Pool(quantum=4, max_replicas=0), one: Pool()}
    assert allocate(1, {nodes: 6, one: 0}, pools, set(), 1) == {nodes: 0, one: 1}


def test_a_surplus_smaller_than_a_quantum_goes_from_a_pool_that_can_give_it() -> None:
    one, nodes = PoolName("one"), PoolName("nodes")
    assert allocate(15, {one: 10, nodes: 8}, {one: Pool(), nodes: Pool(quantum=8)}, set(), 40) == {one: 7, nodes: 8}


def test_a_narrow_step_and_a_narrow_radius_let_a_quantum_go() -> None:
    lived = Lived.of(ladder(NODES, max_replicas=32, blast_radius=BlastRadius(share=0.1, window_s=60.0)), nodes=24)
    lived.turns(60, 3.0)
    assert lived.sizes() == {"nodes": 8}


def test_a_workload_over_its_budget_gives_a_quantum_back() -> None:
    lived = Lived.of(ladder(NODES, max_replicas=32, budget=Budget(gpus=15)), nodes=16)
    lived.turns(60, 16.0)
    assert lived.sizes() == {"nodes": 8}


def test_money_fills_the_quantum_that_is_paid_for_before_another() -> None:
    pools = {
        "slices": Pool(quantum=4, price_usd_per_hour=1.0),
        "single": Pool(price_usd_per_hour=1.5),
    }
    lived = Lived.of(ladder(pools))
    lived.turns(30, 5.0)
    assert lived.sizes() == {"slices": 4, "single": 1}


def test_a_quantum_that_does_not_fit_beside_what_it_would_replace_gives_nothing_up_for_it() -> None:
    pools = {
        "nodes": Pool(quantum=3, price_usd_per_hour=1.0),
        "spot": Pool(market="spot", price_usd_per_hour=2.0),
        "dear": Pool(market="spot", price_usd_per_hour=3.0, max_replicas=1, min_replicas=1),
    }
    lived = Lived.of(ladder(pools, max_replicas=8), nodes=3, spot=3, dear=1)
    lived.turns(30, 7.0)
    lived.places[PoolName("spot")].lose(1)
    assert sum(lived.turn(7.0).targets.values()) >= 7


def test_what_a_quantum_too_large_for_the_maximum_would_give_is_bought_where_it_fits() -> None:
    pools = {
        "held": Pool(market="reserved", price_usd_per_hour=1.0),
        "block": Pool(market="reserved", price_usd_per_hour=1.0, quantum=8),
        "dear": Pool(price_usd_per_hour=3.0),
    }
    lived = Lived.of(ladder(pools, max_replicas=8), held=4)
    lived.turn(4.0)
    lived.turn(5.0)
    assert lived.sizes() == {"held": 5}
    lived.places[PoolName("held")].fail(lived.now)
    lived.turn(5.0)
    assert lived.sizes() == {"held": 4, "dear": 1}
    lived.turns(11, 5.0)  # until the shortage is forgotten
    assert lived.sizes() == {"held": 4, "dear": 1}
    assert lived.places[PoolName("dear")].ready == 1
