"""Runs for calibration tests: simulated by the engine itself, or measured."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from simulators.engine.models.replay import simulate
from simulators.engine.models.runs import EngineRun
from simulators.engine.models.service import ServiceModel

CALIBRATION = Path(__file__).resolve().parents[4].parent / "shared" / "calibration"


def measured() -> Path:
    """Return the folder of runs measured on an H100, or skip the test."""
    if not (CALIBRATION / "requests.csv.gz").is_file():
        pytest.skip(f"no measured runs in {CALIBRATION}")
    return CALIBRATION


def open_run(model: ServiceModel, name: str, rate: float, count: int, seed: int) -> EngineRun:
    """Return a run with Poisson arrivals, long and short requests, and the times that the model gives them."""
    rng = np.random.default_rng(seed)
    endless = np.full(count, 1e9)  # placeholder: no request ends before the next arrives, so it is no closed loop
    run = EngineRun(
        name,
        np.concatenate(([0.0], np.cumsum(np.round(rng.exponential(1 / rate, count - 1), 6)))),
        rng.integers(20, 3000, count).astype(np.int32),
        rng.integers(1, 200, count).astype(np.int32),
        endless,
        endless,
    )
    _, ttft, e2e = simulate(model, run, key=1000 + seed)
    return dataclasses.replace(run, ttft_s=ttft, e2e_s=e2e)


def runs_at_four_loads(model: ServiceModel) -> dict[str, EngineRun]:
    """Return runs at light, medium and heavy load."""
    return {f"at-{rate}": open_run(model, f"at-{rate}", rate, 300, seed) for seed, rate in enumerate((0.5, 4, 9, 12))}


def write_runs(runs: Mapping[str, EngineRun], folder: Path) -> None:
    """Write the runs as a recorder does."""
    with (folder / "requests.csv").open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["run", "arrival_unix", "prompt_tokens", "output_tokens", "ttft_s", "e2e_s"])
        for name, r in runs.items():
            for row in zip(r.arrival_s + 1.7e9, r.prompt, r.output, r.ttft_s, r.e2e_s, strict=True):
                out.writerow([name, *row])
