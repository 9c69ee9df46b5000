"""Bounds of the ticks that the dashboard stores."""

from __future__ import annotations

import time

import pytest

from policies.model import Fresh, SignalName, WorkloadName
from scaler.telemetry.dashboard import MAX_ROWS, MIN_RUNS, Dashboard
from scaler.telemetry.dashboard.columns import MAX_SIGNALS, Columns, unit
from scaler.telemetry.dashboard.decisions import MAX_RUNS
from tests.servers.dashboard import INTERVAL_S, NOON, Known, tick


def test_held_size_with_varying_demand_is_one_decision() -> None:
    dashboard = Dashboard("1.2.3", Known())
    for turn in range(20):
        dashboard.observe(tick(turn=turn, wanted=4 if turn % 3 == 0 else 3))
    (run,) = dashboard._stored[WorkloadName("chat")].decisions.runs
    assert (run.kind, run.times) == ("held", 13)


@pytest.mark.parametrize(
    ("signal", "expected"),
    [
        ("dcgm.tensor_active", "share"),
        ("queue.oldest_age_s", "seconds"),
        ("vllm.tokens_per_s", "per second"),
        ("sqs.groups_in_flight", "messages"),
        ("vllm.running", "count"),
    ],
)
def test_signal_unit_is_derived_from_its_name(signal: str, expected: str) -> None:
    assert unit(SignalName(signal)) == expected


def test_stored_ticks_decisions_and_signals_are_bounded() -> None:
    dashboard = Dashboard("1.2.3", Known())
    for turn in range(MAX_ROWS + 300):
        dashboard.observe(tick(turn=turn, target=4 + turn % 2))
    stored = dashboard._stored[WorkloadName("chat")]
    assert len(stored.columns) == MAX_ROWS
    assert stored.columns.read(None)["at"][-1] == NOON + (MAX_ROWS + 299) * INTERVAL_S
    assert len(stored.decisions.runs) == MAX_RUNS
    columns = Columns()
    columns.append(tick(readings={f"scrape.q{i}": Fresh(1.0, NOON) for i in range(MAX_SIGNALS + 9)}), 10)
    assert len(columns.signals) == MAX_SIGNALS


@pytest.mark.slow
def test_two_thousand_workloads_use_bounded_memory_and_cpu_per_tick() -> None:
    dashboard = Dashboard("1.2.3", Known())
    for turn in range(3):
        for i in range(2000):
            dashboard.observe(tick(f"w-{i}", turn))
    ticks = [tick(f"w-{i}", turn, target=4 + turn % 2) for turn in range(3, 3 + 2 * MIN_RUNS + 4) for i in range(500)]
    start_s = time.process_time()
    for t in ticks:
        dashboard.observe(t)
    assert (time.process_time() - start_s) / len(ticks) < 200e-6  # about 12 us of processor time
    stored = dashboard._stored.values()
    assert max(len(t.decisions.runs) for t in stored) == MIN_RUNS
    assert max(t.columns._rows.nbytes for t in stored) < 4096
