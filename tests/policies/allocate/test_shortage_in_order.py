"""Pools that do not differ fill in the order listed, except for those with a shortage."""

from __future__ import annotations

import pytest

from policies.allocate.in_order import allocate
from policies.history.capacity_backoff import FIRST_S
from policies.model import PoolName, Result, RuleId
from policies.model.pool import Pool
from policies.model.spec import ScaleDown
from tests.policies.allocate.worlds import Simulation, workload_over

FIRST, SECOND = PoolName("first"), PoolName("second")
PLAIN = {"first": Pool(), "second": Pool()}


def two_pools() -> Simulation:
    return Simulation.of(workload_over(PLAIN, scale_down=ScaleDown(window_s=60.0)))


@pytest.mark.parametrize("refusal", [Result.OUT_OF_CAPACITY, Result.OUT_OF_QUOTA, Result.MISCONFIGURED])
def test_refused_replicas_are_requested_from_the_next_pool(refusal: Result) -> None:
    sim = two_pools()
    sim.fake_pools[FIRST].refusal = refusal
    sim.run(3, 4)
    assert sim.sizes() == {"second": 4}
    assert next(step.reason for step in sim.decisions[1].steps if step.rule == RuleId.SHORTAGE).startswith("first: ")


@pytest.mark.parametrize("quota", [False, True], ids=["capacity", "quota"])
def test_failed_replicas_are_withdrawn_and_requested_from_the_next_pool(quota: bool) -> None:
    sim = two_pools()
    sim.run(12, 3)
    sim.tick(6)
    sim.fake_pools[FIRST].fail(sim.now, quota=quota)
    sim.run(3, 6)
    assert sim.sizes() == {"first": 3, "second": 3}


def test_first_pool_is_requested_again_after_its_wait() -> None:
    sim = two_pools()
    sim.fake_pools[FIRST].refusal = Result.OUT_OF_CAPACITY
    sim.run(3, 4)
    sim.fake_pools[FIRST].refusal = None
    sim.run(int(FIRST_S / sim.workload.interval_s) + 1, 4)
    sim.run(2, 6)
    assert sim.sizes() == {"first": 2, "second": 4}, "serving replicas are not moved"


@pytest.mark.parametrize("others", [{}, {"second": Pool(max_replicas=0)}], ids=["one pool", "the other pool is closed"])
def test_only_pool_is_requested_every_tick(others: dict[str, Pool]) -> None:
    sim = Simulation.of(workload_over({"first": Pool(), **others}))
    sim.fake_pools[FIRST].refusal = Result.OUT_OF_CAPACITY
    sim.run(5, 4)
    assert [d.targets[FIRST] for d in sim.decisions] == [4] * 5


def test_full_pool_is_no_alternative_to_a_shortage() -> None:
    sim = Simulation.of(workload_over({"first": Pool(), "second": Pool(max_replicas=7, quantum=4)}))
    sim.fake_pools[FIRST].refusal = Result.OUT_OF_CAPACITY
    sim.run(8, 6)
    assert sim.sizes() == {"second": 4}
    assert [d.targets[FIRST] for d in sim.decisions[-3:]] == [2] * 3, "requested in every tick"


def test_pools_fill_in_the_order_listed_if_all_have_a_shortage() -> None:
    sim = two_pools()
    for fake_pool in sim.fake_pools.values():
        fake_pool.refusal = Result.OUT_OF_CAPACITY
    sim.run(8, 4)
    plain = allocate(4, {FIRST: 0, SECOND: 0}, sim.workload.pools, set(), 20)
    assert sim.decisions[-1].targets == plain


def test_missing_evidence_withdraws_no_replicas() -> None:
    sim = two_pools()
    sim.run(12, 3)
    sim.tick(6)
    sim.fake_pools[FIRST].fail(sim.now)
    decision = sim.tick(6, blind=True)
    assert decision.targets[FIRST] == 6


@pytest.mark.parametrize("most", [2, 20])
def test_shortage_keeps_replicas_of_an_incomplete_quantum(most: int) -> None:
    sim = Simulation.of(workload_over({"first": Pool(quantum=3), "second": Pool()}, max_replicas=most), first=2)
    sim.fake_pools[FIRST].fail(sim.now)
    assert sim.tick(2.0).targets == {FIRST: 2, SECOND: 0}
    assert sim.tick(3.0).targets == {FIRST: 2, SECOND: 0 if most == 2 else 1}
