"""The shipped alerting and recording rules on series of numbers, evaluated by promtool."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

from tests.deploy.charts import DEPLOY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("promtool") is None, reason="no promtool on PATH (Debian: apt install prometheus)"),
]
FILES: Final = (DEPLOY / "alerts.yaml", DEPLOY / "recording-rules.yaml")
ALERTS: Final[dict[str, Any]] = {
    rule["alert"]: rule for group in yaml.safe_load(FILES[0].read_text())["groups"] for rule in group["rules"]
}
VALUE: Final = "{{ $value | humanize }}"
Series = dict[str, str]
"""Values per minute in promtool's notation: 1x3 is 1 at four times, 0+5x2 is 0, 5, 10, and _ is no sample."""


class Case(NamedTuple):
    """Series at which an alert fires with these labels at a minute, or at which it does not fire."""

    alert: str
    series: Series
    minute: int
    labels: dict[str, str] | None = None
    value: str = ""
    """The value that the alert's text shows."""


WORKLOAD: Final = {"workload": "chat"}
CHAT: Final = '{workload="chat"}'
POOL: Final = {"workload": "chat", "pool": "gpus"}


def burn_rates(values: Mapping[str, str], workload: str = "chat") -> Series:
    """Return the series of burn rates by window."""
    return {f'forescale_slo_burn_rate{{workload="{workload}", window="{w}"}}': v for w, v in values.items()}


def slo_labels(state: str) -> dict[str, str]:
    return {**WORKLOAD, "state": state}


def slo_state(state: str, values: str) -> Series:
    return {f'forescale_slo_state{{workload="chat", state="{state}"}}': values}


CASES: Final = {
    "blind": Case("ForescaleBlind", {f"forescale_blind{CHAT}": "1x20"}, 15, WORKLOAD),
    "blind for less than 15 minutes": Case("ForescaleBlind", {f"forescale_blind{CHAT}": "1x13 0x9"}, 15),
    "stalled": Case("ForescaleStalled", {f"forescale_last_tick_timestamp_seconds{CHAT}": "0x20"}, 6, WORKLOAD),
    "not stalled": Case("ForescaleStalled", {f"forescale_last_tick_timestamp_seconds{CHAT}": "0+60x20"}, 6),
    "writes refused": Case(
        "ForescaleWritesRefused",
        {'forescale_resizes_total{workload="chat", pool="gpus", result="conflict"}': "0+1x20"},
        15,
        {**POOL, "result": "conflict"},
    ),
    "writes accepted": Case(
        "ForescaleWritesRefused",
        {'forescale_resizes_total{workload="chat", pool="gpus", result="accepted"}': "0+5x20"},
        15,
    ),
    "writes left to another autoscaler": Case(
        "ForescaleWritesRefused",
        {
            f'forescale_resizes_total{{workload="chat", pool="gpus", result="{result}"}}': "0+5x20"
            for result in ("published", "withheld")
        },
        15,
    ),
    "published and not applied": Case(
        "ForescalePublishedNotApplied",
        {
            'forescale_published_replicas{workload="chat", pool="gpus"}': "7x20",
            'forescale_applied_replicas{workload="chat", pool="gpus"}': "5x20",
        },
        15,
        POOL,
    ),
    "published and applied within the tolerance of an HPA": Case(
        "ForescalePublishedNotApplied",
        {
            'forescale_published_replicas{workload="chat", pool="gpus"}': "21x20",
            'forescale_applied_replicas{workload="chat", pool="gpus"}': "20x20",
        },
        15,
    ),
    "out of quota, first event": Case(
        "ForescaleOutOfQuota",
        {'forescale_resizes_total{workload="chat", pool="gpus", result="out_of_quota"}': "_x9 1x20"},
        12,
        {**POOL, "result": "out_of_quota"},
    ),
    "out of quota, later event": Case(
        "ForescaleOutOfQuota",
        {'forescale_resizes_total{workload="chat", pool="gpus", result="out_of_quota"}': "1x99 2x20"},
        102,
        {**POOL, "result": "out_of_quota"},
    ),
    "out of quota, long ago": Case(
        "ForescaleOutOfQuota",
        {'forescale_resizes_total{workload="chat", pool="gpus", result="out_of_quota"}': "1x120"},
        100,
    ),
    "throttled": Case(
        "ForescaleCloudThrottles",
        {
            'forescale_cloud_calls_total{api="aws/sqs", operation="a", result="throttled"}': "0+3x40",
            'forescale_cloud_calls_total{api="aws/sqs", operation="a", result="ok"}': "0+7x40",
        },
        30,
        {"api": "aws/sqs"},
    ),
    "throttled seldom": Case(
        "ForescaleCloudThrottles",
        {
            'forescale_cloud_calls_total{api="aws/sqs", operation="a", result="throttled"}': "0+1x40",
            'forescale_cloud_calls_total{api="aws/sqs", operation="a", result="ok"}': "0+9x40",
        },
        30,
    ),
    "at the maximum": Case(
        "ForescaleAtMaximum",
        {f"forescale_{name}_replicas{CHAT}": f"{n}x20" for name, n in (("demand", 10), ("target", 8), ("current", 8))},
        15,
        WORKLOAD,
    ),
    "growing": Case(
        "ForescaleAtMaximum",
        {f"forescale_{name}_replicas{CHAT}": f"{n}x20" for name, n in (("demand", 10), ("target", 8), ("current", 7))},
        15,
    ),
    "fast burn": Case(
        "ForescaleSloAtRisk", burn_rates({"1h": "0x9 15x30", "5m": "0x9 20x30"}), 20, {**WORKLOAD, "window": "1h"}, "15"
    ),
    "fast burn that has ended": Case("ForescaleSloAtRisk", burn_rates({"1h": "15x50", "5m": "20x29 0x20"}), 40),
    "burn of hours": Case(
        "ForescaleSloAtRisk", burn_rates({"6h": "6x9 7x30", "30m": "9x40"}), 20, {**WORKLOAD, "window": "6h"}, "7"
    ),
    "burn of hours below 6": Case("ForescaleSloAtRisk", burn_rates({"6h": "6x30", "30m": "9x40"}), 20),
    "windows of two workloads": Case(
        "ForescaleSloAtRisk", {**burn_rates({"1h": "15x30"}), **burn_rates({"5m": "15x30"}, "batch")}, 20
    ),
    "burn of days": Case(
        "ForescaleSloBudgetBurns", burn_rates({"3d": "1.2x30", "6h": "1.5x30"}), 5, {**WORKLOAD, "window": "3d"}
    ),
    "burn of days that has ended": Case("ForescaleSloBudgetBurns", burn_rates({"3d": "1.2x30", "6h": "0.5x30"}), 20),
    "budget spent": Case("ForescaleSloViolated", slo_state("violated", "0x9 1x30"), 20, slo_labels("violated")),
    "budget left": Case("ForescaleSloViolated", slo_state("violated", "0x9 1x30"), 5),
    "not measured": Case("ForescaleSloUnknown", slo_state("unknown", "1x100"), 70, slo_labels("unknown")),
    "not measured for 50 minutes": Case("ForescaleSloUnknown", slo_state("unknown", "1x100"), 50),
    "configuration refused": Case("ForescaleConfigRefused", {"forescale_config_valid": "0x5"}, 3, {}),
    "configuration in use": Case("ForescaleConfigRefused", {"forescale_config_valid": "1x5"}, 3),
    "task restarted, first event": Case(
        "ForescaleTaskRestarts",
        {'forescale_task_restarts_total{task="journal"}': "_x9 1x20"},
        12,
        {"task": "journal"},
    ),
    "task restarted long ago": Case(
        "ForescaleTaskRestarts", {'forescale_task_restarts_total{task="journal"}': "1x40"}, 30
    ),
    "adapter fault, first event": Case(
        "ForescaleAdapterFaults",
        {'forescale_adapter_faults_total{workload="chat", of="source", name="engines"}': "_x9 1x20"},
        12,
        {**WORKLOAD, "of": "source", "name": "engines"},
    ),
    "adapter fault long ago": Case(
        "ForescaleAdapterFaults",
        {'forescale_adapter_faults_total{workload="chat", of="source", name="engines"}': "1x40"},
        30,
    ),
    "journal lost": Case("ForescaleJournalLost", {"forescale_journal_lost_records": "0x5 3x20"}, 8, {}),
    "journal lost before": Case("ForescaleJournalLost", {"forescale_journal_lost_records": "3x40"}, 30),
}


