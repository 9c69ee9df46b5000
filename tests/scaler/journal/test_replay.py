"""Replay of a controller's recorded decisions, also over jumps of its clock."""

from __future__ import annotations

import pytest

from policies.model import Tick
from scaler.journal.replay import ReplayedTick, replay
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
