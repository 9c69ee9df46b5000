"""The kernel gives the same integers as the rules followed one iteration at a time."""

from __future__ import annotations

import pytest
from hypothesis import given

from simulators.engine.kernel import layout
from tests.laws import law
from tests.simulators.engine.kernel.worlds import World, by_kernel, by_reference, expected, outcome, worlds

pytestmark = pytest.mark.slow


@law(400)
@given(worlds())
def test_every_time_of_every_request_equals_the_reference(world: World) -> None:
    assert outcome(by_kernel(world)) == expected(by_reference(world))


@law(100)
@given(worlds())
def test_replica_state_at_the_end_equals_the_reference(world: World) -> None:
    k, results = by_kernel(world), by_reference(world)
    for s, plan, counters in zip(k.read().rows, world.plans, results.replicas, strict=True):
        if plan.kill_ps is None:
            actual = tuple(int(s[f]) for f in (layout.RUNNING, layout.WAITING, layout.USED, layout.TOKENS_OUT))
            assert actual == tuple(counters)
    if all(plan.kill_ps is None for plan in world.plans):
        assert int(k.replicas[:, layout.PREEMPTIONS].sum()) == results.preemptions


@law(100)
@given(worlds())
def test_reading_the_state_changes_nothing(world: World) -> None:
    unread = World(world.model, world.plans, world.requests, world.router, world.seed, [])
    assert outcome(by_kernel(world)) == outcome(by_kernel(unread))
    assert by_kernel(world).gaps.tolist() == by_kernel(unread).gaps.tolist()
