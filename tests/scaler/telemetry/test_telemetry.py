"""Views of a tick (metrics, log line, health), and the clocks."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import logging
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families
from structlog.testing import capture_logs

from policies.history.ticks import History
from policies.model import Absent, Outcome, PoolName, Result, Tick, WorkloadName
from policies.pipeline import decide
from scaler.clock import FastClock, SystemClock
from scaler.controller import Controller
from scaler.setup import Setup
from scaler.telemetry.health import Health
from scaler.telemetry.log import configure, log, log_tick
from scaler.telemetry.log_limits import RateLimit
from scaler.telemetry.metrics import Metrics
from tests.factories import MAIN, fresh, seen, spec, stale
from tests.fakes import FakeActuator, FakeSource, ManualClock
from tests.scaler.test_controller import workload

LLM = WorkloadName("llm")


def a_tick(result: Result = Result.ACCEPTED) -> Tick:
    readings: dict[str, Any] = {"queue.visible": fresh(50), "queue.in_flight": stale(7, 90), "x.y": Absent("gone")}
    observation = seen(readings, desired=2)
    outcome = Outcome(PoolName("main"), 2, 5, result, "" if result is Result.ACCEPTED else "409")
    return Tick("f", observation, decide(spec(), History(), observation), (outcome,), 0, 0.02, 0.1)


def samples(metrics: Metrics) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(metrics.exposition().decode())
    return {(s.name, tuple(sorted(s.labels.values()))): s.value for f in families for s in f.samples}


def test_metrics_report_the_tick() -> None:
    metrics = Metrics("1")
    tick = a_tick()
    abandoned = dataclasses.replace(tick.decision, abandoned={PoolName("main"): 2})
    metrics.observe(dataclasses.replace(tick, decision=abandoned))
    values = samples(metrics)
    assert values["forescale_target_replicas", ("llm",)] == 5
    assert values["forescale_abandoned_replicas", ("llm", "main")] == 2
    assert values["forescale_reading", ("llm", "queue.visible")] == 50
    assert values["forescale_reading_age_seconds", ("llm", "queue.in_flight")] == 90
    assert values["forescale_resizes_total", ("accepted", "llm", "main")] == 1
    assert values["forescale_blind", ("llm",)] == 1


def test_absent_reading_has_state_but_no_value() -> None:
    metrics = Metrics("1")
    metrics.observe(a_tick())
    values = samples(metrics)
    assert ("forescale_reading", ("llm", "x.y")) not in values
    states = {
        labels: v for (name, labels), v in values.items() if name == "forescale_reading_state" and "x.y" in labels
    }
    assert {labels for labels, value in states.items() if value} == {("absent", "llm", "x.y")}
    assert len(states) == 4


def test_forgotten_workload_has_no_series() -> None:
    metrics = Metrics("1")
    metrics.observe(a_tick())
    metrics.forget(LLM)
    assert not [key for key in samples(metrics) if "llm" in key[1]]


def test_tick_log_line_is_one_json_line_with_outcomes(capsys: pytest.CaptureFixture[str]) -> None:
    handlers = logging.getLogger().handlers[:]
    try:
        configure("json")
        log_tick(a_tick(Result.CONFLICT))
    finally:
        logging.getLogger().handlers[:] = handlers
    (line,) = capsys.readouterr().err.splitlines()
    event = json.loads(line)
    assert (event["event"], event["level"], event["workload"], event["target"]) == ("tick", "warning", "llm", 5)
    assert event["queue.in_flight"] == "stale 90 s: 7"
    assert event["x.y"] == "absent: gone"
    assert event["outcomes"] == ["main 2->5 conflict: 409"]


class TestHealth:
    def make(self) -> tuple[Health, Controller, ManualClock]:
        clock = ManualClock()
        setup = Setup(workload(), {"queue": FakeSource(clock, {"visible": 1.0})}, {MAIN: FakeActuator(clock)})
        controller = Controller(setup, clock, History(), lambda _: None)
        return Health({LLM: controller}, clock), controller, clock

    def test_loop_without_a_finished_tick_is_stalled(self) -> None:
        health, _, clock = self.make()
        clock.advance(44)
        assert health.stalled() == {}
        clock.advance(3)
        assert "no tick completed for 47 s" in health.stalled()[LLM]

    async def test_each_tick_resets_the_stall_timer(self) -> None:
        health, controller, clock = self.make()
        for _ in range(5):
            clock.advance(40)
            await controller.tick(clock.now())
            assert health.stalled() == {}

    async def test_workload_is_ready_after_the_first_tick(self) -> None:
        health, controller, clock = self.make()
        assert health.waiting() == [LLM]
        await controller.tick(clock.now())
        assert health.waiting() == []


def test_used_logger_follows_a_later_configuration(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    try:
        configure("json")
        log.info("first")
        configure("json")
        with capture_logs() as logged:
            log.info("second")
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
    assert [line["event"] for line in logged] == ["second"]
    assert [json.loads(line)["event"] for line in capsys.readouterr().err.splitlines()] == ["first"]


async def test_fast_clock_advances_faster_than_the_wall_clock() -> None:
    clock = FastClock(speed=1000.0, start=5.0)
    await clock.sleep_until(55.0)
    assert 55.0 <= clock.now() < 5.0 + 1000 * 5
    assert clock.step_s() == 0


async def test_system_clock_advances_without_steps() -> None:
    clock = SystemClock()
    start = clock.now()
    await asyncio.sleep(0.01)
    assert clock.now() > start
    assert clock.step_s() == 0


class TestLogLimits:
    """Log lines of one event through the daemon's handler."""

    def test_rate_limit_passes_ten_lines_per_event_and_workload_and_all_ticks(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        handlers = logging.getLogger().handlers[:]
        try:
            configure("json")
            for _ in range(500):
                log.error("reload", error="x")
                log.error("seed", workload="a")
                log.error("seed", workload="b")
                log.info("tick", workload="a")
                logging.getLogger("asyncio").error("no descriptor is left for %s", object())
        finally:
            logging.getLogger().handlers[:] = handlers
        lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
        assert len(lines) == 500 + 4 * 10
        assert sum(line["event"] == "tick" for line in lines) == 500

    def test_rate_limit_reports_omitted_lines(self) -> None:
        event: list[dict[str, Any]] = []
        limit = RateLimit(lambda _event, **fields: event.append(fields))
        for _ in range(25):
            limit.filter(logging.makeLogRecord({"msg": {"event": "seed", "workload": "a"}, "levelname": "ERROR"}))
        limit.report_omitted(60.0)
        assert [(t["line"], t["of"], t["severity"], t["left_out"]) for t in event] == [("seed", "a", "error", 15)]
        assert limit.filter(logging.makeLogRecord({"msg": {"event": "seed", "workload": "a"}, "levelname": "ERROR"}))
