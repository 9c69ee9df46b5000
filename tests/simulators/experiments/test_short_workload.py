"""A workload of eight settings in the simulator: it keeps its SLO on engines that it knows nothing of."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulators.experiments.results import summarize
from simulators.experiments.run import simulate, traffic_of
from simulators.experiments.scenario import load

pytestmark = pytest.mark.slow

WORKLOAD = """\
workload: chat
min_replicas: 2
max_replicas: 20
slo: {ttft_s: 2.5, share: 0.99}
sources:
  engines: {kind: prometheus, url: 'http://prometheus:9090', preset: vllm}
pools:
  gpus: {kind: kubernetes, name: vllm, namespace: llm}
"""
SCENARIO = """\
scenario: slow-engines
workload: chat.yaml
traffic: {kind: poisson, rps: 12, duration_s: 1800}
pools:
  gpus: {model: llama-3.1-70b-a100x4, price_usd_per_hour: 10}
initial_replicas: {gpus: 6}
slo: {ttft_s: 2.5, share: 0.99}
"""


@pytest.mark.parametrize("model", ["", "model: llama-3.1-70b-a100x4\n"], ids=["no model", "model"])
def test_short_workload_keeps_its_slo_on_engines_five_times_slower_than_the_guess(tmp_path: Path, model: str) -> None:
    (tmp_path / "chat.yaml").write_text(model + WORKLOAD)
    (tmp_path / "scenario.yaml").write_text(SCENARIO)
    case = load(tmp_path / "scenario.yaml")
    assert case.telemetry.window_s == 60.0, "four scrapes of 15 s"
    summary = summarize(simulate(case, 1, traffic_of(case, 1)))
    assert summary.slo_met
    assert summary.blind_ticks <= 3, "before the first scrapes"
    assert 3.0 < summary.replicas_mean < 10.0