def evaluate(folder: Path, **test: Any) -> str:
    """Return what promtool reports about one test; empty if it passes."""
    test["input_series"] = [{"series": name, "values": values} for name, values in test["input_series"].items()]
    file = folder / "rules.json"
    document = {"rule_files": [str(path) for path in FILES], "evaluation_interval": "1m"}
    file.write_text(json.dumps({**document, "tests": [{"interval": "1m", **test}]}))
    done = subprocess.run(["promtool", "test", "rules", file], capture_output=True, text=True, check=False)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize("name", CASES)
def test_alert_fires_on_its_condition_only(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    rule = ALERTS[case.alert]
    expected = []
    if (labels := case.labels) is not None:
        texts = {
            key: re.sub(r"{{ \$labels\.(\w+) }}", lambda found: labels[found[1]], text).replace(VALUE, case.value)
            for key, text in rule["annotations"].items()
        }
        expected = [{"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": texts}]
    check = {"eval_time": f"{case.minute}m", "alertname": case.alert, "exp_alerts": expected}
    assert evaluate(tmp_path, input_series=case.series, alert_rule_test=[check]) == ""


def test_every_alert_has_a_case_that_fires_and_one_that_does_not() -> None:
    for fires in (True, False):
        assert {case.alert for case in CASES.values() if (case.labels is not None) == fires} == {*ALERTS}


RECORDED: Final[dict[str, tuple[Mapping[str, str], dict[str, float]]]] = {
    "the lower of two windows": (
        {"5m": "3x9", "30m": "7x9", "1h": "15x9", "6h": "6x9", "3d": "0x9"},
        {"5m_1h": 3, "30m_6h": 6, "6h_3d": 0},
    ),
    "an unmeasured window": ({"5m": "20x9", "6h": "6x9", "3d": "2x9"}, {"6h_3d": 2}),
}


@pytest.mark.parametrize("name", RECORDED)
def test_recorded_burn_rate_is_that_which_both_windows_exceed(name: str, tmp_path: Path) -> None:
    values, expected = RECORDED[name]
    checks = [
        {
            "expr": f"forescale:slo_burn_rate:{windows}",
            "eval_time": "5m",
            "exp_samples": [
                {"labels": f'forescale:slo_burn_rate:{windows}{{workload="chat"}}', "value": expected[windows]}
            ]
            if windows in expected
            else [],
        }
        for windows in ("5m_1h", "30m_6h", "6h_3d")
    ]
    assert evaluate(tmp_path, input_series=burn_rates(values), promql_expr_test=checks) == ""
