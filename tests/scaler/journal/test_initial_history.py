"""A workload's initial history, and the replay of its decisions over any number of starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from policies.history.ticks import AT, History
from policies.model import PolicyName, Tick, WorkloadName
from policies.pipeline import decide
from scaler.journal.codec import decode_tick, encode_tick
from scaler.journal.initial_history import InitialHistory
from scaler.journal.reader import Journal
from scaler.journal.replay import ReplayedTick, replay
from scaler.ports import Misconfigured, PortError, Unavailable
from tests.factories import queue, seen, spec, tick_of
from tests.scaler.scripted_daemon import NAME, Scripted, World, workload

pytestmark = pytest.mark.slow

PREDICTIVE = PolicyName("predictive")
DAY_S = 86_400.0
LONG = 190
"""Number of ticks: twice the length of a workload's history."""


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def replay_all(world: World, *, starts: bool = True) -> list[ReplayedTick]:
    """Replay every tick of the journal, with or without the records of starts."""
    journal = Journal(world.directory)
    return list(replay(journal.records() if starts else journal, journal.specs))


def initial_histories(world: World) -> list[InitialHistory]:
    return [record for record in Journal(world.directory).records() if isinstance(record, InitialHistory)]


async def run_three_processes(world: World) -> None:
    """Run longer than the history, restart at once, stop while blind, and start again after an hour."""
    async with world.started() as app:
        await world.run_ticks(app, LONG)
    async with world.started() as app:
        await world.run_ticks(app, 35)
        await world.run_ticks(app, 3, blind=True)
    world.clock.advance(3600.0)
    async with world.started() as app:
        await world.run_ticks(app, 40)


async def test_replay_reproduces_every_decision_across_restarts(world: World) -> None:
    await run_three_processes(world)
    compared = replay_all(world)
    assert len(compared) == LONG + 78
    assert all(c.comparable and c.equal for c in compared)


async def test_replay_across_restarts_needs_the_initial_history_records(world: World) -> None:
    await run_three_processes(world)
    unseeded = replay_all(world, starts=False)
    assert all(c.equal for c in unseeded[:LONG])
    assert not all(c.equal for c in unseeded[LONG:])
    assert not any(c.comparable for c in unseeded[LONG : LONG + 35]), "unknown history is not reported as a difference"
    first, second, third = initial_histories(world)
    assert (first.ticks, first.seeds) == (0, {})
    assert 60 < second.ticks < 130, "the ticks within its span"
    assert (third.ticks, third.span_s, third.step_s) == (0, second.span_s, 30.0)
    assert third.seeds[PREDICTIVE].known_s > second.seeds[PREDICTIVE].known_s > 0


@pytest.mark.parametrize("jump_s", [5000.0, -5000.0], ids=["forward", "backward"])
async def test_replay_reproduces_decisions_after_clock_jump_and_restart(world: World, jump_s: float) -> None:
    async with world.started() as app:
        await world.run_ticks(app, 20)
        world.clock.jump_s = jump_s
        await world.run_ticks(app, 5)
    async with world.started() as app:
        await world.run_ticks(app, 20)
    compared = replay_all(world)
    assert len(compared) == 45
    assert all(c.comparable and c.equal for c in compared)


@pytest.mark.parametrize(
    ("step_s", "expected"),
    [
        pytest.param(0.0, [50.0, 65.0], id="while nothing ran: their age is not known"),
        pytest.param(-95.0, [5.0, 20.0, 35.0, 50.0, 65.0], id="while it ran: their age stays"),
    ],
)
def test_initial_history_contains_no_future_tick_after_backward_clock_jump(
    step_s: float, expected: list[float]
) -> None:
    ticks = [recorded(at) for at in (100.0, 115.0, 130.0)] + [recorded(50.0, step_s), recorded(65.0)]
    history = InitialHistory(WorkloadName("llm"), 200.0, len(ticks), 3600.0, 15.0).history(ticks)
    assert history.column(AT).tolist() == expected


def recorded(at: float, step_s: float = 0.0) -> Tick:
    observation = seen(queue(10.0), 2, at=at)
    tick = tick_of(observation, decide(spec(), History(), observation))
    return dataclasses.replace(tick, clock_step_s=step_s)


async def test_replay_applies_another_specification_across_restarts(world: World) -> None:
    await run_three_processes(world)
    journal = Journal(world.directory)
    other = {NAME: workload(policies={"predictive": {"kind": "predictive", "utilization": 0.5}})}
    compared = list(replay(journal.records(), {}, other))
    assert len(compared) == LONG + 78
    assert sum((c.decision.target or 0) > (c.tick.decision.target or 0) for c in compared) > 100


async def test_recorded_work_seeds_the_forecast_after_restart(world: World) -> None:
    async with world.started() as app:
        ticks = await world.run_ticks(app, LONG)
    async with world.started() as app:
        history = app.controller.history
        coarse = history.forecast(PREDICTIVE).series.coarse.window(24)
    seed = initial_histories(world)[-1].seeds[PREDICTIVE]
    assert seed.known_s >= 1500
    first = seed.work[~np.isnan(seed.work)][1]
    assert first in coarse.astype(np.float32)
    at = seed.at[~np.isnan(seed.work)][1]
    noted = [r.work for t in ticks for r in t.decision.recommendations if at - 150 <= t.at < at + 150 and r.work]
    assert first == pytest.approx(np.mean(noted), rel=1e-3)


