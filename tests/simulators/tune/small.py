"""A quarter of an hour of chat with a flash crowd, small enough to be searched in seconds, and its studies."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import numpy as np

from scaler.clock import stopwatch_s
from simulators.experiments.scenario import Case, load
from simulators.tune.objectives import figures
from simulators.tune.storage import open_storage
from simulators.tune.study import CompletedTrial
from simulators.tune.trial import WindowResult
from tests.foreground import FOREGROUND

SCENARIO: Final = """
scenario: small
workload: workloads/small.yaml
traffic: {kind: flash_crowd, base_rps: 5, factor: 4, at_s: 200, duration_s: 900,
  prompt: {mean_tokens: 900, cv: 0.5}, output: {mean_tokens: 150, cv: 0.5}}
pools:
  gpus:
    model: llama-3.1-8b-h100-vllm
    price_usd_per_hour: 6.88
    start_up: {node: {median_s: 20, sigma: 0.5}, image: {median_s: 5}, weights: {median_s: 5}}
initial_replicas: {gpus: 2}
warm_up_s: 60
settle_s: 60
slo: {ttft_s: 0.4, itl_s: 0.03, share: 0.9}
"""
WORKLOAD: Final = """# Small, and written by hand.
workload: small
max_replicas: 6   # what the quota has
interval_s: 15
sources:
  engines: {kind: prometheus, url: "http://prometheus:9090", preset: vllm, read: [running, waiting, kv_cache_usage]}
policies:
  concurrency: {kind: concurrency, target_per_replica: 12}
pools:
  gpus: {kind: kubernetes, name: vllm, namespace: llm}
"""
PATIENCE_S: Final = 600.0
"""The maximum wait for a process on a shared machine. Seconds."""
ENDED: Final = ("COMPLETE", "PRUNED", "FAIL")


def write(folder: Path) -> Path:
    """Write the scenario and its workload; return the scenario's file."""
    (folder / "workloads").mkdir()
    (folder / "workloads" / "small.yaml").write_text(WORKLOAD)
    (folder / "small.yaml").write_text(SCENARIO)
    return folder / "small.yaml"


def case(folder: Path) -> Case:
    return load(write(folder))


def completed_trial(number: int, cost: Sequence[float], late: Sequence[int], arrived: int = 1000) -> CompletedTrial:
    """Return a completed trial with batches of an hour each."""
    blocks = tuple((c, arrived, k) for c, k in zip(cost, late, strict=True))
    results = (WindowResult(0, 1, float(len(blocks)), blocks),)
    return CompletedTrial(number, {"a.b": number}, results, figures(results))


def steady_trial(number: int, usd_per_hour: float, late_share: float, batches: int = 12) -> CompletedTrial:
    """Return a completed trial with equal batches apart from a little noise."""
    noise = np.random.default_rng(number).normal(1.0, 0.002, batches)
    return completed_trial(number, list(usd_per_hour * noise), [round(1000 * late_share)] * batches)


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "scaler.cli", "tune", *map(str, arguments)]


@contextmanager
def running(*arguments: str | Path, cwd: Path) -> Iterator[subprocess.Popen[str]]:
    """Run a search as a process in its own group; all of it is killed at the end."""
    process = subprocess.Popen(
        [*FOREGROUND, *command(*arguments)],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def wait_until(is_true: Callable[[], bool], event: str, process: subprocess.Popen[str] | None = None) -> None:
    """Wait for an event in another process; fail with its output if it has ended."""
    start_s = stopwatch_s()
    while not is_true():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"ended with {process.returncode} before {event}: {process.communicate()}")
        if stopwatch_s() - start_s > PATIENCE_S:
            raise AssertionError(f"not within {PATIENCE_S:g} s: {event}")
        time.sleep(0.05)


def trials(out: Path, url: str | None = None) -> list[Any]:
    """Return Optuna's trials of the study in a folder or in a database."""
    storage = open_storage(url, out)
    (study,) = storage.get_all_studies()
    optuna_trials: list[Any] = storage.get_all_trials(study._study_id)
    return optuna_trials


def states(optuna_trials: Sequence[Any]) -> Mapping[str, int]:
    names = [trial.state.name for trial in optuna_trials]
    return {name: names.count(name) for name in dict.fromkeys(names)}


def count_ended(log: Path) -> int:
    """Return the number of ended trials in a study's log."""
    return log.read_text(errors="replace").count('"stages"') if log.exists() else 0


def result(out: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((out / "result.json").read_text())
    return document
