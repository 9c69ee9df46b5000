"""Managed pools accept one update at a time, which lasts until its replicas serve, and may be rolled back."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.model import Absent, PoolName
from scaler.ports import Conflict, OutOfQuota
from simulators.engine.kernel.event_loop import Router
from simulators.world import ports
from simulators.world.infrastructure.market import PoolOffer, ZoneOffer
from simulators.world.infrastructure.node_lifecycle import NodeState, Phase, StartUp
from simulators.world.infrastructure.pending import Failures
from simulators.world.infrastructure.pool import FleetPool
from simulators.world.infrastructure.units import to_ps
from simulators.world.infrastructure.update_lock import UpdateLock
from simulators.world.infrastructure.updates import Updates
from simulators.world.telemetry import Telemetry
from simulators.world.world import World as SimulatedWorld
from tests.simulators.world import makers
from tests.simulators.world.infrastructure.worlds import FakeEngines, World, offer

STARTS = StartUp(
    node=Phase(median_s=300.0),
    **{name: Phase(median_s=0.0) for name in ("image", "weights", "compile", "ready")},
)
MINUTE = Updates(duration=Phase(median_s=60.0))
RESTORE = Failures(after_s=120.0, then="restore")


def managed(**changes: Any) -> PoolOffer:
    return offer(**{"start_up": STARTS, "updates": MINUTE, **changes})


def refused(world: World, replicas: int) -> bool:
    with contextlib.suppress(Conflict):
        world.resize(replicas)
        return False
    return True


def test_an_update_lasts_until_its_replicas_serve() -> None:
    world = World(managed(), begin=2)
    world.resize(4)
    world.until(299.999)
    with pytest.raises(Conflict, match="pool pool-a: the update of pool-a is in progress"):
        world.resize(5)
    assert world.sizes() == (4, 2)
    world.until(300)
    assert not refused(world, 5)
    world.bill()


def test_a_scale_in_holds_the_lock_for_the_duration_of_an_update() -> None:
    world = World(managed(), begin=4)
    world.resize(2)
    world.until(59.999)
    assert refused(world, 1)
    world.resize(2)  # the present size is no update
    world.until(60)
    assert not refused(world, 1)


def test_a_replacement_of_a_lost_node_does_not_hold_the_lock() -> None:
    world = World(managed(), begin=2)
    world.pool.interrupt(0, to_ps(10), 0)
    world.until(10)
    assert world.sizes() == (2, 1)
    assert not refused(world, 3)


def test_a_refused_write_does_not_hold_the_lock() -> None:
    world = World(managed(quota=3), begin=2)
    with pytest.raises(OutOfQuota):
        world.resize(4)
    assert not refused(world, 3)


def test_a_failed_update_returns_to_the_old_size_and_is_reported() -> None:
    world = World(managed(zones={"z": ZoneOffer(capacity=3)}, failures=RESTORE), begin=2)
    world.resize(5)
    world.until(119)
    assert world.sizes() == (5, 2)
    world.until(120)
    status = world.pool.status(world.now_ps)
    assert (status.desired, status.ready, status.failed) == (2, 2, 0), "the node that was found is given back, too"
    assert status.shortfall is not None
    assert status.shortfall.at == 120.0
    assert refused(world, 3), "the roll-back is an update"
    world.until(180)
    assert not refused(world, 3)
    assert world.pool.status(world.now_ps).shortfall is None
    world.until(480)
    assert world.sizes() == (3, 3)
    world.bill()


def test_a_failed_update_whose_roll_back_takes_no_time_releases_the_lock_at_once() -> None:
    updates = Updates(duration=Phase(median_s=60.0), rollback=Phase(median_s=0.0))
    world = World(managed(zones={"z": ZoneOffer(capacity=3)}, updates=updates, failures=RESTORE), begin=2)
    world.resize(5)
    world.until(119)
    assert refused(world, 3)
    world.until(120)
    assert (world.sizes(), world.pool.is_updating) == ((2, 2), False)
    assert not refused(world, 3)
    assert world.pool.is_updating


def test_a_replacement_that_finds_no_node_reduces_the_size_by_itself_only() -> None:
    world = World(managed(zones={"z": ZoneOffer(capacity=3)}, failures=RESTORE), begin=2)
    world.resize(3)
    world.until(400)
    world.pool._inventory.zones[0].limit = 2
    world.pool.interrupt(0, to_ps(410), world.now_ps)
    world.until(600)
    assert world.sizes() == (2, 2)


def test_restore_requires_updates() -> None:
    with pytest.raises(ValueError, match="then: restore requires updates and on_shortage: wait"):
        World(managed(updates=None, failures=RESTORE))


SIZES = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 6), st.sampled_from([0, 1, 30, 60, 119, 120, 300])),
    min_size=1,
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(SIZES)
def test_pools_of_one_lock_never_update_at_the_same_time(writes: list[tuple[int, int, int]]) -> None:
    """After each accepted write, no other size is accepted until its replicas serve or it is rolled back."""
    engines, lock = FakeEngines(), UpdateLock()
    settings_ = managed(zones={"z": ZoneOffer(capacity=4)}, failures=RESTORE)
    pools = [FleetPool(name, settings_, engines, model=0, seed=1, lock=lock) for name in ("a", "b")]
    for pool in pools:
        pool.begin(2)
    now_s, accepted = 0, list[tuple[int, FleetPool]]()
    for which, replicas, wait_s in writes:
        now_s += wait_s
        run(engines, pools, to_ps(now_s))
        pool, before = pools[which], pools[which].desired
        try:
            pool.resize(replicas, engines.now_ps)
        except Conflict:
            begun_s, holder = accepted[-1]
            starting = holder._inventory.members[NodeState.STARTING]
            assert starting or holder.waiting or now_s < begun_s + 60 + 120 + 60
            continue
        if replicas != before:
            if accepted:
                begun_s, holder = accepted[-1]
                assert now_s >= begun_s + 60
                other = holder if holder is not pool else next(p for p in pools if p is not pool)
                assert not other._inventory.members[NodeState.STARTING]
                assert not other.waiting
            accepted.append((now_s, pool))


def run(engines: FakeEngines, pools: list[FleetPool], until_ps: int) -> None:
    while due := [at for pool in pools if (at := pool.next_event_ps()) is not None and at <= until_ps]:
        engines.now_ps = min(due)
        for pool in pools:
            pool.advance(engines.now_ps)
    engines.now_ps = until_ps
    for pool in pools:
        pool.advance(until_ps)


@pytest.mark.slow
def test_pools_of_one_lock_take_turns_in_the_order_in_which_they_asked() -> None:
    """As with the live adapters: a pool that is first in every tick does not hold back the others."""
    shared = Updates(duration=Phase(median_s=60.0), lock="endpoint")
    names = (PoolName("a"), PoolName("b"))
    world = SimulatedWorld(
        models={"steady": makers.STEADY},
        pools={name: makers.offer(updates=shared, start_up=STARTS) for name in names},
        initial_replicas=dict.fromkeys(names, 1),
        router=Router(),
        queue=None,
        telemetry=Telemetry(),
        seed=1,
        epoch_s=1000.0,
        slots=1,
    )
    setup = ports.setup(world, makers.workload(pools=names), {name: name for name in names}, {})

    async def ask(name: PoolName, replicas: int) -> bool:
        """Ask for one more replica, as a tick does, and return whether that was accepted."""
        status = await setup.actuators[name].status()
        assert not isinstance(status, Absent)
        if status.value.desired == replicas:
            return False
        with contextlib.suppress(Conflict):
            await setup.actuators[name].resize(replicas, status.value)
            return True
        return False

    async def story() -> list[tuple[int, PoolName]]:
        accepted = []
        for at_s in range(0, 661, 60):
            world.run_until(to_ps(at_s))
            sizes = (2 if at_s == 0 else 3, 2)
            accepted += [(at_s, name) for name, size in zip(names, sizes, strict=True) if await ask(name, size)]
        return accepted

    assert asyncio.run(story()) == [(0, "a"), (300, "b"), (600, "a")]
