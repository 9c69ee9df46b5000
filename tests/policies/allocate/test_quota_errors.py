"""Quota errors: waited out for minutes to an hour, then the pool is requested again and used."""

from __future__ import annotations

import itertools

import pytest

from policies.history.capacity_backoff import JITTER, QUOTA_FIRST_S, QUOTA_LONGEST_S, QUOTA_SHORTEST_S, CapacityBackoff
from policies.model import PoolName, Result
from policies.model.pool import Pool
from policies.model.spec import ScaleDown
from tests.factories import NOW
from tests.policies.allocate.worlds import Simulation, workload_over

A, B = PoolName("a"), PoolName("b")
CHEAP, EXPENSIVE = Pool(price_usd_per_hour=1.0), Pool(price_usd_per_hour=3.0)
POOLS: dict[str, dict[str, Pool]] = {
    "one pool": {"a": Pool()},
    "one priced pool": {"a": CHEAP},
    "two pools": {"a": Pool(), "b": Pool()},
    "two priced pools": {"a": CHEAP, "b": EXPENSIVE},
    "two priced pools, the dear one first": {"b": EXPENSIVE, "a": CHEAP},
}
"""Pools whose `a` has the quota."""
RESPONSE_TICKS = 2
"""Ticks until a refusal is observed and a decision responds to it."""


def simulation_over_quota(pools: dict[str, Pool]) -> Simulation:
    sim = Simulation.of(workload_over(pools, scale_down=ScaleDown(window_s=60.0)))
    sim.fake_pools[A].refusal = Result.OUT_OF_QUOTA
    return sim


def requests(sim: Simulation) -> list[float]:
    """Return the times of requests for growth of pool `a`, in seconds from the start."""
    return [t.at - NOW for t in sim.ticks for o in t.outcomes if o.pool == A and o.after > o.before]


def ticks(sim: Simulation, seconds: float) -> int:
    return int(seconds / sim.workload.interval_s)


@pytest.mark.slow
@pytest.mark.parametrize("pools", POOLS.values(), ids=POOLS)
def test_quota_error_of_45_seconds_ends_within_minutes(pools: dict[str, Pool]) -> None:
    sim = simulation_over_quota(pools)
    sim.run(3, 4)
    sim.fake_pools[A].refusal = None
    sim.run(ticks(sim, QUOTA_FIRST_S) + RESPONSE_TICKS, 4)
    sim.run(40, 6)
    assert sim.fake_pools[A].ready >= 2, "its capacity is used"
    later_s = [at for at in requests(sim) if at > 45.0]
    assert later_s
    if "b" not in pools or pools["a"] != pools["b"]:
        assert later_s[0] <= QUOTA_FIRST_S + RESPONSE_TICKS * 15.0


@pytest.mark.slow
@pytest.mark.parametrize("pools", POOLS.values(), ids=POOLS)
def test_quota_error_limits_requests_and_its_pool_is_used_once_it_ends(pools: dict[str, Pool]) -> None:
    sim = simulation_over_quota(pools)
    sim.run(ticks(sim, 6 * 3600.0), 4)
    requested_s = requests(sim)
    waits = [later - earlier for earlier, later in itertools.pairwise(requested_s)]
    assert min(waits, default=QUOTA_SHORTEST_S) >= QUOTA_SHORTEST_S
    assert len(requested_s) <= (12 if "b" in pools else 6 * 3600.0 / QUOTA_SHORTEST_S + 1)
    if "b" in pools:
        assert sim.fake_pools[B].ready == 4, "requested elsewhere meanwhile"
    sim.fake_pools[A].refusal = None
    sim.run(ticks(sim, QUOTA_LONGEST_S) + RESPONSE_TICKS, 6)
    sim.run(40, 8)
    assert sim.fake_pools[A].ready >= 2


@pytest.mark.slow
def test_quota_waits_double_to_an_hour_and_appear_in_the_reason() -> None:
    sim = simulation_over_quota(POOLS["two priced pools"])
    sim.run(3, 4)
    assert sim.reason_of("shortage").startswith("a: quota error (none to be had): retry in ")
    sim.run(ticks(sim, 8 * 3600.0), 4)
    requested_s = requests(sim)
    waits = [later - earlier for earlier, later in itertools.pairwise(requested_s)]
    for wait_s, whole_s in zip(waits, [300, 600, 1200, 2400, 3600, 3600, 3600], strict=False):
        assert (1.0 - JITTER) * whole_s <= wait_s <= whole_s + 15.0
    assert len(waits) >= 8


def test_quota_error_reported_after_the_write_is_waited_out_too() -> None:
    sim = Simulation.of(workload_over(POOLS["two priced pools"], scale_down=ScaleDown(window_s=60.0)))
    sim.tick(4)
    sim.fake_pools[A].fail(sim.now, quota=True)
    sim.fake_pools[A].desired = sim.fake_pools[A].ready
    sim.run(20, 4)
    assert sim.fake_pools[B].ready == 4
    sim.fake_pools[A].shortfall, sim.fake_pools[A].capacity = None, 99
    sim.run(40, 4)
    assert sim.sizes() == {"a": 4}


def test_only_pool_keeps_its_standing_request_after_a_quota_error() -> None:
    """The platform fulfils it by itself once the quota allows it."""
    sim = Simulation.of(workload_over(POOLS["one pool"], scale_down=ScaleDown(window_s=60.0)))
    sim.tick(4)
    sim.fake_pools[A].fail(sim.now, quota=True)
    assert sim.run(20, 4).targets == {A: 4}


@pytest.mark.slow
def test_changed_specification_ends_the_wait_at_once() -> None:
    sim = simulation_over_quota(POOLS["two priced pools"])
    sim.run(ticks(sim, 6 * 3600.0), 2)
    sim.fake_pools[A].refusal = None
    sim.fingerprint = "new"
    sim.run(3, 2)
    assert sim.fake_pools[A].desired == 2


def test_arrival_of_earlier_requests_does_not_end_the_wait() -> None:
    """A lost replica of a pool with a quota of 2 was replaced: the quota is no larger than before."""
    first = CapacityBackoff().over_quota(NOW, "8 of 8 in use", "abc", "a")
    assert first.granted(1, NOW + 60.0).until == first.until
    assert not first.granted(1, first.until).is_active(first.until)


def test_quota_wait_ignores_capacity_errors_and_keeps_grant_probability() -> None:
    first = CapacityBackoff().over_quota(NOW, "8 of 8 in use", "abc", "a")
    assert first.refused(NOW + 15.0, "2 requested replicas did not arrive") == first
    assert first.grant_probability() == CapacityBackoff().grant_probability()


def test_pools_under_one_quota_retry_at_different_reproducible_times() -> None:
    waits = [CapacityBackoff().over_quota(NOW, "8 of 8 in use", "abc", name).until for name in ("a", "b", "b")]
    assert waits[0] != waits[1] == waits[2]


def test_clock_jump_keeps_the_remaining_wait() -> None:
    first = CapacityBackoff().over_quota(NOW, "8 of 8 in use", "abc", "a")
    moved = first.shifted(-5000.0)
    assert moved.until - first.until == moved.quota_error_at - first.quota_error_at == -5000.0
