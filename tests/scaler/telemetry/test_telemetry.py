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
from policies.model import Absent, ErrorBudget, Outcome, PoolName, RequestCount, Result, Tick, WorkloadName
from policies.model.error_budget import BURN_WINDOWS_S, DAY_S, HOUR_S
from policies.pipeline import decide
from scaler.clock import FastClock, SystemClock
from scaler.controller import Controller
from scaler.journal.explain import budget_text, paragraphs
from scaler.setup import Setup
from scaler.telemetry.health import Health
from scaler.telemetry.log import configure, log, log_slo_change, log_tick
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


def measured_tick(late: float = 0.3, problem: str = "") -> Tick:
    """Return a tick whose SLO of 99 % was measured for an hour, with this share of late requests in each window."""
    windows_s = (*BURN_WINDOWS_S, 28 * DAY_S)
    counts = {w: RequestCount(min(w, HOUR_S), 1000, 1000 * late) for w in windows_s}
    budget = ErrorBudget(0.99, {"ttft_s": 1.0}, counts, problem=problem)
    tick = a_tick()
    return dataclasses.replace(tick, observation=dataclasses.replace(tick.observation, error_budget=budget))


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


def test_metrics_report_burn_rates_and_the_remaining_error_budget() -> None:
    metrics = Metrics("1")
    metrics.observe(measured_tick())
    values = samples(metrics)
    rates = {labels[0]: v for (name, labels), v in values.items() if name == "forescale_slo_burn_rate"}
    assert rates == {window: pytest.approx(30.0) for window in ("5m", "30m", "1h", "6h", "3d", "28d")}
    assert values["forescale_slo_budget_remaining", ("llm",)] == pytest.approx(-29.0)
    states = {min(labels, key="llm".__eq__): v for (name, labels), v in values.items() if name == "forescale_slo_state"}
    assert states == {"violated": 1, "at risk": 0, "unknown": 0, "met": 0}


def test_unmeasured_slo_has_a_state_and_no_burn_rate() -> None:
    metrics, tick = Metrics("1"), measured_tick()
    budget = ErrorBudget(0.99, {"ttft_s": 1.0}, {28 * DAY_S: RequestCount(0, 0, 0)})
    metrics.observe(dataclasses.replace(tick, observation=dataclasses.replace(tick.observation, error_budget=budget)))
    values = samples(metrics)
    assert not [name for name, _ in values if name in {"forescale_slo_burn_rate", "forescale_slo_budget_remaining"}]
    assert values["forescale_slo_state", ("llm", "unknown")] == 1


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


def test_tick_log_line_has_the_slo_and_a_changed_state_is_a_warning() -> None:
    calm, burning = measured_tick(0.0), measured_tick(0.3)
    with capture_logs() as lines:
        log_tick(burning)
        for previous, tick in ((None, calm), (calm, burning), (burning, burning), (burning, calm), (None, a_tick())):
            log_slo_change(previous, tick)
    tick_line, *changes = lines
    assert (tick_line["slo"], tick_line["burn_rate_1h"], tick_line["budget_remaining"]) == ("violated", 30.0, -29.0)
    assert [(line["log_level"], line["state"]) for line in changes] == [
        ("info", "met"),
        ("warning", "violated"),
        ("info", "met"),
    ]


def test_explain_prices_the_room_above_the_load() -> None:
    tick = a_tick()
    (seen_load,) = tick.decision.recommendations
    priced = dataclasses.replace(
        tick.decision, target=5, cost_usd_per_hour=20.0, recommendations=(dataclasses.replace(seen_load, work=3.5),)
    )

    def cost(**changes: Any) -> list[str]:
        decision = dataclasses.replace(priced, **changes)
        return [line for line in paragraphs(dataclasses.replace(tick, decision=decision)) if "Cost" in line]

    assert cost() == ["  Cost: 20.00 USD per hour, of which 6.00 for 1.5 replicas above the load of now"]
    assert cost(target=3) == ["  Cost: 20.00 USD per hour"]
    assert cost(recommendations=(seen_load,)) == ["  Cost: 20.00 USD per hour"]
    assert cost(cost_usd_per_hour=None) == []


def test_explain_states_the_slo_with_its_burn_rates_and_budget() -> None:
    burning = "burn rate 30.00 over 1h, 30.00 over 6h, 30.00 over 3d, 30.00 over 28d"
    overspent = f"  SLO violated: {burning}; the error budget of 28d is overspent by 2900.0 %"
    assert overspent in paragraphs(measured_tick())
    silent = measured_tick(0.0025, "engines.ttft_late_share is stale, 90 s old")
    (line,) = [line for line in paragraphs(silent) if "SLO" in line]
    assert line.endswith(
        "; 75.0 % of the error budget of 28d remains; not measured now: engines.ttft_late_share is stale, 90 s old"
    )
    assert not [line for line in paragraphs(a_tick()) if "SLO" in line]
    young = ErrorBudget(0.99, {"ttft_s": 1.0}, dict.fromkeys((HOUR_S, 28 * DAY_S), RequestCount(60, 100, 0)))
    assert budget_text(young).endswith(
        "100.0 % of the error budget of 28d remains; judged after 1h of measured requests"
    )


class TestHealth:
    def make(self) -> tuple[Health, Controller, ManualClock]:
        clock = ManualClock()
        setup = Setup(workload(), {"queue": FakeSource(clock, {"visible": 1.0})}, {MAIN: FakeActuator(clock)})
        controller = Controller(setup, clock, History(), lambda _: None)
        return Health({LLM: controller}, clock), controller, clock

    def test_loop_without_a_finished_tick_is_stalled(self) -> None:
        health, _, clock = self.make()
        clock.advance(64)
        assert health.stalled() == {}
        clock.advance(3)
        assert "no tick completed for 67 s" in health.stalled()[LLM]

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
