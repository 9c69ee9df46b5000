"""One replica fed with a recorded run, and how far its times are from the recorded ones."""

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
"""TTFT's median and 95th percentile, mean TPOT, mean end-to-end time (seconds), output tokens a second."""
LEAST_FOR_P95: Final = 20
"""The 95th percentile of fewer requests is the worst of them, which says nothing."""
ROUNDS: Final = 64
"""A closed loop settles in as many rounds as a client has requests; after so many it is taken as it is."""

Times = NDArray[np.float64]


def simulate(model: ServiceModel, run: EngineRun, key: int = 0) -> tuple[Times, Times, Times]:
    """Return the run's requests on one replica: (arrival, TTFT, end-to-end time) of each, in seconds.

    An open loop keeps its recorded arrivals. In a closed loop of n clients the first n do, and each later request
    arrives as long after the end of an earlier one as it did when it was recorded.
    """
    arrival = np.rint(run.arrival_s * PS_PER_S).astype(np.int64)
    clients = run.clients()
    think = np.rint(run.think_s() * PS_PER_S).astype(np.int64)
    for _ in range(ROUNDS):
        times = _replay(model, run, arrival, key)
        following = arrival.copy()
        if clients:
            following[clients:] = np.sort(np.sort(times[:, FINISH])[: len(run) - clients] + think)
        if np.array_equal(following, arrival):
            break
        arrival = following
    seconds = (times[:, [ARRIVAL, FIRST, FINISH]] / PS_PER_S).T
    return seconds[0], seconds[1] - seconds[0], seconds[2] - seconds[0]


def measures(arrival_s: Times, ttft_s: Times, e2e_s: Times, output: NDArray[np.int32]) -> dict[str, float]:
    """Return the measures of a run; one that it does not contain is left out."""
    found = {"ttft_p50": float(np.quantile(ttft_s, 0.5))}
    if len(ttft_s) >= LEAST_FOR_P95:
        found["ttft_p95"] = float(np.quantile(ttft_s, 0.95))
    several = output > 1
    if several.any():
        found["tpot"] = float(np.mean((e2e_s - ttft_s)[several] / (output[several] - 1)))
        found["e2e"] = float(np.mean(e2e_s))
        found["throughput"] = float(output.sum() / ((arrival_s + e2e_s).max() - arrival_s.min()))
    return found


def recorded(run: EngineRun) -> dict[str, float]:
    """Return the measures of the run as it was recorded."""
    return measures(run.arrival_s, run.ttft_s, run.e2e_s, run.output)


def log_errors(model: ServiceModel, run: EngineRun, keys: tuple[int, ...]) -> dict[str, float]:
    """The logarithm of simulated over recorded for each measure, in the mean over the chances that `keys` give."""
    real = recorded(run)
    found = [measures(*simulate(model, run, key), run.output) for key in keys]
    return {m: math.log(math.fsum(f[m] for f in found) / len(found) / real[m]) for m in real}


def errors(model: ServiceModel, runs: Mapping[str, EngineRun], keys: tuple[int, ...]) -> dict[str, dict[str, float]]:
    """Return the error of each measure of each run, as a share of the recorded value."""
    return {name: {m: math.expm1(v) for m, v in log_errors(model, run, keys).items()} for name, run in runs.items()}


def _replay(model: ServiceModel, run: EngineRun, arrival_ps: NDArray[np.int64], key: int) -> NDArray[np.int64]:
    """The kernel's times of each request, the recorded arrivals given. Raises `ValueError` for one that cannot fit."""
    kernel = Kernel([model], Router(), seed=0, slots=len(run))
    kernel.start(kernel.add(0, key))
    kernel.offer(arrival_ps, run.prompt, run.output)
    kernel.advance(NEVER)
    if (kernel.times[:, FINISH] < 0).any():
        worst = int(np.argmax(kernel.times[:, FINISH] < 0))
        raise ValueError(
            f"run {run.name}: a request of {run.prompt[worst]} + {run.output[worst]} tokens does not fit into"
            f" {model.name}'s KV cache of {model.kv_tokens} tokens; use a base model with the engine's capacity"
        )
    return kernel.times.copy()
