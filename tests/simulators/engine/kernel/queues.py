"""Classical queues run by the kernel, and the formulas of queueing theory for them.

A customer is a request with a prompt of one token; its service is its output tokens, one step each. Where every step
takes the same time, a replica with `max_seqs` c is a queue with c servers. Where a step takes time per token and every
request fits, it is processor sharing. Rates and times below are in steps (of `STEP_PS`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from simulators.engine.kernel import layout
from simulators.engine.kernel.event_loop import Kernel, Router
from simulators.engine.models.service import PS_PER_S, ServiceModel

Ints = NDArray[np.int64]
STEP_PS: Final = 10**9
MEAN_STEPS: Final = 1000
"""Mean service time in steps: a wait for the end of a step is at most a thousandth of it."""
BATCHES: Final = 30
STUDENT_T: Final = 2.045
"""The 97.5 % quantile of Student's t with 29 degrees of freedom."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A mean and half the width of its 95 % confidence interval."""

    mean: float
    half: float

    def agrees(self, truth: float, within: float) -> bool:
        """Return whether the interval covers the truth, and the mean is off by at most the share `within` of it."""
        return abs(self.mean - truth) <= min(self.half, within * truth)


def batch_means(values: NDArray[Any]) -> Estimate:
    """Return the mean of a correlated sequence and its batch-means interval. The first of 31 batches is warm-up."""
    size = len(values) // (BATCHES + 1)
    means = values[-BATCHES * size :].reshape(BATCHES, size).mean(axis=1)
    return Estimate(float(means.mean()), STUDENT_T * float(means.std(ddof=1)) / math.sqrt(BATCHES))


def new_rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(seed))


def engine(**change: Any) -> ServiceModel:
    """Return a synchronous engine whose step takes `STEP_PS`, with KV cache for every request."""
    plain: dict[str, Any] = {
        "name": "queue",
        **dict.fromkeys(("mem_base_s", "cmp_token_s", "kv_decode_s", "kv_mixed_s", "attn_pair_s"), 0.0),
        "cmp_base_s": STEP_PS / PS_PER_S,
        "kv_tokens": 1_000_000_000,
        "max_step_tokens": 1_000_000,
        "max_seqs": 1,
    }
    return ServiceModel(**plain | change)


def sharing(**change: Any) -> ServiceModel:
    """Return a processor-sharing engine: a step takes `STEP_PS` for each token in it."""
    return engine(**{"cmp_base_s": 0.0, "cmp_token_s": STEP_PS / PS_PER_S, "max_seqs": 8192} | change)


def poisson(rng: np.random.Generator, n: int, rate: float) -> Ints:
    """Return arrivals of a Poisson process with `rate` per step, in picoseconds."""
    gaps: Ints = np.rint(rng.exponential(STEP_PS / rate, n)).astype(np.int64)
    return np.cumsum(gaps)


def sizes(rng: np.random.Generator, kind: str, n: int) -> Ints:
    """Return service times in steps, mean `MEAN_STEPS`: geometric (discrete exponential), constant or two-point."""
    if kind == "geometric":
        return rng.geometric(1 / MEAN_STEPS, n)
    if kind == "constant":
        return np.full(n, MEAN_STEPS)
    return np.where(rng.random(n) < 0.9, MEAN_STEPS // 2, MEAN_STEPS * 11 // 2)


SECOND_MOMENT: Final = {
    "geometric": (2 - 1 / MEAN_STEPS) * MEAN_STEPS**2,
    "constant": float(MEAN_STEPS**2),
    "two_point": 0.9 * (MEAN_STEPS // 2) ** 2 + 0.1 * (MEAN_STEPS * 11 // 2) ** 2,
}
"""E[S^2] of each kind of size, exact."""


def serve(model: ServiceModel, arrival_ps: Ints, output: Ints, *, replicas: int = 1, **router: Any) -> Kernel:
    """Return the kernel after it has served the customers on equal replicas."""
    k = world(model, arrival_ps, output, replicas=replicas, **router)
    k.advance(layout.NEVER)
    return k


def world(model: ServiceModel, arrival_ps: Ints, output: Ints, *, replicas: int = 1, **router: Any) -> Kernel:
    """Return the kernel of `serve` before it runs."""
    k = Kernel([model], Router(**router), 0, len(output))
    for _ in range(replicas):
        k.start(k.add(0, 0))
    k.offer(arrival_ps, np.ones(len(output), np.int32), output.astype(np.int32))
    return k


def column(k: Kernel, field: int) -> Ints:
    times: Ints = k.times[:, field]
    return times


def waits(k: Kernel) -> NDArray[np.float64]:
    """Return the times from arrival to service, in steps."""
    return (column(k, layout.ADMIT) - column(k, layout.ARRIVAL)) / STEP_PS


def sojourns(k: Kernel) -> NDArray[np.float64]:
    """Return the times from arrival to departure, in steps."""
    return (column(k, layout.FINISH) - column(k, layout.ARRIVAL)) / STEP_PS


def pollaczek_khinchine(rho: float, second_moment: float) -> float:
    """Return the mean wait of M/G/1 in steps (Pollaczek 1930, Khinchine 1932)."""
    return rho / MEAN_STEPS * second_moment / (2 * (1 - rho))


def erlang_b(servers: int, offered: float) -> float:
    """Return the share of customers lost by M/G/c/c (Erlang 1917)."""
    lost = 1.0
    for c in range(1, servers + 1):
        lost = offered * lost / (c + offered * lost)
    return lost


def erlang_c(servers: int, offered: float) -> float:
    """Return the share of customers that wait in M/M/c (Erlang 1917)."""
    lost = erlang_b(servers, offered)
    return lost / (1 - offered / servers * (1 - lost))


def loss_share(servers: int, places: int, offered: float) -> float:
    """Return the share of customers lost by M/M/c/K with K - c = `places` waiting places."""
    weights = [math.prod(offered / min(j, servers) for j in range(1, n + 1)) for n in range(servers + places + 1)]
    return weights[-1] / math.fsum(weights)
