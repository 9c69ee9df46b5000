"""A notice starts the next tick early, and leaves the schedule unchanged."""

from __future__ import annotations

import asyncio

import pytest

from policies.history.ticks import History
from policies.model import Tick
from scaler.clock import SystemClock
from scaler.clouds.interruptions import INTERRUPTION_LIFETIME_S, InterruptionNotice, Kind, NoticeBoard, board
from scaler.controller import Controller
from scaler.setup import Setup
from scaler.shared_resources import AdapterContext, Resources
from scaler.wakeup import GATHER_S, Wakeup
from tests.fakes import FakeActuator, FakeSource, ManualClock
from tests.patience import PATIENCE_S, STEP_S, patience
from tests.scaler.test_controller import MAIN, workload
from tests.servers.daemon import until


@pytest.mark.slow
async def test_interruption_notice_starts_a_tick_within_two_seconds() -> None:
    ticks, clock = list[Tick](), SystemClock()
    context = AdapterContext(Resources(), clock, 1.0)
    servers = await board(context)
    source, pool = FakeSource(ManualClock(), {"visible": 1.0}), FakeActuator(ManualClock())
    setup = Setup(workload(interval_s=600.0), {"queue": source}, {MAIN: pool}, wakeup=context.wakeup)
    controller = Controller(setup, clock, History(), ticks.append)
    running = asyncio.create_task(controller.run(clock.now()))
    await until(lambda: len(ticks) == 1)
    for machine in ("i-1", "i-2", "i-3"):  # several notices cause one tick
        servers.pin(InterruptionNotice(machine, "interruption", clock.now()))
    async with patience(2.0):
        while len(ticks) < 2:  # noqa: ASYNC110 - a tick is no event
            await asyncio.sleep(STEP_S)
    await asyncio.sleep(2 * GATHER_S)
    assert len(ticks) == 2
    assert ticks[1].lateness_s < 300
    controller.stop()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_request_before_a_sleep_ends_that_sleep_alone() -> None:
    wakeup = Wakeup()
    wakeup.request()
    wakeup.request()
    assert await wakeup.interrupts(asyncio.sleep(PATIENCE_S))
    assert not await wakeup.interrupts(asyncio.sleep(0))


def test_interruption_notice_expires() -> None:
    clock = ManualClock()
    board = NoticeBoard(clock)
    board.pin(InterruptionNotice("i-1", "interruption", clock.now()))
    assert set(board.notices_for(["i-1", "i-2"])) == {"i-1"}
    clock.advance(INTERRUPTION_LIFETIME_S + 1)
    assert board.notices_for(["i-1"]) == {}


def test_interruption_takes_precedence_over_rebalance_recommendation() -> None:
    clock = ManualClock()
    board = NoticeBoard(clock)
    kinds: list[Kind] = ["rebalance", "interruption", "rebalance"]
    for kind in kinds:
        board.pin(InterruptionNotice("i-1", kind, clock.now()))
    assert board.notices_for(["i-1"])["i-1"].kind == "interruption"


def test_unpinned_notice_is_no_longer_returned() -> None:
    board = NoticeBoard(ManualClock())
    board.pin(InterruptionNotice("i-1", "interruption", board.clock.now()))
    board.unpin("i-1")
    assert board.notices_for(["i-1"]) == {}
