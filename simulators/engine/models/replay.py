"""Simulation of a recorded run on one replica, and the errors of its times.

The errors are those against the recorded times.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulators.engine.kernel.event_loop import Kernel, Router
from simulators.engine.kernel.layout import ARRIVAL, FINISH, FIRST, NEVER
from simulators.engine.models.runs import EngineRun
from simulators.engine.models.service import PS_PER_S, ServiceModel

MEASURES: Final = ("ttft_p50", "ttft_p95", "tpot", "e2e", "throughput")
"""Median and 95th percentile of TTFT, mean TPOT, mean end-to-end time (seconds), output tokens per second."""
MIN_REQUESTS_FOR_P95: Final = 20
"""The 95th percentile of fewer requests is only their maximum."""
MAX_ROUNDS: Final = 64
"""Maximum rounds of a closed loop. It converges in as many rounds as a client has requests."""

Times = NDArray[np.float64]


def simulate(model: ServiceModel, run: EngineRun, key: int = 0) -> tuple[Times, Times, Times]:
    """Simulate the run on one replica.

    Return (arrival, TTFT, end-to-end time) of each request, in seconds.

    An open loop keeps its recorded arrivals. In a closed loop of n clients, the first n requests keep theirs, and each
    later one arrives one recorded think time after the end of an earlier one. With 2 clients that think 0.5 s, a
    request that ends at 3.0 s is followed by an arrival at 3.5 s.
    """
    arrival = np.rint(run.arrival_s * PS_PER_S).astype(np.int64)
    clients = run.clients()
    think = np.rint(run.think_s() * PS_PER_S).astype(np.int64)
    for _ in range(MAX_ROUNDS):
        times = _replay(model, run, arrival, key)
        updated = arrival.copy()
        if clients:
            updated[clients:] = np.sort(np.sort(times[:, FINISH])[: len(run) - clients] + think)
        if np.array_equal(updated, arrival):
            break
        arrival = updated
    seconds = (times[:, [ARRIVAL, FIRST, FINISH]] / PS_PER_S).T
    return seconds[0], seconds[1] - seconds[0], seconds[2] - seconds[0]


def measures(arrival_s: Times, ttft_s: Times, e2e_s: Times, output: NDArray[np.int32]) -> dict[str, float]:
    """Return the measures of a run, without those that its requests do not define."""
    values = {"ttft_p50": float(np.quantile(ttft_s, 0.5))}
    if len(ttft_s) >= MIN_REQUESTS_FOR_P95:
        values["ttft_p95"] = float(np.quantile(ttft_s, 0.95))
    decodes = output > 1
    if decodes.any():
        values["tpot"] = float(np.mean((e2e_s - ttft_s)[decodes] / (output[decodes] - 1)))
        values["e2e"] = float(np.mean(e2e_s))
        values["throughput"] = float(output.sum() / ((arrival_s + e2e_s).max() - arrival_s.min()))
    return values


def recorded(run: EngineRun) -> dict[str, float]:
    """Return the measures of the run as it was recorded."""
    return measures(run.arrival_s, run.ttft_s, run.e2e_s, run.output)


def log_errors(model: ServiceModel, run: EngineRun, keys: tuple[int, ...]) -> dict[str, float]:
    """Return log(simulated / recorded) of each measure.

    Simulated measures are means over the streams of `keys`.
    """
    real = recorded(run)
    simulated = [measures(*simulate(model, run, key), run.output) for key in keys]
    return {m: math.log(math.fsum(s[m] for s in simulated) / len(simulated) / real[m]) for m in real}


def errors(model: ServiceModel, runs: Mapping[str, EngineRun], keys: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Return the error of each measure of each run, as a share of the recorded value."""
    return {name: {m: math.expm1(v) for m, v in log_errors(model, run, keys).items()} for name, run in runs.items()}


def _replay(model: ServiceModel, run: EngineRun, arrival_ps: NDArray[np.int64], key: int) -> NDArray[np.int64]:
    """Return the kernel's times of each request for these arrivals.

    Raises `ValueError` for one that cannot fit.
    """
    kernel = Kernel([model], Router(), seed=0, slots=len(run))
    kernel.start(kernel.add(0, key))
    kernel.offer(arrival_ps, run.prompt, run.output)
    kernel.advance(NEVER)
    if (kernel.times[:, FINISH] < 0).any():
        worst = int(np.argmax(kernel.times[:, FINISH] < 0))
        raise ValueError(
            f"run {run.name}: a request of {run.prompt[worst]} + {run.output[worst]} tokens does not fit into"
            f" {model.name}'s KV cache of {model.kv_tokens} tokens; use a base model with the capacity of the engine"
        )
    return kernel.times.copy()
