"""Every invariant fails in a world that breaks its rule, and holds in all others."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from simulators.engine.kernel import layout
from simulators.engine.models.service import PS_PER_S
from simulators.experiments.invariants import InvariantBroken, check
from simulators.world.infrastructure.node_lifecycle import NodeState
from simulators.world.queue import SimulatedQueue
from simulators.world.world import World
from tests.simulators.world.makers import POOL, trace, world

ROWS = [(0.25 * k, 20, 40) for k in range(100)]


def running(at_s: float = 12.3, **options: object) -> World:
    world_ = world(trace(*ROWS), replicas=2, **options)
    world_.run_until(round(at_s * PS_PER_S))
    return world_


@pytest.mark.parametrize("at_s", [0.0, 0.26, 12.3, 60.0])
@pytest.mark.parametrize("queue", [None, SimulatedQueue()])
def test_invariants_hold_in_valid_worlds(at_s: float, queue: SimulatedQueue | None) -> None:
    check(running(at_s, queue=queue))


def replica(field: int, change: int) -> Callable[[World], None]:
    def break_world(w: World) -> None:
        w.kernel.replicas[0, field] += change

    return break_world


def time_of(request: int, field: int, at_ps: int) -> Callable[[World], None]:
    def break_world(w: World) -> None:
        w.kernel.times[request, field] = at_ps

    return break_world


def world_field(field: int, change: int) -> Callable[[World], None]:
    def break_world(w: World) -> None:
        w.kernel.world[field] += change

    return break_world


def stall_busy_replica(w: World) -> None:
    number = int(w.kernel.replicas[: w.kernel.world[layout.REPLICAS], layout.OUTSTANDING].argmax())
    w.kernel.replicas[number, layout.DUE] = layout.NEVER


def hold_blocks_while_idle(w: World) -> None:
    w.kernel.replicas[0, layout.USED] = 1


@pytest.mark.parametrize(
    ("break_world", "at_s", "message"),
    [
        (time_of(3, layout.FINISH, layout.OPEN), 60.0, "requests are conserved: 100 arrived, 99 accounted for"),
        (world_field(layout.QUEUED, 1), 12.3, "requests are conserved"),
        (world_field(layout.RETRIES, 1), 12.3, "requests are conserved"),
        (replica(layout.OUTSTANDING, 1), 12.3, "requests are conserved"),
        (replica(layout.FINISHED, 1), 60.0, "every finished request was finished by a replica"),
        (replica(layout.WAITING, 1), 12.3, "each outstanding request waits or runs"),
        (replica(layout.TOKENS_OUT, 1), 60.0, "tokens are conserved"),
        (replica(layout.TOKENS_OUT, -4000), 12.3, "tokens are conserved"),
        (replica(layout.USED, 10_000), 12.3, "used KV blocks fit into the cache"),
        (replica(layout.USED, -10_000), 12.3, "used KV blocks fit into the cache"),
        (hold_blocks_while_idle, 60.0, "an engine without running requests holds no KV blocks"),
        (time_of(3, layout.ENTER, 1), 60.0, "each request arrives, enters, is admitted, starts and ends in this order"),
        (
            time_of(3, layout.ADMIT, 50 * PS_PER_S),
            60.0,
            "each request arrives, enters, is admitted, starts and ends in this order",
        ),
        (
            time_of(3, layout.FIRST, 50 * PS_PER_S),
            60.0,
            "each request arrives, enters, is admitted, starts and ends in this order",
        ),
        (stall_busy_replica, 12.3, "a replica with requests has a next event"),
    ],
)
def test_a_broken_world_violates_its_invariant(break_world: Callable[[World], None], at_s: float, message: str) -> None:
    broken_world = running(at_s)
    check(broken_world)
    break_world(broken_world)
    with pytest.raises(InvariantBroken, match=message) as e:
        check(broken_world)
    assert "Please report it with the scenario and the seed" in str(e.value)


def test_a_request_waiting_while_a_replica_has_room_is_detected() -> None:
    broken_world = world(trace(*[(0.0, 20, 400)] * 9), replicas=2, queue=SimulatedQueue())  # eight run, one waits
    broken_world.run_until(PS_PER_S)
    check(broken_world)
    broken_world.kernel.world[layout.LIMIT] += 1
    with pytest.raises(InvariantBroken, match="no request waits in the central queue while a replica has room"):
        check(broken_world)


def test_a_broken_pool_is_detected() -> None:
    broken_world = running()
    broken_world.pools[POOL].ledger.nodes[0].moves.append((broken_world.now_ps, NodeState.GONE))
    with pytest.raises(InvariantBroken, match="pool gpus: 2 replicas are desired, but 1 are live and 0 wait"):
        check(broken_world)