async def test_source_backfills_work_missing_from_the_journal(world: World) -> None:
    world.source.before = {"prompt_tokens_per_s": 80_000.0, "generation_tokens_per_s": 0.0}
    async with world.started() as app:
        spec = app.controller.workload.spec
        assert np.isnan(app.controller.history.forecast(PREDICTIVE).peaks(60.0, [0.5])).all(), (
            "seasons alone give no forecast"
        )
        await world.run_ticks(app, LONG)
    expected = spec.policies[PREDICTIVE].past_work(
        {"prompt_tokens_per_s": np.array([80_000.0]), "generation_tokens_per_s": np.array([0.0])}, spec, {}
    )
    seed = initial_histories(world)[-1].seeds[PREDICTIVE]
    assert seed.work[~np.isnan(seed.work)] == pytest.approx(expected[0], rel=1e-3)
    assert seed.known_s == pytest.approx(15 * DAY_S, abs=600)
    ((since, until, step_s),) = world.source.requests
    assert (step_s, since % 300) == (300, 0)
    assert world.clock.now() - 2 * 3600 < until <= world.clock.now()
    async with world.started():
        assert len(world.source.requests) == 1, "a backfill is journaled, so it is requested once"
    assert initial_histories(world)[-1].seeds[PREDICTIVE].known_s == pytest.approx(15 * DAY_S, abs=3600)
    assert all(c.comparable and c.equal for c in replay_all(world))


FAILURES = {"unavailable": Unavailable("no answer"), "misconfigured": Misconfigured("HTTP 403")}


@pytest.mark.parametrize("error", FAILURES.values(), ids=FAILURES)
async def test_failed_backfill_logs_warning_and_workload_starts_without_seed(world: World, error: PortError) -> None:
    world.source.past_error = error
    with capture_logs() as logged:
        async with world.started() as app:
            tick = (await world.run_ticks(app, 3))[-1]
    (warning,) = (line for line in logged if line["log_level"] == "warning")
    assert (warning["event"], warning["workload"], warning["error"]) == ("history backfill", NAME, str(error))
    assert tick.decision.target is not None
    assert initial_histories(world)[-1].seeds == {}


async def test_backfill_disabled_requests_nothing_from_sources(tmp_path: Path) -> None:
    world = World(tmp_path, daemon={"history_backfill_s": 0.0})
    world.source.before = {"prompt_tokens_per_s": 1.0, "generation_tokens_per_s": 1.0}
    for _ in range(2):
        async with world.started() as app:
            await world.run_ticks(app, 40)
    assert world.source.requests == []
    assert [past.seeds for past in initial_histories(world)] == [{}, {}]
    assert all(c.comparable and c.equal for c in replay_all(world))


REACTIVE = {"threshold": {"kind": "concurrency"}}
ADDED = {**REACTIVE, "predictive": {"kind": "predictive"}}


async def reloaded(app: Scripted, policies: Mapping[str, Any]) -> None:
    await app.reload(dataclasses.replace(app.config, workloads={NAME: workload(policies=policies)}))


async def test_policy_added_by_reload_is_seeded_and_replays_equal(world: World) -> None:
    world.source.before = {"prompt_tokens_per_s": 80_000.0, "generation_tokens_per_s": 0.0}
    async with world.started(policies=REACTIVE) as app:
        await world.run_ticks(app, 30)
        assert world.source.requests == []
        await reloaded(app, ADDED)
        await world.run_ticks(app, 30)
        assert app.controller.history.forecast(PREDICTIVE).series.coarse.window(24).size
        await reloaded(app, {**ADDED, "other": REACTIVE["threshold"]})
        await world.run_ticks(app, 3)
    assert len(world.source.requests) == 1, "a seeded policy is not seeded again"
    first, added = initial_histories(world)
    assert (first.keeps_ticks, added.keeps_ticks, added.ticks) == (False, True, 0)
    assert added.seeds[PREDICTIVE].known_s == pytest.approx(15 * DAY_S, abs=3600)
    compared = replay_all(world)
    assert len(compared) == 63
    assert all(c.comparable and c.equal for c in compared)


async def test_policy_added_by_reload_runs_unseeded_after_failed_backfill(world: World) -> None:
    world.source.past_error = Unavailable("no answer")
    async with world.started(policies=REACTIVE) as app:
        await world.run_ticks(app, 3)
        await reloaded(app, ADDED)
        tick = (await world.run_ticks(app, 1))[-1]
    assert PREDICTIVE in {r.policy for r in tick.decision.recommendations}
    assert [past.keeps_ticks for past in initial_histories(world)] == [False]


def test_decode_tick_rejects_negative_work() -> None:
    observation = seen(queue(10.0), 2, at=100.0)
    record = encode_tick(tick_of(observation, decide(spec(), History(), observation)))
    record["decision"]["recommendations"][0]["work"] = -1.32
    with pytest.raises(ValueError, match="negative"):
        decode_tick(record)
