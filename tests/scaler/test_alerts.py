"""The shipped alerting rules: Prometheus accepts them, and their metrics exist."""

from __future__ import annotations

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from policies.model import Outcome, PoolName, Result, WorkloadName
from policies.model.error_budget import AT_RISK, window_text
from scaler.adapter_faults import Faults
from scaler.clouds.api_budget import Api, Calls
from scaler.supervised_tasks import Tasks
from scaler.telemetry.api_calls import CallsCollector
from scaler.telemetry.metrics import Metrics
from scaler.telemetry.supervision import SupervisionCollector
from tests.scaler.telemetry.test_telemetry import measured_tick

FILE = Path(__file__).parents[2] / "config/deploy/alerts.yaml"
RULES: list[dict[str, Any]] = yaml.safe_load(FILE.read_text())["groups"][0]["rules"]


@pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on PATH (Debian: apt install prometheus)")
def test_promtool_accepts_the_alerting_rules() -> None:
    result = subprocess.run(["promtool", "check", "rules", FILE], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert f"SUCCESS: {len(RULES)} rules found" in result.stdout


def test_slo_alerts_use_the_windows_and_burn_rates_of_the_states() -> None:
    expressions = {rule["alert"]: rule["expr"] for rule in RULES}
    for burn_rate, *windows_s in AT_RISK:
        for window_s in windows_s:
            assert f'{{window="{window_text(window_s)}"}} > {burn_rate:g}' in expressions["ForescaleSloAtRisk"]


@pytest.mark.parametrize("rule", RULES, ids=lambda r: str(r["alert"]))
def test_alerting_rule_uses_only_exported_metrics(rule: dict[str, Any]) -> None:
    metrics = Metrics("1")
    calls = Calls()
    calls.record(Api("aws/sqs", 1.0, 1), "sqs:GetQueueAttributes", "ok", 0.1)
    metrics.registry.register(CallsCollector(calls))
    faults, tasks = Faults(), Tasks()
    faults.counts[WorkloadName("llm"), "source", "queue"] = tasks.restarts["configuration"] = 1
    metrics.registry.register(SupervisionCollector(tasks, faults))
    tick = measured_tick()
    published = Outcome(PoolName("borrowed"), 1, 2, Result.PUBLISHED)
    metrics.observe(dataclasses.replace(tick, outcomes=(*tick.outcomes, published)))
    exported = set(re.findall(r"^([a-z_]+)", metrics.exposition().decode(), re.MULTILINE))
    used = set(re.findall(r"forescale_[a-z_]+", rule["expr"]))
    assert used
    assert used <= exported
