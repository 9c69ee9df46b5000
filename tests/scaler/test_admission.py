"""Admission of ticks: with too much work they start late, and each keeps its pace."""

from __future__ import annotations

import asyncio

from scaler.admission import BUSY_ROUND_S, MAX_BUSY_ROUNDS, TickAdmission

STEP_S = 0.001
STEPS = 30
TICKS = 200


class Work:
    """Ticks of `STEPS` steps that each keep the loop busy for `STEP_S`, on a clock that only they advance."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.running = 0
        self.most_running = 0
        self.longest_s = 0.0
        self.order: list[int] = []

    async def tick(self, n: int) -> None:
        began_s = self.now_s
        self.order.append(n)
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        for _ in range(STEPS):
            self.now_s += STEP_S
            await asyncio.sleep(0.0)
        self.running -= 1
        self.longest_s = max(self.longest_s, self.now_s - began_s)


async def test_ticks_that_are_all_due_start_one_after_the_other() -> None:
    work = Work()
    admission = TickAdmission(lambda: work.now_s)

    async def due(n: int) -> None:
        await admission.wait()
        await work.tick(n)

    await asyncio.gather(*(due(n) for n in range(TICKS)))

    assert work.order == list(range(TICKS))
    assert work.most_running <= BUSY_ROUND_S / STEP_S + 1
    assert work.longest_s <= STEPS * (BUSY_ROUND_S + 2 * STEP_S)  # without admission: 200 x 30 ms


async def test_a_loop_that_is_always_busy_delays_a_tick_by_ten_rounds() -> None:
    rounds = 0

    def stopwatch() -> float:
        nonlocal rounds
        rounds += 1
        return rounds * 2 * BUSY_ROUND_S

    await TickAdmission(stopwatch).wait()

    assert rounds == 2 * MAX_BUSY_ROUNDS


async def test_a_cancelled_tick_holds_up_no_other() -> None:
    admission = TickAdmission(lambda: 0.0)
    first, second = asyncio.create_task(admission.wait()), asyncio.create_task(admission.wait())
    await asyncio.sleep(0.0)
    first.cancel()
    await asyncio.wait_for(second, 30.0)
    await asyncio.wait_for(admission.wait(), 30.0)


async def test_ticks_that_wait_for_a_server_delay_no_other() -> None:
    work = Work()
    admission, answered = TickAdmission(lambda: work.now_s), asyncio.Event()

    async def waits() -> None:
        await admission.wait()
        await answered.wait()

    hung = [asyncio.create_task(waits()) for _ in range(TICKS)]
    await asyncio.wait_for(admission.wait(), 30.0)
    await work.tick(0)
    answered.set()
    await asyncio.gather(*hung)

    assert work.order == [0]
