"""Minimum billed time: a replica that is paid for anyway stays, and its price counts when it is added."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.history.added_replicas import AddedReplicas
from policies.model import PoolName, RuleId
from policies.model.pool import Pool
from policies.model.spec import ScaleDown
from tests.policies.allocate.worlds import Simulation, workload_over

HOUR_S = 3600.0
UNITS, NODES = PoolName("units"), PoolName("nodes")
QUICK: dict[str, Any] = {
    "scale_down": ScaleDown(window_s=60.0, max_replicas=20),
    "cooldown_s": 60.0,
    "slo_violation_cost_ratio": 0.01,
    "min_replicas": 0,
}
"""The load may be followed down within minutes, so that only the minimum billed time keeps replicas."""


def simulation(pools: dict[str, Pool]) -> Simulation:
    return Simulation.of(workload_over(pools, **QUICK))


def minutes(sim: Simulation, count: float) -> int:
    return round(count * 60 / sim.workload.interval_s)


@pytest.mark.parametrize("price", [None, 3.0], ids=["in the order listed", "by cost"])
def test_hourly_unit_is_not_removed_after_ten_quiet_minutes(price: float | None) -> None:
    unit = Pool(min_billed_s=HOUR_S, price_usd_per_hour=price)
    sim = simulation({"units": unit, "nodes": dataclasses.replace(unit, min_billed_s=0.0, max_replicas=0)})
    sim.run(minutes(sim, 5), 3)
    sim.run(minutes(sim, 10), 0)
    assert sim.sizes() == {"units": 3}
    assert "3 of units are billed for at least 3600 s" in sim.reason_of(RuleId.MIN_BILLED)
    sim.run(minutes(sim, 50), 0)
    assert sim.sizes() == {}
    assert sim.reason_of(RuleId.MIN_BILLED) == ""


def test_pool_without_a_minimum_shrinks_first() -> None:
    sim = simulation({"nodes": Pool(max_replicas=2), "units": Pool(min_billed_s=HOUR_S)})
    sim.run(minutes(sim, 5), 4)
    assert sim.sizes() == {"nodes": 2, "units": 2}
    sim.run(minutes(sim, 10), 2)
    assert sim.sizes() == {"units": 2}, "the units are paid for, so the nodes go"


def test_replicas_that_never_arrived_may_go() -> None:
    sim = simulation({"units": Pool(min_billed_s=HOUR_S), "nodes": Pool()})
    sim.tick(3)
    sim.fake_pools[UNITS].fail(sim.now)
    sim.run(minutes(sim, 5), 3)
    assert sim.sizes() == {"nodes": 3}


def test_minimum_does_not_exceed_the_maximum_of_the_workload() -> None:
    sim = simulation({"units": Pool(min_billed_s=HOUR_S)})
    sim.run(minutes(sim, 5), 6)
    sim.workload = dataclasses.replace(sim.workload, max_replicas=4)
    sim.run(minutes(sim, 5), 6)
    assert sim.sizes() == {"units": 4}


def test_short_need_is_met_by_the_pool_without_a_minimum() -> None:
    """At a payback time of an hour, a minimum of 4 h makes the unit cost three hours of rent more: 3 * 2 > 3."""
    unit = Pool(price_usd_per_hour=2.0, min_billed_s=4 * HOUR_S)
    pools = {"units": unit, "nodes": Pool(price_usd_per_hour=3.0)}
    sim = simulation(pools)
    sim.tick(2)
    assert sim.sizes() == {"nodes": 2}
    sim = simulation({**pools, "units": dataclasses.replace(unit, min_billed_s=0.0)})
    sim.tick(2)
    assert sim.sizes() == {"units": 2}


def test_removed_replicas_are_the_oldest_and_missing_ones_the_newest() -> None:
    added = AddedReplicas()
    added.note(0.0, 2, 5)
    added.note(100.0, 5, 7)
    assert added.within(150.0, 100.0) == 2
    added.note(200.0, 5, 5)  # the platform did not provide the last two
    assert (added.within(200.0, 150.0), added.within(200.0, 300.0)) == (0, 3)
    added.note(300.0, 5, 6)
    added.note(310.0, 6, 4)  # the two from before the first tick go
    assert (added.within(310.0, 100.0), added.within(310.0, 400.0)) == (1, 4)
    added.note(310.0, 4, 2)  # the oldest two of the first three go
    assert (added.within(310.0, 100.0), added.within(310.0, 400.0)) == (1, 2)
    assert added.remaining_s(310.0, 400.0) == 90.0


def test_clock_jump_changes_no_age() -> None:
    added = AddedReplicas()
    added.note(0.0, 0, 0)
    added.note(15.0, 0, 2)
    added.shift(HOUR_S)
    assert added.within(HOUR_S + 20.0, 10.0) == 2
    assert added.within(HOUR_S + 25.0, 10.0) == 0


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=40))
def test_replicas_within_the_minimum_never_exceed_the_size(ticks: list[tuple[int, int]]) -> None:
    added = AddedReplicas()
    for at, (desired, requested) in enumerate(ticks):
        added.note(float(at), desired, requested)
        assert 0 <= added.within(float(at), 1e9) <= requested


@dataclasses.dataclass(frozen=True, kw_only=True)
class Keeping(Pool):
    """A pool whose capacity may not return once it is given back."""

    def keeps_replicas(self) -> bool:
        return True


@pytest.mark.parametrize("price", [None, 3.0], ids=["in the order listed", "by cost"])
def test_pool_that_keeps_its_replicas_never_shrinks(price: float | None) -> None:
    unit = Keeping(price_usd_per_hour=price)
    sim = simulation({"units": unit, "nodes": Pool(price_usd_per_hour=price, max_replicas=0)})
    sim.run(minutes(sim, 5), 3)
    sim.run(minutes(sim, 120), 0)
    assert sim.sizes() == {"units": 3}
    assert sim.reason_of(RuleId.MIN_BILLED) == "3 of units are kept, as they may not be available again"
