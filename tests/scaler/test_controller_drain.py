"""The control loop with an actuator that carries out a size over several ticks."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from policies.history.ticks import History
from policies.model import PoolName, Result, Tick
from scaler.config.load import workload_from
from scaler.controller import Controller
from scaler.ports import Unavailable
from scaler.setup import Setup
from tests.fakes import FakeActuator, FakeSource, ManualClock


@dataclass
class Draining(FakeActuator):
    """A pool that stays unfinished for a number of writes."""

    remaining_writes: int = 2

    def unfinished(self) -> bool:
        return self.remaining_writes > len(self.writes)


def controller(actuator: Draining, ticks: list[Tick], *, dry_run: bool = False) -> Controller:
    document = {
        "workload": "llm",
        "min_replicas": 1,
        "max_replicas": 9,
        "sources": {"queue": {"kind": "embedded"}},
        "policies": {"depth": {"kind": "queue_depth"}},
        "pools": {"main": {"kind": "embedded"}},
    }
    source = FakeSource(actuator.clock, {"visible": 0.0, "in_flight": 0.0, "delayed": 0.0, "oldest_age_s": 0.0})
    setup = Setup(workload_from(document), {"queue": source}, {PoolName("main"): actuator})
    return Controller(setup, actuator.clock, History(), ticks.append, dry_run=dry_run)


async def test_unfinished_resize_is_written_again_until_it_finishes() -> None:
    clock, ticks = ManualClock(), list[Tick]()
    actuator = Draining(clock)
    drain_controller = controller(actuator, ticks)
    for _ in range(4):
        clock.advance(15)
        await drain_controller.tick(clock.now())
    assert actuator.writes == [1, 1]
    assert [o.result for tick in ticks for o in tick.outcomes] == [Result.UNCHANGED] * 4


async def test_failed_resize_while_draining_is_reported() -> None:
    clock, ticks = ManualClock(), list[Tick]()
    await controller(Draining(clock, resize_error=Unavailable("no pods")), ticks).tick(clock.now())
    assert [(o.result, o.reason) for o in ticks[0].outcomes] == [(Result.UNAVAILABLE, "no pods")]


@pytest.mark.parametrize("dry_run", [True, False])
async def test_dry_run_writes_nothing_while_draining(dry_run: bool) -> None:
    clock, ticks = ManualClock(), list[Tick]()
    actuator = Draining(clock)
    await controller(actuator, ticks, dry_run=dry_run).tick(clock.now())
    assert actuator.writes == ([] if dry_run else [1])
