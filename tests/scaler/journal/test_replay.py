"""Replay of a controller's recorded decisions, also over jumps of its clock."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from policies.history.ticks import History
from policies.model import PolicyName, PoolName, Recommendation, Tick
from policies.model.error_budget import HOUR_S
from policies.recommend.context import PolicyContext
from policies.recommend.threshold import Concurrency
from scaler.config.daemon import JournalSpec
from scaler.controller import Controller
from scaler.journal.codec import encode_decision
from scaler.journal.reader import Journal
from scaler.journal.replay import ReplayedTick, replay
from scaler.journal.writer import JournalWriter
from scaler.setup import Setup
from tests.fakes import FakeActuator, FakeSource, ManualClock
from tests.scaler.journal.test_slo_history import CONFIGURED
from tests.scaler.test_controller import Rig, workload

WINDOW = {"window_s": 60, "max_replicas": 1000, "max_evidence_gap_s": 45}


async def recorded_ticks(jump_s: float) -> list[Tick]:
    """Ticks of one controller whose wall clock jumps in the middle, with a demand that falls before it."""
    rig = Rig(scale_down=WINDOW)
    for messages in (60, 60, 10, 10, 10):
        rig.source.values["visible"] = messages
        await rig.tick()
    rig.clock.jump_s = jump_s
    for _ in range(4):
        await rig.tick()
    return rig.ticks


def replay_ticks(ticks: list[Tick]) -> list[ReplayedTick]:
    configured = workload(scale_down=WINDOW)
    return list(replay(ticks, {configured.fingerprint: configured}))


@pytest.mark.parametrize("jump_s", [0.0, 7200.0, -7200.0], ids=["no jump", "forward", "backward"])
async def test_every_tick_is_comparable_and_equal_over_clock_jumps(jump_s: float) -> None:
    compared = replay_ticks(await recorded_ticks(jump_s))
    assert len(compared) == 9
    assert all(c.comparable and c.equal for c in compared)


async def test_replay_with_pool_missing_from_the_record_decides_without_its_size() -> None:
    """Damaged records and `replay --config` give a pool that the observation lacks: it is absent, and no crash."""
    configured = workload(pools={"main": {"kind": "embedded"}, "added": {"kind": "embedded"}})
    compared = list(replay(await recorded_ticks(0.0), {}, {configured.name: configured}))
    assert len(compared) == 9
    assert {c.decision.target for c in compared} == {None}


async def test_run_starting_before_the_end_of_the_last_replays_separately() -> None:
    first, second = await recorded_ticks(0.0), await recorded_ticks(0.0)
    assert all(c.comparable and c.equal for c in replay_ticks([*first, *second]))


@dataclass(frozen=True, kw_only=True)
class BudgetGuard(Concurrency):
    """A policy that adds a replica for each unit of the burn rate over an hour."""

    def recommend(self, name: PolicyName, context: PolicyContext) -> Recommendation:
        budget = context.error_budget
        burn_rate = None if budget is None else budget.burn_rate(HOUR_S)
        return replace(super().recommend(name, context), replicas=2.0 + (burn_rate or 0.0))


async def test_decisions_by_the_error_budget_replay_from_the_journal(tmp_path: Path) -> None:
    """The 28 days of the budget are not in the journal's tail, so that each tick carries what the policy read."""
    policy = BudgetGuard(source="engines", target_per_replica=10.0)
    configured = replace(CONFIGURED, spec=replace(CONFIGURED.spec, policies={PolicyName("guard"): policy}))
    clock = ManualClock()
    engines = FakeSource(clock, {"running": 5.0, "waiting": 0.0, "requests_per_s": 40.0, "ttft_late_share": 0.0})
    engines.values["itl_late_share"] = engines.values["e2e_late_share"] = 0.0
    journal = JournalWriter(JournalSpec(directory=str(tmp_path)), clock.now(), "1")
    setup = Setup(configured, {"engines": engines}, {PoolName("gpus"): FakeActuator(clock)})
    controller = Controller(setup, clock, History(), lambda t: journal.write(t, CONFIGURED, controller.slo_record))
    for late in (0.0, 0.0, 0.05, 0.02, 0.1):
        engines.values["ttft_late_share"] = late
        clock.advance(15.0)
        await controller.tick(clock.now())
    journal.close()
    ticks = list(Journal(tmp_path))
    compared = list(replay(ticks, {configured.fingerprint: configured}))
    assert [c.equal and c.comparable for c in compared] == [True] * 5
    assert [encode_decision(c.decision) for c in compared] == [encode_decision(t.decision) for t in ticks]
    needs = [t.decision.demand for t in ticks]
    assert needs == pytest.approx([2.0, 2.0, 4.5, 2.0 + 7 / 3, 2.0 + 17 / 4])
    stripped = [replace(t, observation=replace(t.observation, error_budget=None)) for t in ticks]
    assert not all(c.equal for c in replay(stripped, {configured.fingerprint: configured}))
