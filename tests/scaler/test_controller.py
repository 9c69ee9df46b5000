"""The control loop: freshness, deadlines, errors by remedy, setup swaps, and its records."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import math
from typing import Any

import pytest

from policies.history.ticks import History
from policies.model import Absent, Fresh, PoolName, PoolStatus, Result, SignalName, Stale, Tick
from scaler.adapter_faults import Faults
from scaler.adapters import open_adapters
from scaler.admission import TickAdmission
from scaler.clock import SystemClock
from scaler.config.load import Workload, workload_from
from scaler.controller import Controller
from scaler.journal.codec import decode_tick, encode_tick
from scaler.ports import Conflict, Misconfigured, OutOfCapacity, PortError, Unavailable
from scaler.setup import Setup
from scaler.shared_resources import Resources
from tests.fakes import FakeActuator, FakeSource, ManualClock
from tests.patience import PATIENCE_S

MAIN = PoolName("main")
VISIBLE = SignalName("queue.visible")


def workload(**settings: Any) -> Workload:
    document = {
        "workload": "llm",
        "max_replicas": 50,
        "sources": {"queue": {"kind": "embedded"}},
        "policies": {"depth": {"kind": "queue_depth"}},
        "pools": {"main": {"kind": "embedded"}},
        "scale_up": {"max_replicas": 1000},
        "scale_down": {"window_s": 0, "max_replicas": 1000},
        **settings,
    }
    return workload_from(document)


class Rig:
    def __init__(self, **settings: Any) -> None:
        self.clock = ManualClock()
        self.source = FakeSource(self.clock, {"visible": 30.0, "in_flight": 0.0, "delayed": 0.0, "oldest_age_s": 0.0})
        self.actuator = FakeActuator(self.clock)
        self.ticks: list[Tick] = []
        self.controller = self.make(workload(**settings))

    def setup(self, configured: Workload) -> Setup:
        return Setup(configured, {"queue": self.source}, {MAIN: self.actuator})

    def make(self, configured: Workload, *, dry_run: bool = False) -> Controller:
        return Controller(self.setup(configured), self.clock, History(), self.ticks.append, dry_run=dry_run)

    async def tick(self, after_s: float = 15.0) -> Tick:
        self.clock.advance(after_s)
        return await self.controller.tick(self.clock.now())


async def test_tick_reads_decides_resizes_and_records() -> None:
    rig = Rig()
    tick = await rig.tick()
    assert rig.actuator.writes == [3]
    assert tick.decision.target == 3
    assert [(o.before, o.after, o.result) for o in tick.outcomes] == [(1, 3, Result.ACCEPTED)]
    assert rig.ticks == [tick]
    assert len(rig.controller.history) == 1


async def test_tick_writes_only_changed_sizes() -> None:
    rig = Rig()
    await rig.tick()
    tick = await rig.tick()
    assert rig.actuator.writes == [3]
    assert tick.outcomes[0].result is Result.UNCHANGED


async def test_dry_run_writes_nothing() -> None:
    rig = Rig()
    controller = rig.make(workload(), dry_run=True)
    tick = await controller.tick(rig.clock.now())
    assert (rig.actuator.writes, tick.outcomes[0].result, tick.dry_run) == ([], Result.DRY_RUN, True)


@pytest.mark.parametrize("error", [Unavailable("503"), Misconfigured("403")], ids=["unavailable", "misconfigured"])
async def test_failed_read_keeps_the_last_value_as_stale(error: PortError) -> None:
    rig = Rig()
    await rig.tick()
    rig.source.error = error
    tick = await rig.tick(after_s=10)
    assert tick.observation.readings[VISIBLE] == Stale(30.0, rig.clock.now() - 10, 10.0)
    assert tick.observation.source_errors == {"queue": str(error)}
    assert tick.decision.target == 3


async def test_source_that_never_responded_is_absent_with_its_error() -> None:
    rig = Rig()
    rig.source.error = Unavailable("connection refused")
    tick = await rig.tick()
    assert tick.observation.readings[VISIBLE] == Absent("source queue could not be read")
    assert tick.observation.source_errors == {"queue": "connection refused"}
    assert tick.decision.target == 1


async def test_hanging_source_times_out_at_its_deadline() -> None:
    rig = Rig(deadline_s=0.05)
    rig.source.hang = True
    async with asyncio.timeout(PATIENCE_S):
        tick = await rig.tick()
    assert tick.observation.source_errors == {"queue": "no response within 0.05 s (deadline_s)"}


async def test_sample_older_than_the_limit_is_stale() -> None:
    rig = Rig()
    rig.source.age_s = 61
    tick = await rig.tick()
    assert isinstance(tick.observation.readings[VISIBLE], Stale)


async def test_sample_from_the_future_is_absent() -> None:
    rig = Rig()
    rig.source.age_s = -3600
    reading = (await rig.tick()).observation.readings[VISIBLE]
    assert isinstance(reading, Absent)
    assert "clocks differ" in reading.reason


@pytest.mark.parametrize(
    ("value", "why"),
    [
        (1.1e12, "1.1e+12 exceeds the largest plausible value of 1e+12"),
        (1.7e308, "1.7e+308 exceeds the largest plausible value of 1e+12"),
        (10**400, "a number of more than 308 digits exceeds the largest plausible value of 1e+12"),
        (math.nan, "nan is not finite"),
        (math.inf, "inf is not finite"),
        (-1.0, "-1 is negative"),
    ],
    ids=["beyond its limit", "near the largest float", "of 401 digits", "nan", "inf", "negative"],
)
async def test_implausible_value_is_absent_with_the_reason_in_the_journal(value: float, why: str) -> None:
    rig = Rig()
    await rig.tick()
    rig.source.values["visible"] = value
    tick = await rig.tick()
    assert tick.observation.readings[VISIBLE] == Absent(why)
    assert decode_tick(json.loads(json.dumps(encode_tick(tick)))) == tick
    assert rig.actuator.writes == [3]
    rig.source.error = Unavailable("503")
    assert (await rig.tick()).observation.readings[VISIBLE] == Stale(30.0, rig.clock.now() - 30, 30.0)


@pytest.mark.parametrize(
    "size", [1_000_001, 4 * 10**12, 10**400, -1], ids=["a million and one", "4e12", "of 401 digits", "-1"]
)
async def test_implausible_pool_size_counts_as_a_failed_read(size: int) -> None:
    rig = Rig()
    await rig.tick()
    rig.actuator.ready = size
    tick = await rig.tick()
    assert isinstance(tick.observation.pools[MAIN], Stale)
    assert "plausible are 0 to 1000000 replicas" in tick.observation.pool_errors[MAIN]
    assert tick.decision.targets == {}
    rig.actuator.ready = 3
    assert (await rig.tick()).decision.target == 3


async def test_quantity_missing_from_the_sample_is_absent() -> None:
    rig = Rig()
    del rig.source.values["visible"]
    reading = (await rig.tick()).observation.readings[VISIBLE]
    assert reading == Absent("the source did not return it")


async def test_throttling_source_is_not_called_before_retry_after() -> None:
    rig = Rig()
    rig.source.error = Unavailable("throttled", retry_after_s=40)
    await rig.tick()
    await rig.tick()
    await rig.tick()
    assert rig.source.calls == 1
    await rig.tick()
    assert rig.source.calls == 2


async def test_throttling_platform_is_not_called_before_retry_after() -> None:
    rig = Rig()
    rig.actuator.status_error = Unavailable("throttled", retry_after_s=25)
    await rig.tick()
    tick = await rig.tick()
    assert tick.observation.pool_errors == {MAIN: "not read: the server requested a wait (Retry-After)"}
    assert rig.actuator.looks == 1
    rig.actuator.status_error = None
    assert (await rig.tick()).decision.target == 3


async def test_retry_after_is_capped_at_five_minutes() -> None:
    rig = Rig()
    rig.source.error = Unavailable("throttled", retry_after_s=86_400)
    await rig.tick()
    await rig.tick(after_s=299)
    assert rig.source.calls == 1
    await rig.tick(after_s=1)
    assert rig.source.calls == 2


async def test_pool_of_unknown_or_stale_size_is_not_resized() -> None:
    rig = Rig()
    rig.actuator.status_error = Unavailable("API down")
    tick = await rig.tick()
    assert tick.observation.pools[MAIN] == Absent("API down")
    assert tick.decision.target is None
    rig.actuator.status_error = None
    await rig.tick()
    rig.actuator.status_error = Unavailable("API down")
    tick = await rig.tick()
    assert isinstance(tick.observation.pools[MAIN], Stale)
    assert tick.outcomes == ()


@pytest.mark.parametrize(
    ("error", "result"),
    [
        (Unavailable("503"), Result.UNAVAILABLE),
        (Conflict("409"), Result.CONFLICT),
        (Misconfigured("403"), Result.MISCONFIGURED),
        (OutOfCapacity("no H100 in a"), Result.OUT_OF_CAPACITY),
    ],
)
async def test_failed_write_is_an_outcome_and_is_retried_in_the_next_tick(error: PortError, result: Result) -> None:
    rig = Rig()
    rig.actuator.resize_error = error
    tick = await rig.tick()
    assert [(o.result, o.reason) for o in tick.outcomes] == [(result, str(error))]
    rig.actuator.resize_error = None
    await rig.tick()
    assert rig.actuator.writes == [3]


async def test_hanging_write_is_unavailable() -> None:
    rig = Rig(deadline_s=0.05)
    rig.actuator.hang = True
    async with asyncio.timeout(PATIENCE_S):
        tick = await rig.tick()
    assert tick.outcomes[0].result is Result.UNAVAILABLE


async def test_clock_jump_does_not_change_the_age_of_a_window() -> None:
    rig = Rig(scale_down={"window_s": 60, "max_replicas": 1000, "max_evidence_gap_s": 45})
    rig.actuator.desired = 3
    rig.source.values["visible"] = 0.0
    assert [(await rig.tick()).decision.target for _ in range(4)] == [3, 3, 3, 3]
    rig.clock.jump_s = 7200.0
    tick = await rig.tick()
    assert tick.clock_step_s == 7200
    assert tick.decision.target == 1, "the last 60 s were observed without a gap"
    assert tick.lateness_s == pytest.approx(0)


async def test_new_setup_is_adopted_between_ticks_and_keeps_history() -> None:
    rig = Rig()
    await rig.tick()
    changed = workload(policies={"depth": {"kind": "queue_depth", "target_per_replica": 5}})
    rig.controller.adopt(rig.setup(changed))
    assert rig.controller.workload.fingerprint != changed.fingerprint
    tick = await rig.tick()
    assert (tick.spec, tick.decision.target, tick.history_len) == (changed.fingerprint, 6, 1)


async def test_ticks_stay_on_the_interval_grid_and_missed_ones_are_skipped() -> None:
    rig = Rig()
    first = rig.clock.now() + 3
    slow = iter([0.0, 40.0, 0.0, 0.0])

    def on_tick(tick: Tick) -> None:
        rig.ticks.append(tick)
        rig.clock.advance(next(slow))
        if len(rig.ticks) == 4:
            rig.controller.stop()

    rig.controller = Controller(rig.setup(workload()), rig.clock, History(), on_tick)
    await rig.controller.run(first)
    assert [t.at - first for t in rig.ticks] == [0, 15, 60, 75]


async def test_each_tick_waits_for_its_admission() -> None:
    rig, measured, seen = Rig(), list[float](), list[int]()

    def stopwatch() -> float:
        measured.append(0.0)
        return 0.0

    def on_tick(_: Tick) -> None:
        seen.append(len(measured) // 2)
        if len(seen) == 2:
            controller.stop()

    setup = dataclasses.replace(rig.setup(workload()), admission=TickAdmission(stopwatch))
    controller = Controller(setup, rig.clock, History(), on_tick)
    await controller.run(rig.clock.now())
    assert seen == [1, 2]


async def test_workloads_share_one_admission(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    engines = {"kind": "prometheus", "url": "http://127.0.0.1:1", "preset": "vllm"}
    group = {"kind": "asg", "group": "llm", "account": {"region": "us-east-1"}}
    policies = {"requests": {"kind": "concurrency"}}
    configured = workload(sources={"engines": engines}, policies=policies, pools={"main": group})
    async with Resources() as resources:
        setups = [await open_adapters(configured, resources, SystemClock()) for _ in range(2)]
        assert [setup.admission for setup in setups] == 2 * [resources.admission]


async def test_stopped_controller_completes_the_current_tick() -> None:
    rig = Rig()
    rig.actuator.on_resize = lambda _: rig.controller.stop()
    await rig.controller.run(rig.clock.now())
    assert len(rig.ticks) == 1


async def test_unexpected_exception_propagates_without_fault_handling() -> None:
    rig = Rig()

    class Broken(FakeSource):
        async def sample(self) -> dict[str, Fresh[float] | Absent]:
            raise ZeroDivisionError

    broken = dataclasses.replace(rig.setup(workload()), sources={"queue": Broken(rig.clock)})
    with pytest.raises(ZeroDivisionError):
        await Controller(broken, rig.clock, History(), rig.ticks.append).tick(rig.clock.now())


class Broken(FakeSource):
    async def sample(self) -> dict[str, Fresh[float] | Absent]:
        self.calls += 1
        if self.error is None:
            raise OverflowError("a token: s3cret")
        return {q: Fresh(1.0, self.clock.now()) for q in self.values}


class BrokenPool(FakeActuator):
    """A pool whose adapter fails in the method named `where`."""

    where = "status"

    async def status(self) -> Fresh[PoolStatus]:
        if self.where == "status":
            raise RecursionError
        return await super().status()

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        if self.where == "resize":
            raise KeyError("size")
        await super().resize(replicas, observed)


class TestFaults:
    """Unexpected exceptions in the daemon's setup."""

    def make(self, rig: Rig, **parts: Any) -> tuple[Controller, Faults]:
        faults = Faults()
        setup = dataclasses.replace(rig.setup(workload()), faults=faults, **parts)
        return Controller(setup, rig.clock, History(), rig.ticks.append), faults

    async def test_unexpected_source_exception_is_a_counted_failed_read(self, caplog: pytest.LogCaptureFixture) -> None:
        rig = Rig()
        controller, faults = self.make(rig, sources={"queue": Broken(rig.clock)})
        for _ in range(3):
            tick = await controller.tick(rig.clock.now())
        assert isinstance(tick.observation.readings[VISIBLE], Absent)
        assert tick.observation.source_errors["queue"].startswith("OverflowError at test_controller.py:")
        assert "s3cret" not in tick.observation.source_errors["queue"]
        assert (tick.decision.target, rig.actuator.writes) == (1, [])
        assert faults.counts == {("llm", "source", "queue"): 3}

    async def test_unexpected_source_exception_discards_the_last_value(self) -> None:
        rig = Rig()
        source = Broken(rig.clock, {"visible": 1.0}, error=Unavailable("answers"))
        controller, _ = self.make(rig, sources={"queue": source})
        tick = await controller.tick(rig.clock.now())
        assert isinstance(tick.observation.readings[VISIBLE], Fresh)
        source.error = None
        tick = await controller.tick(rig.clock.now())
        assert isinstance(tick.observation.readings[VISIBLE], Absent)

    @pytest.mark.parametrize("where", ["status", "resize"])
    async def test_pool_with_failing_adapter_is_not_resized(self, where: str) -> None:
        rig = Rig()
        pool = BrokenPool(rig.clock)
        pool.where = where
        controller, faults = self.make(rig, actuators={MAIN: pool})
        tick = await controller.tick(rig.clock.now())
        assert (pool.desired, pool.writes) == (1, [])
        assert [o.result for o in tick.outcomes] == ([Result.UNAVAILABLE] if where == "resize" else [])
        assert faults.counts == {("llm", "pool", "main"): 1}

    async def test_core_exception_ends_the_loop_after_three_consecutive_ticks(self) -> None:
        rig = Rig()
        failing = iter([True, True, False, True, True, True])
        controller, faults = self.make(rig)

        def record(tick: Tick) -> None:
            if next(failing):
                raise ZeroDivisionError
            rig.ticks.append(tick)

        controller = Controller(dataclasses.replace(rig.setup(workload()), faults=faults), rig.clock, History(), record)
        with pytest.raises(ZeroDivisionError):
            await controller.run(rig.clock.now())
        assert len(rig.ticks) == 1
        assert next(failing, None) is None
        assert faults.core == {"llm": 5}
        assert controller.idle
