"""The lock queue: exclusive writes, first come first served, and places that expire."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scaler.clouds.lock_queue import PLACE_S, LockQueue, lock_queue
from scaler.ports import Conflict, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.fakes import ManualClock

POOLS = ("a", "b", "c", "d")


@dataclass
class Endpoint:
    """A platform object that accepts one change at a time, and is busy for some time after each."""

    queue: LockQueue
    busy: bool = False
    writing: int = 0
    most_writing: int = 0
    accepted: list[str] = field(default_factory=list)

    async def write(self, pool: str, pauses: int = 0, failure: Exception | None = None) -> str:
        """Write once; return the reason of a conflict, or the empty string."""
        try:
            async with self.queue.turn(pool):
                await self._change(pool, pauses, failure)
        except Conflict as e:
            return str(e)
        return ""

    async def _change(self, pool: str, pauses: int, failure: Exception | None) -> None:
        if self.busy:
            raise Conflict("the endpoint is being updated")
        self.writing += 1
        self.most_writing = max(self.most_writing, self.writing)
        try:
            for _ in range(pauses):
                await asyncio.sleep(0)
        finally:
            self.writing -= 1
        if failure is not None:
            raise failure
        self.accepted.append(pool)
        self.busy = True


def endpoint() -> tuple[Endpoint, ManualClock]:
    clock = ManualClock()
    return Endpoint(LockQueue(clock, "endpoint chat")), clock


async def test_write_waits_for_the_write_in_flight_and_reports_it() -> None:
    one, _ = endpoint()
    first = asyncio.create_task(one.write("a", pauses=5))
    await asyncio.sleep(0)
    assert await one.write("b") == "endpoint chat: waits for its turn; a writes now"
    assert await one.write("c") == "endpoint chat: waits for its turn; a writes now, behind b"
    assert await first == ""
    assert (one.most_writing, one.accepted) == (1, ["a"])


async def test_pools_are_served_in_the_order_in_which_they_asked() -> None:
    one, clock = endpoint()
    await one.write("a")
    for pool in ("b", "a", "c"):
        assert await one.write(pool)
    one.busy = False
    clock.advance(15.0)
    assert await one.write("c") == "endpoint chat: waits for its turn, behind b, a"
    assert await one.write("a") == "endpoint chat: waits for its turn, behind b"
    assert await one.write("b") == ""
    one.busy = False
    assert await one.write("a") == ""
    one.busy = False
    assert await one.write("c") == ""


async def test_pool_that_no_longer_asks_loses_its_place() -> None:
    one, clock = endpoint()
    one.busy = True
    await one.write("a")
    await one.write("b")
    one.busy = False
    one.queue.withdraw("a")
    assert await one.write("b") == ""
    one.busy = True
    await one.write("c")
    await one.write("d")
    one.busy = False
    clock.advance(PLACE_S + 1)
    assert await one.write("d") == "", "the place of c has expired"


async def test_clock_jump_expires_no_place() -> None:
    one, clock = endpoint()
    one.busy = True
    await one.write("a")
    one.busy = False
    clock.jump_s = 3600.0
    assert "behind a" in await one.write("b")


async def test_failing_write_does_not_hold_back_the_others() -> None:
    one, _ = endpoint()
    one.busy = True
    await one.write("a")
    await one.write("b")
    one.busy = False
    with pytest.raises(Unavailable):
        await one.write("a", failure=Unavailable("no response"))
    assert one.queue.waiting == ("b",)
    assert await one.write("b") == ""


async def test_cancelled_write_releases_the_lock() -> None:
    one, _ = endpoint()
    task = asyncio.create_task(one.write("a", pauses=1000))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await one.write("b") == ""


async def test_all_pools_of_the_daemon_share_one_queue() -> None:
    async with Resources() as resources:
        contexts = [AdapterContext(resources, ManualClock(), DEADLINE_S) for _ in range(2)]
        one, other = [await lock_queue(c, ("sagemaker", "chat"), "endpoint chat") for c in contexts]
        assert one is other
        assert one is not await lock_queue(contexts[0], ("sagemaker", "batch"), "endpoint batch")


actions = st.one_of(
    st.tuples(st.just("write"), st.sampled_from(POOLS), st.integers(0, 4)),
    st.tuples(st.just("fail"), st.sampled_from(POOLS), st.integers(0, 4)),
    st.tuples(st.just("cancel"), st.sampled_from(POOLS), st.integers(0, 4)),
    st.tuples(st.just("withdraw"), st.sampled_from(POOLS), st.just(0)),
    st.tuples(st.just("idle"), st.just(""), st.just(0)),
    st.tuples(st.just("run"), st.just(""), st.integers(0, 6)),
)


@pytest.mark.slow
@settings(max_examples=150)
@given(st.lists(actions, max_size=60))
def test_no_two_writes_overlap_and_no_waiting_pool_is_overtaken(interleaving: list[tuple[str, str, int]]) -> None:
    """Random interleavings of many workloads' ticks, the platform's busy times, failures and cancellations."""

    async def run() -> None:
        one, _ = endpoint()
        running: list[tuple[str, asyncio.Task[str]]] = []
        for action, pool, pauses in interleaving:
            before, places = len(one.accepted), one.queue.waiting
            match action:
                case "write" | "fail":
                    failure = Unavailable("no response") if action == "fail" else None
                    running.append((pool, asyncio.create_task(one.write(pool, pauses, failure))))
                    await asyncio.sleep(0)
                case "cancel":
                    for task in [task for name, task in running if name == pool]:
                        task.cancel()
                    await asyncio.sleep(0)
                case "withdraw":
                    one.queue.withdraw(pool)
                case "idle":
                    one.busy = False
                case _:
                    for _ in range(pauses):
                        await asyncio.sleep(0)
            if len(one.accepted) == before + 1 and places and action == "write" and not pauses:
                assert one.accepted[-1] in {places[0], *(name for name, _ in running)}
            assert one.most_writing <= 1
        await asyncio.gather(*(task for _, task in running), return_exceptions=True)
        assert one.writing == 0
        for waiting in one.queue.waiting:  # each pool that waits is served, in order
            one.busy = False
            assert await one.write(waiting) == ""
        assert one.queue.waiting == ()

    asyncio.run(run())
