"""A wall clock that jumps, with several controllers: each applies a jump once, whichever detects it first."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from policies.history.ticks import History
from policies.model import Absent, Fresh, Tick, WorkloadName
from policies.model.limits import BlastRadius
from policies.quota.fleet_quota import FleetLimits
from scaler.clock import SystemClock
from scaler.controller import Controller
from scaler.journal.replay import replay
from scaler.ports import Clock, Source, Unavailable
from scaler.setup import Setup
from scaler.telemetry.health import Health
from tests.fakes import FakeActuator, FakeSource, ManualClock
from tests.patience import PATIENCE_S
from tests.scaler.test_controller import MAIN, Rig, workload
from tests.scaler.test_quota_ledger import Shared

JUMPS = pytest.mark.parametrize("jump_s", [7200.0, -7200.0], ids=["forward", "backward"])
WINDOW = {"window_s": 60, "max_replicas": 1000, "max_evidence_gap_s": 45}


@dataclass
class FakeClocks:
    """A wall clock and a monotonic clock that a test sets."""

    wall_s: float = 1_800_000_000.0
    monotonic_s: float = 50.0

    def clock(self) -> SystemClock:
        return SystemClock(lambda: self.wall_s, lambda: self.monotonic_s)

    def pass_time(self, seconds: float) -> None:
        self.wall_s += seconds
        self.monotonic_s += seconds


@dataclass
class Member:
    """One controller on a shared clock. `meanwhile` is a controller that runs a tick while this one reads."""

    clock: Clock
    messages: float = 60.0
    meanwhile: Controller | None = None
    ticks: list[Tick] = field(default_factory=list)

    def __post_init__(self) -> None:
        sources: dict[str, Source] = {"queue": self}
        pools = {MAIN: FakeActuator(self.clock)}  # type: ignore[arg-type]  # only its time is read
        self.controller = Controller(
            Setup(workload(scale_down=WINDOW), sources, pools), self.clock, History(), self.ticks.append
        )

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        if self.meanwhile is not None:
            await self.meanwhile.tick(self.clock.now())
        at = self.clock.now()
        values = {"visible": self.messages, "in_flight": 0.0, "delayed": 0.0, "oldest_age_s": 0.0}
        return {q: Fresh(v, at) for q, v in values.items()}

    async def tick(self) -> Tick:
        return await self.controller.tick(self.clock.now())


@JUMPS
async def test_each_controller_applies_each_clock_jump_once(jump_s: float) -> None:
    fake_clocks = FakeClocks()
    clock = fake_clocks.clock()
    first, second = Member(clock), Member(clock)
    for jump in (0.0, jump_s, 0.0, 600.0, 0.0):
        fake_clocks.wall_s += jump
        for member in (first, second):
            await member.tick()
        fake_clocks.pass_time(15)
    for member in (first, second):
        assert [t.clock_step_s for t in member.ticks] == pytest.approx([0, jump_s, 0, 600, 0])
        at = member.controller.history.column(0)
        assert list(at) == pytest.approx([fake_clocks.wall_s - 15 * n for n in (5, 4, 3, 2, 1)])


@JUMPS
async def test_clock_jump_detected_by_another_controller_mid_tick_replays_equal(jump_s: float) -> None:
    fake_clocks = FakeClocks()
    clock = fake_clocks.clock()
    first, second = Member(clock), Member(clock)
    for _ in range(5):
        await first.tick()
        fake_clocks.pass_time(15)
    first.messages, first.meanwhile = 0.0, second.controller
    jumps = iter([0.0, jump_s, 0.0, 0.0, 0.0, 0.0])
    for jump in jumps:
        second.messages, fake_clocks.wall_s = 60.0, fake_clocks.wall_s + jump
        await first.tick()
        fake_clocks.pass_time(15)
    targets = [t.decision.target for t in first.ticks]
    assert targets == [6] * 9 + [1, 1], "a window of 60 s, observed without a gap"
    assert [t.clock_step_s for t in first.ticks[5:8]] == pytest.approx([0, jump_s, 0])
    assert all(0 <= t.took_s < 1 and t.lateness_s < 1 for t in first.ticks)
    configured = workload(scale_down=WINDOW)
    compared = list(replay(first.ticks, {configured.fingerprint: configured}))
    assert all(c.comparable and c.equal for c in compared)


async def test_ticks_keep_their_interval_after_a_backward_clock_jump() -> None:
    rig = Rig()

    def on_tick(tick: Tick) -> None:
        rig.ticks.append(tick)
        rig.clock.jump_s = -7200.0 if len(rig.ticks) == 2 else 0.0
        if len(rig.ticks) == 4:
            rig.controller.stop()

    rig.controller._record = on_tick
    start = rig.clock.now()
    await asyncio.wait_for(rig.controller.run(start), PATIENCE_S)
    assert [t.at - start for t in rig.ticks] == [0, 15, 30 - 7200, 45 - 7200]
    assert [t.lateness_s for t in rig.ticks] == [0, 0, 0, 0]


@JUMPS
async def test_clock_jump_does_not_mark_an_hourly_loop_as_stalled(jump_s: float) -> None:
    clock = ManualClock()
    setup = Setup(workload(interval_s=3600), {"queue": FakeSource(clock)}, {MAIN: FakeActuator(clock)})
    controller = Controller(setup, clock, History(), lambda _: None)
    health = Health({WorkloadName("llm"): controller}, clock)
    await controller.tick(clock.now())
    clock.jump_s = 3 * jump_s
    assert health.stalled() == {}
    clock.advance(4 * 3600)
    assert health.stalled(), "a real stall is reported"


async def test_retry_after_pause_of_a_source_is_unaffected_by_a_clock_jump() -> None:
    rig = Rig()
    rig.source.error = Unavailable("busy", retry_after_s=40.0)
    await rig.tick()
    rig.source.error, rig.clock.jump_s = None, -7200.0
    assert [(await rig.tick()).observation.source_errors != {} for _ in range(3)] == [True, True, False]


@JUMPS
async def test_blast_radius_window_is_unaffected_by_a_clock_jump(jump_s: float) -> None:
    window = {"scale_down": {"window_s": 0, "max_replicas": 1000, "max_share": 1.0, "max_evidence_gap_s": 1000}}
    shared = Shared(FleetLimits(blast_radius=BlastRadius(share=0.5, window_s=600.0)), sizes=(10, 10), **window)
    await shared.tick_both(10, 10)
    await shared.tick_both(1, 10)
    assert await shared.tick_both(1, 1) == (1, 9), "ten of twenty are removed"
    shared.clock.jump_s = jump_s
    for _ in range(37):
        assert await shared.tick_both(1, 1) == (1, 9)
    for _ in range(3):
        sizes = await shared.tick_both(1, 1)
    assert sizes == (1, 5), "after ten minutes, half of the replicas may be removed again"
