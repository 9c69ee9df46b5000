"""Time of a whole simulation: requests, scrapes every 15 s, and every tick of the daemon's controller.

The workload is the one of ``config/scenarios`` with wider bounds, so that the size follows the load. No journal is
written. Each figure is the best of its repeats, after one run that compiles.
"""

from __future__ import annotations

import dataclasses
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import yaml

from scaler.clock import stopwatch_s
from simulators.experiments import run as running
from simulators.experiments.run import SimulationRun
from simulators.experiments.scenario import Case, load
from simulators.world.traffic.trace import RequestTrace
from tests.benchmarks.figure import Figure

WORKLOAD: Final = {
    "workload": "bench",
    "min_replicas": 1,
    "max_replicas": 200,
    "interval_s": 15,
    "sources": {
        "engines": {
            "kind": "prometheus",
            "url": "http://localhost:9090",
            "preset": "vllm",
            "read": ["running", "waiting", "kv_cache_usage"],
        }
    },
    "policies": {
        "concurrency": {"kind": "concurrency", "target_per_replica": 24},
        "kv-cache": {"kind": "kv_cache_usage", "target": 0.8},
    },
    "pools": {"gpus": {"kind": "kubernetes", "name": "vllm", "namespace": "llm"}},
}
MODEL: Final = "llama-3.1-8b-h100-vllm"
DAY_S: Final = 86_400
LARGE: Final = 10_000_000
REPEATS: Final = 3


def case(folder: Path, traffic: dict[str, object], **workload: object) -> Case:
    """Return a scenario on H100s with this traffic."""
    (folder / "workload.yaml").write_text(yaml.safe_dump(WORKLOAD | workload))
    scenario = {
        "scenario": "bench",
        "workload": "workload.yaml",
        "traffic": traffic,
        "pools": {"gpus": {"model": MODEL, "price_usd_per_hour": 6.88}},
    }
    (folder / "scenario.yaml").write_text(yaml.safe_dump(scenario))
    return load(folder / "scenario.yaml")


def timed(case_: Case, trace: RequestTrace) -> tuple[float, SimulationRun]:
    """Return the best time of `REPEATS` runs, and the last run."""
    best = float("inf")
    for _ in range(REPEATS):
        start_s = stopwatch_s()
        run = running.simulate(case_, 1, trace)
        best = min(best, stopwatch_s() - start_s)
    return best, run


def run(data: Path) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        day = case(folder, {"kind": "poisson", "rps": 10.0, "duration_s": DAY_S}, min_replicas=20)
        trace = running.traffic_of(day, 1)
        running.simulate(day, 1, trace.window(0, 600))  # compiles
        best_s, run_ = timed(day, trace)
        ticks = len(run_.timeline.at_s)
        note = f"{len(trace):,} requests, 20 replicas, {ticks:,} ticks"
        yield Figure("simulate", "a day of 10 requests/s", best_s, "s", 5.0, note=note)
        yield Figure(
            "simulate", "requests with scrapes and ticks", len(trace) / best_s, "1/s", 200_000, ">=", note=note
        )
        yield _tick(folder)
        conversation = data / "requests" / "azure2023_conv.csv.gz"
        if conversation.exists():
            yield from _conversation(folder, conversation)
        fortnight = data / "requests" / "servegen_m-small_14d.csv.gz"
        if fortnight.exists():
            yield from _fortnight(folder, fortnight)
    yield _memory()


def _conversation(folder: Path, file: Path) -> Iterator[Figure]:
    """Yield the rate on the Azure conversation trace at 20 times its speed, repeated for an hour."""
    case_ = case(folder, {"kind": "trace", "file": str(file.resolve()), "speed": 20.0, "repeat": True}, min_replicas=16)
    scenario = dataclasses.replace(case_.scenario, duration_s=3600.0)
    case_ = dataclasses.replace(case_, scenario=scenario)
    trace = running.traffic_of(case_, 1)
    best_s, _ = timed(case_, trace)
    note = f"{len(trace):,} requests, Azure conversation at 20x, at least 16 replicas"
    yield Figure("simulate", "requests with scrapes and ticks", len(trace) / best_s, "1/s", 200_000, ">=", note=note)


def _tick(folder: Path) -> Figure:
    """Return the time of a simulated tick on a day with few requests, without the kernel's part."""
    case_ = case(folder, {"kind": "poisson", "rps": 1.0, "duration_s": DAY_S})
    trace = running.traffic_of(case_, 1)
    best_s, run_ = timed(case_, trace)
    ticks = len(run_.timeline.at_s)
    value = (best_s - _kernel_s(case_, trace, run_)) / ticks * 1e6
    note = f"{ticks:,} ticks, 1 request/s"
    return Figure("simulate", "time of a simulated tick, without its requests", value, "us", 130.0, note=note)


def _kernel_s(case_: Case, trace: RequestTrace, run_: SimulationRun) -> float:
    """Return the time of the kernel with the first replicas alone: about its part of a run."""
    world = running.build_world(case_, 1, trace)
    start_s = stopwatch_s()
    world.kernel.advance(run_.world.now_ps)
    return stopwatch_s() - start_s


def _fortnight(folder: Path, file: Path) -> Iterator[Figure]:
    case_ = case(folder, {"kind": "trace", "file": str(file.resolve())})
    trace = running.traffic_of(case_, 1)
    best_s, run_ = timed(case_, trace)
    ticks = len(run_.timeline.at_s)
    kernel = _kernel_s(case_, trace, run_)
    note = f"{len(trace):,} requests, {ticks:,} ticks"
    yield Figure("simulate", "fourteen days of ServeGen", best_s, "s", 20.0, note=note)
    yield Figure(
        "simulate", "time of a simulated tick, including its requests", best_s / ticks * 1e6, "us", 200.0, note=note
    )
    yield Figure("simulate", "of which in the kernel", kernel / ticks * 1e6, "us", note=note)


def _memory() -> Figure:
    """Return the peak memory of a process that simulates ten million requests."""
    command = [sys.executable, "-m", "tests.benchmarks.simulate"]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    peak_mb, count = (float(number) for number in output.split())
    return Figure("simulate", "peak memory", peak_mb, "MB", 1500.0, note=f"{count:,.0f} requests in one run")


def main() -> None:
    """Simulate ten million requests and print the peak memory."""
    with tempfile.TemporaryDirectory() as name:
        rps = LARGE / DAY_S
        case_ = case(Path(name), {"kind": "poisson", "rps": rps, "duration_s": DAY_S}, min_replicas=16)
        trace = running.traffic_of(case_, 1)
        run_ = running.simulate(case_, 1, trace)
        count = int(run_.world.kernel.requests.has_arrived.sum())
        assert count == len(trace)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, count)


if __name__ == "__main__":
    main()
