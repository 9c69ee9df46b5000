"""Recorded runs for backtests: a simulated period with a known truth, and hand-written records."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import yaml

from policies.model import PoolName, SignalName
from scaler.config.load import workload_from
from simulators.backtest.reasons import Reasons
from simulators.backtest.recorded_run import FIXED, LACKING, SIZES, RecordedRun
from simulators.commands.simulate import simulate_to_journal
from simulators.experiments.results import ResultSummary, summarize
from simulators.experiments.run import SimulationRun, traffic_of
from simulators.experiments.scenario import load
from simulators.reporting.time_bins import Floats

NAN = float("nan")
BEGAN = 1_767_571_200.0
"""Monday, 2026-01-05."""
MODEL = "llama-3.1-8b-h100-vllm"
READ = ["running", "waiting", "kv_cache_usage", "requests_per_s", "prompt_tokens_per_s", "generation_tokens_per_s",
        "ttft_p95_s", "itl_p95_s"]  # fmt: skip
WORKLOAD: Mapping[str, Any] = {
    "workload": "chat",
    "max_replicas": 12,
    "slo": {"ttft_s": 1.0, "itl_s": 0.05, "share": 0.99},
    "sources": {"engines": {"kind": "prometheus", "url": "http://127.0.0.1:9", "preset": "vllm", "window_s": 60,
                            "read": READ}},
    "policies": {"concurrency": {"kind": "concurrency", "target_per_replica": 24}},
    "pools": {"gpus": {"kind": "kubernetes", "name": "vllm", "price_usd_per_hour": 6.0, "lead_time_s": 60}},
}  # fmt: skip
SCENARIO: Mapping[str, Any] = {
    "scenario": "period",
    "workload": "workload.yaml",
    "traffic": {"kind": "flash_crowd", "base_rps": 12, "factor": 4, "at_s": 1500, "duration_s": 5400},
    "pools": {"gpus": {"model": MODEL, "price_usd_per_hour": 6.0,
                       "start_up": {"node": {"median_s": 40}, "image": {"median_s": 10}}}},
    "initial_replicas": {"gpus": 2},
    "settle_s": 60,
    "slo": WORKLOAD["slo"],
}  # fmt: skip


@dataclass(frozen=True)
class Period:
    """A simulated period, and its journal."""

    run: SimulationRun
    summary: ResultSummary
    journal: Path
    scenario: Path


@cache
def period() -> Period:
    """Simulate an hour and a half of chat with a flash crowd, under the concurrency policy."""
    folder = Path(mkdtemp())
    (folder / "workload.yaml").write_text(yaml.safe_dump(dict(WORKLOAD)))
    scenario = folder / "scenario.yaml"
    scenario.write_text(yaml.safe_dump(dict(SCENARIO)))
    case = load(scenario)
    run = simulate_to_journal(case, 1, traffic_of(case, 1), folder / "journal", lambda _: None)
    return Period(run, summarize(run), folder / "journal", scenario)


def edited_journal(folder: Path, change: Callable[[list[str]], Sequence[str]]) -> Path:
    """Return a copy of the period's journal with changed lines."""
    copy = folder / "journal"
    shutil.copytree(period().journal, copy)
    file = copy / "00000001.jsonl"
    lines = file.read_text().splitlines()
    file.write_text("".join(f"{line}\n" for line in change(lines)))
    return copy


def make_recorded_run(
    ticks: int = 8,
    *,
    columns: Mapping[str, Sequence[float]] | None = None,
    pools: Mapping[str, Mapping[str, Sequence[float]]] | None = None,
    readings: Mapping[str, Sequence[float]] | None = None,
    interval_s: float = 15.0,
    workload_pools: Mapping[str, Any] | None = None,
    **workload: Any,
) -> RecordedRun:
    """Return a recorded run: by default quiet, with two replicas in its one pool."""
    at: Floats = BEGAN + interval_s * np.arange(ticks, dtype=np.float64)
    zeros: Floats = np.zeros(ticks)
    two: Floats = np.full(ticks, 2.0)
    unknown: Floats = np.full(ticks, NAN)
    fixed: dict[str, Floats] = dict.fromkeys(FIXED, zeros)
    fixed |= {"at": at, "work": unknown, "demand": two, "ready": two, "target": two}
    fixed |= {name: np.array(values, np.float64) for name, values in (columns or {}).items()}
    usual = dict.fromkeys(SIZES, two) | {"interrupted": zeros, "reserved": unknown, LACKING: zeros}
    signals = {SignalName(name): np.array(values, np.float64) for name, values in (readings or {}).items()}
    document = {**WORKLOAD, **workload} | ({} if workload_pools is None else {"pools": workload_pools})
    return RecordedRun(
        workload_from(document),
        {"abc": ticks},
        fixed,
        {
            PoolName(pool): {**usual, **{name: np.array(v, np.float64) for name, v in sizes.items()}}
            for pool, sizes in (pools or {"gpus": {}}).items()
        },
        signals,
        dict.fromkeys(signals, fixed["at"]),
        {},
        Reasons(),
    )
