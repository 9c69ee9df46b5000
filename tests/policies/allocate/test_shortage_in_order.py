"""Pools that differ in nothing fill in the order listed, but for those that are known to give no more."""

from __future__ import annotations

import pytest

from policies.allocate.in_order import allocate
from policies.history.capacity_backoff import FIRST_S
from policies.model import PoolName, Result, RuleId
from policies.model.spec import Pool, ScaleDown
from tests.policies.allocate.worlds import Lived, ladder

FIRST, SECOND = PoolName("first"), PoolName("second")
PLAIN = {"first": Pool(), "second": Pool()}


def two() -> Lived:
    return Lived.of(ladder(PLAIN, scale_down=ScaleDown(window_s=60.0)))


@pytest.mark.parametrize("refusal", [Result.OUT_OF_CAPACITY, Result.OUT_OF_QUOTA, Result.MISCONFIGURED])
def test_what_the_first_refuses_is_asked_of_the_next(refusal: Result) -> None:
    lived = two()
    lived.places[FIRST].refuses = refusal
    lived.turns(3, 4)
    assert lived.sizes() == {"second": 4}
    assert next(step.reason for step in lived.decisions[1].steps if step.rule == RuleId.SHORTAGE).startswith("first: ")


@pytest.mark.parametrize("quota", [False, True], ids=["capacity", "quota"])
def test_what_fails_after_it_was_accepted_is_withdrawn_and_asked_of_the_next(quota: bool) -> None:
    lived = two()
    lived.turns(12, 3)
    lived.turn(6)
    lived.places[FIRST].fail(lived.now, quota=quota)
    lived.turns(3, 6)
    assert lived.sizes() == {"first": 3, "second": 3}


def test_the_first_is_asked_again_when_its_wait_is_over() -> None:
    lived = two()
    lived.places[FIRST].refuses = Result.OUT_OF_CAPACITY
    lived.turns(3, 4)
    lived.places[FIRST].refuses = None
    lived.turns(int(FIRST_S / lived.workload.interval_s) + 1, 4)
    lived.turns(2, 6)
    assert lived.sizes() == {"first": 2, "second": 4}, "what serves is not moved"


def test_a_pool_alone_is_asked_every_turn() -> None:
    lived = Lived.of(ladder({"first": Pool()}))
    lived.places[FIRST].refuses = Result.OUT_OF_CAPACITY
    lived.turns(5, 4)
    assert [d.targets[FIRST] for d in lived.decisions] == [4] * 5


def test_where_all_are_short_the_order_listed_stands() -> None:
    lived = two()
    for place in lived.places.values():
        place.refuses = Result.OUT_OF_CAPACITY
    lived.turns(8, 4)
    plain = allocate(4, {FIRST: 0, SECOND: 0}, lived.workload.pools, set(), 20)
    assert lived.decisions[-1].targets == plain


def test_nothing_is_withdrawn_on_missing_evidence() -> None:
    lived = two()
    lived.turns(12, 3)
    lived.turn(6)
    lived.places[FIRST].fail(lived.now)
    decision = lived.turn(6, blind=True)
    assert decision.targets[FIRST] == 6


@pytest.mark.parametrize("most", [2, 20])
def test_a_shortage_leaves_replicas_that_are_no_whole_quantum_as_they_are(most: int) -> None:
    lived = Lived.of(ladder({"first": Pool(quantum=3), "second": Pool()}, max_replicas=most), first=2)
    lived.places[FIRST].fail(lived.now)
    assert lived.turn(2.0).targets == {FIRST: 2, SECOND: 0}
    assert lived.turn(3.0).targets == {FIRST: 2, SECOND: 0 if most == 2 else 1}
