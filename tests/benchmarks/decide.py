"""Time of a decision, and the controller's overhead, without I/O."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from policies.history.ticks import History
from policies.model import Observation, Tick
from policies.model.spec import ScaleDown, ScaleUp, WorkloadSpec
from policies.pipeline import decide
from policies.quota.fleet_quota import FleetLimits
from policies.recommend.threshold import Concurrency, GpuUtilization, QueueDepth
from scaler.clock import stopwatch_s
from scaler.config.load import workload_from
from scaler.controller import Controller
from scaler.quota_ledger import QuotaLedger
from scaler.setup import Setup
from scaler.telemetry.dashboard import Dashboard
from scaler.telemetry.dashboard.workload_facts import LiveWorkloads
from scaler.telemetry.health import Health
from scaler.telemetry.metrics import Metrics
from simulators.experiments.run import simulate, traffic_of
from tests.benchmarks.figure import Figure, cpu_us, microseconds, quantile
from tests.factories import MAIN, NOW, fresh, queue, seen, spec, tick_of
from tests.fakes import FakeActuator, FakeSource, ManualClock
from tests.golden.runs import SCENARIOS, short

HOUR_OF_TICKS = 240
PREDICTIVE_S = 6 * 3600.0
PREDICTIVE = (("chat", "chat-predictive", "a quantile of the demand"), ("daily", "daily", "the SLO alone"))
"""Scenario and workload of each run with the policy `predictive`, and its margin."""
TICKS = 2000


def run(_data: Path) -> Iterator[Figure]:
    workload, history, observation = an_hour()
    times_us = microseconds(lambda: decide(workload, history, observation))
    yield Figure(
        "decide", "median of decide()", quantile(times_us, 0.5), "us", 100, note="3 policies, an hour of history"
    )
    yield Figure("decide", "p99 of decide()", quantile(times_us, 0.99), "us")
    for scenario, workload_name, sized_by in PREDICTIVE:
        times_us, records_us = predictive_us(scenario, workload_name)
        name, note = f"decide() with predictive in {scenario}", f"{len(times_us):,} ticks, sized by {sized_by}"
        yield Figure("decide", f"median of {name}", quantile(times_us, 0.5), "us", 250, note=note)
        yield Figure("decide", f"p99 of {name}", quantile(times_us, 0.99), "us")
        note = "after the resize, with the next tick's forecast"
        yield Figure(
            "decide", f"median of the record of a tick in {scenario}", quantile(records_us, 0.5), "us", note=note
        )
    yield asyncio.run(overhead())


def an_hour() -> tuple[WorkloadSpec, History, Observation]:
    """Return three policies with every window in use, and an hour of ticks at 15 s."""
    policies = {
        "queue": QueueDepth(source="queue"),
        "busy": GpuUtilization(source="gpu"),
        "requests": Concurrency(source="engine"),
    }
    workload = spec(
        policies, min_replicas=0, tolerance=0.05, scale_up=ScaleUp(window_s=60), scale_down=ScaleDown(window_s=600)
    )
    history = History()
    for i in range(HOUR_OF_TICKS, -1, -1):
        at = NOW - 15.0 * i
        readings = {
            **queue(60 + 20 * (i % 7)),
            "gpu.utilization": fresh(0.5, now=at),
            "engine.running": fresh(300, now=at),
            "engine.waiting": fresh(i % 5, now=at),
        }
        observation = seen(readings, desired=15, ready=14, at=at)
        if i:
            history.append(tick_of(observation, decide(workload, history, observation)))
    return workload, history, observation


def predictive_us(scenario: str, workload: str) -> tuple[list[float], list[float]]:
    """Return the sorted times of the decisions on a recorded run, and of their records. Microseconds.

    The first hour does not count. Each decision reads the history of the ticks before it, and each record computes the
    forecast of the next tick.
    """
    with tempfile.TemporaryDirectory() as folder:
        file = SCENARIOS / "workloads" / f"{workload}.yaml"
        case = short(scenario, Path(folder), PREDICTIVE_S, workload=str(file))
    ticks: list[Tick] = []
    simulate(case, case.scenario.seed, traffic_of(case, case.scenario.seed), record=[ticks.append])
    history, times_us, records_us = History(), [], []
    for tick in ticks:
        times_us.append(cpu_us(partial(decide, case.workload.spec, history, tick.observation)))
        records_us.append(cpu_us(partial(history.append, tick)))
    return sorted(times_us[HOUR_OF_TICKS:]), sorted(records_us[HOUR_OF_TICKS:])


async def overhead() -> Figure:
    """Measure a whole tick on ports without delay, with every projection except the log line and the journal."""
    workload = workload_from(
        {
            "workload": "llm",
            "max_replicas": 50,
            "sources": {"queue": {"kind": "embedded"}, "engines": {"kind": "embedded", "offers": "engines"}},
            "policies": {
                "depth": {"kind": "queue_depth"},
                "busy": {"kind": "gpu_utilization"},
                "requests": {"kind": "concurrency"},
            },
            "pools": {"main": {"kind": "embedded"}},
        }
    )
    clock = ManualClock()
    sources = {
        "queue": FakeSource(clock, {"visible": 30, "in_flight": 5, "delayed": 0, "oldest_age_s": 1}),
        "engines": FakeSource(clock, {"running": 30, "waiting": 1, "kv_cache_usage": 0.4, "utilization": 0.6}),
    }
    metrics, info = Metrics("bench"), LiveWorkloads({}, Health({}, clock), QuotaLedger(FleetLimits()))
    dashboard = Dashboard("bench", info)

    def record(tick: Tick) -> None:
        metrics.observe(tick)
        dashboard.observe(tick)

    controller = Controller(Setup(workload, sources, {MAIN: FakeActuator(clock, 5)}), clock, History(), record)
    for _ in range(HOUR_OF_TICKS):
        clock.advance(15)
        await controller.tick(clock.now())
    _, history, observation = an_hour()
    decide_us = quantile(microseconds(lambda: decide(workload.spec, history, observation)), 0.5)
    times_us = []
    for _ in range(TICKS):
        clock.advance(15)
        start_s = stopwatch_s()
        await controller.tick(clock.now())
        times_us.append((stopwatch_s() - start_s) * 1e6)
    value = quantile(sorted(times_us), 0.5)
    return Figure(
        "decide", "time of a tick without I/O", value, "us", 300, note=f"of which decide(): about {decide_us:.0f} us"
    )
