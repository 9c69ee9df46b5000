"""vLLM engines with sleep mode: the choice of engines, and their status meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from policies.model import PoolName, WorkloadName
from scaler.actuators.vllm_sleep import VllmSleepResizer, open_vllm_sleep
from scaler.adapters import open_pool
from scaler.config.kinds.engines import VllmSleep
from scaler.ports import Misconfigured, OutOfCapacity, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.contracts.actuator import settled
from tests.fakes import ManualClock
from tests.servers.sleeping_engines import SleepingEngines, sleeping_engines


@pytest.fixture
async def engines() -> AsyncIterator[SleepingEngines]:
    async with sleeping_engines(4) as opened:
        for number in range(3):
            opened.engine(number).asleep = False
        yield opened


@pytest.fixture
async def pool(engines: SleepingEngines) -> AsyncIterator[VllmSleepResizer]:
    async with Resources() as resources:
        spec = VllmSleep(urls=engines.urls)
        context = AdapterContext(resources, ManualClock(), 1.0)
        yield await open_vllm_sleep(spec, context, WorkloadName("chat"), PoolName("engines"))


async def sizes(pool: VllmSleepResizer) -> tuple[int, int, int]:
    status = (await pool.status()).value
    return status.desired, status.ready, status.pending


async def test_only_idle_engines_are_put_to_sleep(engines: SleepingEngines, pool: VllmSleepResizer) -> None:
    engines.engine(1).running = engines.engine(2).running = 3.0
    await pool.resize(2, (await pool.status()).value)
    assert [e.asleep for e in engines.engines.values()] == [True, False, False, True]


async def test_engine_with_requests_stays_awake_and_is_reported(
    engines: SleepingEngines, pool: VllmSleepResizer
) -> None:
    engines.engine(0).running, engines.engine(1).running, engines.engine(2).running = 3.0, None, 0.0
    with pytest.raises(Unavailable, match="only 1 of 2 engines can sleep: 1 have requests, 1 do not report"):
        await pool.resize(1, (await pool.status()).value)
    assert [e.asleep for e in engines.engines.values()] == [False, False, True, True]
    engines.engine(0).running = 0.0
    await pool.resize(1, (await pool.status()).value)
    assert [e.asleep for e in engines.engines.values()] == [True, False, True, True]
    assert [e.lost for e in engines.engines.values()] == [0, 0, 0, 0]


@pytest.mark.slow
async def test_sleep_call_may_outlast_a_tick(engines: SleepingEngines, pool: VllmSleepResizer) -> None:
    engines.sleep_s = 1.5
    await pool.resize(2, (await pool.status()).value)
    assert await sizes(pool) == (2, 2, 0)  # an engine does not respond while it falls asleep, and gets no second call
    await asyncio.sleep(1.6)
    assert (await sizes(pool), engines.awake) == ((2, 2, 0), 2)
    assert [e.control_calls for e in engines.engines.values()] == [[], [], ["/sleep"], []]


async def test_awake_engine_is_ready_if_it_is_healthy(engines: SleepingEngines, pool: VllmSleepResizer) -> None:
    engines.engine(3).healthy = False
    await pool.resize(4, (await pool.status()).value)
    assert await sizes(pool) == (4, 3, 1)
    engines.engine(3).healthy = True
    assert await sizes(pool) == (4, 4, 0)


async def test_a_silent_engine_keeps_its_last_state_and_is_not_ready(
    engines: SleepingEngines, pool: VllmSleepResizer
) -> None:
    await pool.status()
    engines.engine(0).down = True
    assert await sizes(pool) == (3, 2, 1)


async def test_an_engine_that_never_responded_is_missing_from_the_size(
    engines: SleepingEngines, pool: VllmSleepResizer
) -> None:
    engines.engine(0).down = True
    status = await pool.status()
    assert (status.value.desired, status.value.ready) == (2, 2)
    assert status.missing.startswith("1 of 4 engines did not respond: GET http://127.0.1.1:")


async def test_size_without_a_responding_engine_is_unavailable(
    engines: SleepingEngines, pool: VllmSleepResizer
) -> None:
    engines.fault = "refuse"
    with pytest.raises(Unavailable):
        await pool.status()


async def test_engine_without_sleep_mode_is_misconfigured_with_a_remedy(
    engines: SleepingEngines, pool: VllmSleepResizer
) -> None:
    engines.dev_mode = False
    with pytest.raises(Misconfigured, match="--enable-sleep-mode and VLLM_SERVER_DEV_MODE=1"):
        await pool.status()


async def test_resize_beyond_the_engines_wakes_all_and_is_out_of_capacity(
    engines: SleepingEngines, pool: VllmSleepResizer
) -> None:
    with pytest.raises(OutOfCapacity, match="3 more engines are required, but only 1 were asleep"):
        await pool.resize(6, (await pool.status()).value)
    assert engines.awake == 4


async def test_permissions_are_checked_without_waking_an_engine(
    engines: SleepingEngines, pool: VllmSleepResizer
) -> None:
    engines.engine(3).down = True
    assert [permit.granted for permit in await pool.permits()] == [True, True, True, None]
    assert all(engine.control_calls == [] for engine in engines.engines.values())


async def test_size_after_a_restart_is_read_from_the_engines(engines: SleepingEngines, pool: VllmSleepResizer) -> None:
    await pool.resize(1, (await pool.status()).value)
    async with Resources() as resources:
        context = AdapterContext(resources, ManualClock(), 1.0)
        reopened = await open_pool(VllmSleep(urls=engines.urls), context, WorkloadName("chat"), PoolName("engines"))
        assert (await settled(reopened, lambda _: True)).desired == 1


@pytest.mark.parametrize(
    ("urls", "rule"),
    [
        ((), "at least one"),
        (("http://a:1", "http://a:1"), "twice"),
        (("a:1",), "must be URLs without a path"),
        (("http://a:1/sleep",), "must be URLs without a path"),
        (("http://me:pass@a:1",), "must be URLs without a path"),
    ],
)
def test_invalid_engine_addresses_are_refused(urls: tuple[str, ...], rule: str) -> None:
    assert any(rule in text for _, text in VllmSleep(urls=urls).problems())


def test_replica_bounds_beyond_the_number_of_engines_are_refused() -> None:
    assert [key for key, _ in VllmSleep(urls=("http://a:1",), min_replicas=2, max_replicas=3).problems()] == [
        "min_replicas",
        "max_replicas",
    ]
