"""vLLM engines that sleep: which are put to sleep, which never, and what is told meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from policies.model import PoolName, WorkloadName
from scaler.actuators.vllm_sleep import VllmSleepResizer, open_vllm_sleep
from scaler.adapters import open_pool
from scaler.config.kinds.engines import VllmSleep
from scaler.ports import Misconfigured, OutOfCapacity, Unavailable
from scaler.shared_resources import Opening, Resources
from tests.contracts.actuator import settled
from tests.fakes import ManualClock
from tests.servers.sleeping_engines import SleepingEngines, sleeping_engines


@pytest.fixture
async def there() -> AsyncIterator[SleepingEngines]:
    async with sleeping_engines(4) as made:
        for number in range(3):
            made.engine(number).asleep = False
        yield made


@pytest.fixture
async def pool(there: SleepingEngines) -> AsyncIterator[VllmSleepResizer]:
    async with Resources() as resources:
        spec = VllmSleep(urls=there.urls)
        context = Opening(resources, ManualClock(), 1.0)
        yield await open_vllm_sleep(spec, context, WorkloadName("chat"), PoolName("engines"))


async def told(pool: VllmSleepResizer) -> tuple[int, int, int]:
    status = (await pool.status()).value
    return status.desired, status.ready, status.pending


async def test_only_idle_engines_are_put_to_sleep(there: SleepingEngines, pool: VllmSleepResizer) -> None:
    there.engine(1).running = there.engine(2).running = 3.0
    await pool.resize(2, (await pool.status()).value)
    assert [e.asleep for e in there.engines.values()] == [True, False, False, True]


async def test_one_with_requests_stays_awake_and_the_turn_says_so(
    there: SleepingEngines, pool: VllmSleepResizer
) -> None:
    there.engine(0).running, there.engine(1).running, there.engine(2).running = 3.0, None, 0.0
    with pytest.raises(Unavailable, match="2 engines are to sleep and 1 were idle; 1 have requests, 1 do not tell"):
        await pool.resize(1, (await pool.status()).value)
    assert [e.asleep for e in there.engines.values()] == [False, False, True, True]
    there.engine(0).running = 0.0
    await pool.resize(1, (await pool.status()).value)
    assert [e.asleep for e in there.engines.values()] == [True, False, True, True]
    assert [e.lost for e in there.engines.values()] == [0, 0, 0, 0]


async def test_falling_asleep_may_take_longer_than_a_turn(there: SleepingEngines, pool: VllmSleepResizer) -> None:
    there.sleep_s = 1.5
    await pool.resize(2, (await pool.status()).value)
    assert await told(pool) == (2, 2, 0)  # one does not answer while it falls asleep, and is not called upon again
    await asyncio.sleep(1.6)
    assert (await told(pool), there.awake) == ((2, 2, 0), 2)
    assert [e.told for e in there.engines.values()] == [[], [], ["/sleep"], []]


async def test_an_engine_that_is_awake_is_ready_when_it_is_healthy(
    there: SleepingEngines, pool: VllmSleepResizer
) -> None:
    there.engine(3).healthy = False
    await pool.resize(4, (await pool.status()).value)
    assert await told(pool) == (4, 3, 1)
    there.engine(3).healthy = True
    assert await told(pool) == (4, 4, 0)


async def test_one_that_does_not_answer_is_as_it_was_and_not_ready(
    there: SleepingEngines, pool: VllmSleepResizer
) -> None:
    await pool.status()
    there.engine(0).down = True
    assert await told(pool) == (3, 2, 1)


async def test_one_that_never_answered_is_missing_from_the_size(there: SleepingEngines, pool: VllmSleepResizer) -> None:
    there.engine(0).down = True
    status = await pool.status()
    assert (status.value.desired, status.value.ready) == (2, 2)
    assert status.missing.startswith("1 of 4 engines did not answer: GET http://127.0.1.1:")


async def test_none_that_answers_is_no_size(there: SleepingEngines, pool: VllmSleepResizer) -> None:
    there.fault = "refuse"
    with pytest.raises(Unavailable):
        await pool.status()


async def test_engines_without_the_mode_say_what_to_do(there: SleepingEngines, pool: VllmSleepResizer) -> None:
    there.dev_mode = False
    with pytest.raises(Misconfigured, match="--enable-sleep-mode and VLLM_SERVER_DEV_MODE=1"):
        await pool.status()


async def test_more_than_there_are_wakes_those_there_are(there: SleepingEngines, pool: VllmSleepResizer) -> None:
    with pytest.raises(OutOfCapacity, match="3 more engines are wanted, and 1 were asleep"):
        await pool.resize(6, (await pool.status()).value)
    assert there.awake == 4


async def test_asks_what_it_may_without_waking(there: SleepingEngines, pool: VllmSleepResizer) -> None:
    there.engine(3).down = True
    assert [permit.granted for permit in await pool.permits()] == [True, True, True, None]
    assert all(engine.told == [] for engine in there.engines.values())


async def test_goes_on_after_a_restart_by_what_the_engines_tell(there: SleepingEngines, pool: VllmSleepResizer) -> None:
    await pool.resize(1, (await pool.status()).value)
    async with Resources() as resources:
        context = Opening(resources, ManualClock(), 1.0)
        anew = await open_pool(VllmSleep(urls=there.urls), context, WorkloadName("chat"), PoolName("engines"))
        assert (await settled(anew, lambda _: True)).desired == 1


@pytest.mark.parametrize(
    ("urls", "rule"),
    [
        ((), "at least one"),
        (("http://a:1", "http://a:1"), "twice"),
        (("a:1",), "is not an address"),
        (("http://a:1/sleep",), "is not an address"),
        (("http://me:pass@a:1",), "is not an address"),
    ],
)
def test_engines_that_cannot_be_are_refused(urls: tuple[str, ...], rule: str) -> None:
    assert any(rule in text for _, text in VllmSleep(urls=urls).problems())


def test_more_than_there_are_cannot_be_promised() -> None:
    assert [key for key, _ in VllmSleep(urls=("http://a:1",), min_replicas=2, max_replicas=3).problems()] == [
        "min_replicas",
        "max_replicas",
    ]


async def test_as_headroom_it_is_refused(there: SleepingEngines) -> None:
    spec = VllmSleep(urls=there.urls, tier="slept", serves=PoolName("gpus"))
    async with Resources() as resources:
        with pytest.raises(Misconfigured, match="its size is how many serve"):
            await open_pool(spec, Opening(resources, ManualClock(), 1.0), WorkloadName("chat"), PoolName("engines"))
