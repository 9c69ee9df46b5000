"""The quickstart's world: its traffic, its clock, and bounded memory over a long time."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.model import PoolName
from scaler.ports import Misconfigured
from simulators.quickstart.kinds import EmbeddedPool, Traffic
from simulators.quickstart.live_world import ERA_S, MIN_SLOTS, SLICE_S, LiveWorld, generator, peak_rps
from simulators.world.traffic.generate import CHUNK_S
from simulators.world.traffic.trace import RequestTrace
from simulators.world.world import World
from tests.factories import NOW
from tests.fakes import ManualClock
from tests.laws import law

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
MAIN = PoolName("main")
HOUR_S = 3600.0
QUIET = Traffic(mean_rps=0.0)


def steady(mean_rps: float) -> Traffic:
    return Traffic(mean_rps=mean_rps, swing=0.0, crowd_factor=1.0)


async def started_world(
    clock: ManualClock,
    traffic: Traffic = QUIET,
    replicas: int = 1,
    *,
    queued: bool = False,
    seed: int = 1,
    era_s: float = ERA_S,
    start_up_s: float = 60.0,
) -> LiveWorld:
    """Return a world with one pool that starts now."""
    live = LiveWorld("demo", clock, seed, era_s)
    live.read(queued=queued, traffic=traffic)
    live.add(MAIN, EmbeddedPool(start_up_s=start_up_s, start_up_sigma=0.0).offer, replicas)
    await live.present()
    return live


async def advance(live: LiveWorld, clock: ManualClock, seconds: float) -> World:
    clock.advance(seconds)
    return await live.present()


def visible(world: World) -> int:
    return world.counts().visible


# --- traffic


def test_daily_traffic_starts_at_its_mean_and_a_crowd_multiplies_it() -> None:
    traffic = Traffic(mean_rps=40.0, crowd_at_s=600.0, crowd_s=600.0, crowd_factor=3.0)
    begin, crowd, peak, low = generator(traffic).rate_rps(np.array([0.0, 900.0, 6 * HOUR_S, 18 * HOUR_S]))
    assert begin == pytest.approx(40.0)
    assert crowd == pytest.approx(120.0, rel=0.02)
    assert peak == pytest.approx(0.9 * 40 * 1.6 + 4)
    assert low == pytest.approx(0.9 * 40 * 0.4 + 4)


def test_batch_traffic_is_zero_between_batches() -> None:
    traffic = Traffic(shape="batches", mean_rps=15.0, every_s=1800.0, batch_s=300.0)
    assert generator(traffic).rate_rps(np.array([0.0, 299.0, 300.0, 1799.0, 1800.0])).tolist() == [15, 15, 0, 0, 15]


@given(
    st.builds(
        Traffic,
        shape=st.sampled_from(["daily", "batches"]),
        mean_rps=st.floats(0, 100),
        swing=st.floats(0, 1),
        crowd_at_s=st.floats(0, 86_400),
        crowd_factor=st.floats(1, 10),
    )
)
@law(30)
def test_traffic_rate_never_exceeds_the_peak_used_to_size_the_world(traffic: Traffic) -> None:
    assert generator(traffic).rate_rps(np.arange(0.0, 2 * 86_400.0, 60.0)).max() <= peak_rps(traffic) * (1 + 1e-9)


async def test_token_lengths_match_the_configured_means() -> None:
    clock = ManualClock()
    world = await advance(
        await started_world(clock, Traffic(mean_rps=10.0, prompt_tokens=3000, output_tokens=50)), clock, HOUR_S
    )
    arrived = world.kernel.requests[world.kernel.requests.has_arrived]
    assert arrived.prompt_tokens.mean() == pytest.approx(3000, rel=0.05)
    assert arrived.output_tokens.mean() == pytest.approx(50, rel=0.05)


async def test_changed_traffic_takes_effect_with_the_next_chunk() -> None:
    clock = ManualClock()
    live = await started_world(clock, steady(5.0))
    await advance(live, clock, 10.0)
    live.follow(QUIET)
    served = (await advance(live, clock, 2 * CHUNK_S)).kernel.arrived
    assert served > 0
    assert (await advance(live, clock, HOUR_S)).kernel.arrived == served


# --- time


@given(st.lists(st.floats(0.1, 900.0), min_size=1, max_size=12))
@law(15)
def test_world_state_does_not_depend_on_when_it_is_read(pauses_s: list[float]) -> None:
    async def run_world(pauses: list[float]) -> World:
        clock = ManualClock()
        live = await started_world(clock, Traffic(mean_rps=12.0), era_s=1200.0)
        for pause in pauses:
            await advance(live, clock, pause)
        return await advance(live, clock, NOW + 3000.0 - clock.now())

    fitting = [pause for i, pause in enumerate(pauses_s) if sum(pauses_s[: i + 1]) < 3000]
    seldom, often = asyncio.run(run_world([])), asyncio.run(run_world(fitting))
    assert seldom.now_ps == often.now_ps
    assert (seldom.kernel.times == often.kernel.times).all()
    assert (seldom.kernel.counts == often.kernel.counts).all()


async def test_equal_seeds_give_equal_worlds_and_different_seeds_do_not() -> None:
    async def arrivals(seed: int) -> list[int]:
        clock = ManualClock()
        world = await advance(await started_world(clock, Traffic(mean_rps=5.0), seed=seed), clock, HOUR_S)
        arrival_ps: list[int] = world.kernel.requests.arrived_ps.tolist()
        return arrival_ps

    first = await arrivals(1)
    assert first == await arrivals(1)
    assert first != await arrivals(2)


async def test_a_world_that_catches_up_yields_to_the_event_loop() -> None:
    clock = ManualClock()
    live = await started_world(clock, Traffic(mean_rps=5.0))
    world = await live.present()
    clock.advance(HOUR_S)
    catching_up, observed_times = asyncio.create_task(live.present()), dict[float, None]()
    while not catching_up.done():
        observed_times[world.now] = None
        await asyncio.sleep(0)
    assert len(observed_times) >= HOUR_S / SLICE_S
    assert world.now == clock.now()


async def test_a_cancelled_read_leaves_the_world_consistent() -> None:
    clock = ManualClock()
    live = await started_world(clock, Traffic(mean_rps=5.0))
    clock.advance(HOUR_S)
    cancelled = asyncio.create_task(live.present())
    for _ in range(20):
        await asyncio.sleep(0)
    cancelled.cancel()
    world = await live.present()
    assert world.now == clock.now()
    other_clock = ManualClock()
    undisturbed = await advance(await started_world(other_clock, Traffic(mean_rps=5.0)), other_clock, HOUR_S)
    assert (world.kernel.times == undisturbed.kernel.times).all()


# --- eras


async def test_an_era_change_carries_over_sizes_and_open_requests() -> None:
    clock = ManualClock()
    live = await started_world(clock, replicas=2, queued=True, era_s=HOUR_S, start_up_s=1e4)
    world = await live.present()
    world.resize(MAIN, 0)
    world.resize(MAIN, 3)
    world.offer(RequestTrace(np.zeros(7), np.full(7, 100), np.full(7, 20)))
    before = await advance(live, clock, HOUR_S - 1)
    assert (before.status(MAIN).desired, before.status(MAIN).ready, visible(before)) == (3, 0, 7)
    renewed = await advance(live, clock, 2)
    assert renewed is not before
    assert (renewed.status(MAIN).desired, renewed.status(MAIN).ready, visible(renewed)) == (3, 0, 7)
    assert renewed.now == clock.now()


async def test_an_era_that_ends_within_a_chunk_brings_no_request_forward() -> None:
    clock = ManualClock()
    live = await started_world(clock, steady(5.0), replicas=0, queued=True, era_s=1.5 * CHUNK_S)
    before = visible(await advance(live, clock, 1.5 * CHUNK_S - 1))
    assert visible(await advance(live, clock, 2)) == pytest.approx(before, abs=50)


async def test_ready_replicas_keep_serving_in_the_next_era() -> None:
    clock = ManualClock()
    live = await started_world(clock, Traffic(mean_rps=5.0), replicas=4, era_s=HOUR_S)
    renewed = await advance(live, clock, HOUR_S + 60)
    assert (renewed.status(MAIN).desired, renewed.status(MAIN).ready) == (4, 4)
    assert renewed.kernel.read().finished.sum() > 200


async def test_every_era_has_its_own_random_stream() -> None:
    clock = ManualClock()
    live = await started_world(clock, steady(5.0), era_s=HOUR_S)
    eras = [(await advance(live, clock, s)).kernel.requests.arrived_ps[:200].copy() for s in (300.0, HOUR_S)]
    first, second = (arrivals[arrivals > 0][:100].tolist() for arrivals in eras)  # requests carried over arrive at 0
    assert len(first) == len(second) == 100
    assert first != second


async def test_memory_stays_bounded_over_days() -> None:
    clock = ManualClock()
    live = await started_world(clock, steady(0.5), era_s=6 * HOUR_S)
    sizes = list[tuple[int, int]]()
    for hour in range(3 * 24):
        world = await advance(live, clock, HOUR_S)
        world.resize(MAIN, 1 + hour % 4)
        kernel = world.kernel
        arrays = (kernel.times, kernel.counts, kernel.replicas, kernel.growth, kernel.heaps, kernel.lists)
        sizes.append((sum(a.nbytes for a in arrays), len(world.pools[MAIN].ledger.nodes)))
    first_day, last_day = sizes[:24], sizes[-24:]
    assert max(last_day) <= max(first_day)
    assert max(nodes for _, nodes in sizes) < 20
    assert world.kernel.times.shape[0] == MIN_SLOTS


# --- the queue


async def test_a_replica_takes_a_batch_of_messages_and_its_loss_requeues_them() -> None:
    clock = ManualClock()
    live = await started_world(clock, queued=True)
    world = await live.present()
    world.offer(RequestTrace(np.zeros(200), np.full(200, 100), np.full(200, 5000)))
    world = await advance(live, clock, 5.0)
    assert (world.counts().in_flight, visible(world)) == (128, 72)
    world.pools[MAIN].interrupt(0, world.now_ps, world.now_ps)
    assert visible(await advance(live, clock, 40.0)) == 200


# --- overload


async def test_a_full_world_rejects_requests_reports_it_and_recovers() -> None:
    clock = ManualClock()
    live = await started_world(clock, steady(10.0), replicas=0, queued=True)
    assert visible(await advance(live, clock, 900.0)) == pytest.approx(9000, rel=0.1)
    assert live.full == ""
    world = await advance(live, clock, 4 * HOUR_S)
    slots = world.kernel.times.shape[0]
    assert slots - CHUNK_S * 10.0 * 1.5 < visible(world) <= slots
    assert "rejects requests" in live.full
    assert f"the kernel's {slots} slots" in live.full
    assert "lower mean_rps or raise max_replicas" in live.full
    world.resize(MAIN, 8)
    recovered = await advance(live, clock, 2 * HOUR_S)
    assert live.full == ""
    assert visible(recovered) == 0


# --- opening a world


async def test_a_world_without_a_pool_raises_misconfigured() -> None:
    with pytest.raises(
        Misconfigured, match=r"embedded world demo has no pool: add a pool of kind embedded with world: demo"
    ):
        await LiveWorld("demo", ManualClock(), 1).present()


async def test_adding_a_pool_or_a_queue_to_a_running_world_requires_a_restart() -> None:
    live = await started_world(ManualClock())
    live.add(MAIN, EmbeddedPool(start_up_s=60.0, start_up_sigma=0.0).offer, 1)
    with pytest.raises(Misconfigured, match="started with other settings: restart"):
        live.add(MAIN, EmbeddedPool(start_up_s=61.0, start_up_sigma=0.0).offer, 1)
    with pytest.raises(Misconfigured, match="started without pool more: restart"):
        live.add(PoolName("more"), EmbeddedPool().offer, 1)
    with pytest.raises(Misconfigured, match="started without a queue: restart"):
        live.read(queued=True, traffic=None)


@pytest.mark.slow
def test_the_first_start_reports_compilation_and_the_second_does_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "from simulators.quickstart.live_world import warm_up; warm_up()"]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    runs = [
        subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True)
        for _ in range(2)
    ]
    mentions = ["compiling the simulator" in done.stdout + done.stderr for done in runs]
    assert mentions == [True, False]
