"""A server that stops when it is empty and starts again for the next customer, against theory.

M/M/1 with set-up: a customer who finds no server starts one, which takes D, and those who arrive meanwhile also wait.
The wait decomposes (Doshi 1985; Welch 1964): ``E[W] = rho / (mu (1 - rho)) + (2 E[D] + lam E[D^2]) / (2 (1 +
lam E[D]))``. The driver below is the set-up policy. Replicas are the kernel's own, started and drained as a pool does.
"""

from __future__ import annotations

import numpy as np
import pytest

from simulators.engine.kernel.event_loop import Kernel, Router
from simulators.engine.kernel.layout import NEVER
from simulators.engine.tables import RequestMoment
from tests.simulators.engine.kernel.queues import (
    MEAN_STEPS,
    SECOND_MOMENT,
    STEP_PS,
    Ints,
    batch_means,
    engine,
    new_rng,
    poisson,
    pollaczek_khinchine,
    sizes,
    waits,
)

pytestmark = pytest.mark.slow

CUSTOMERS = 100_000


def set_up_steps(rng: np.random.Generator, kind: str, mean_steps: int, n: int) -> Ints:
    """Return set-up times in steps."""
    if kind == "constant":
        return np.full(n, mean_steps)
    return np.rint(rng.exponential(mean_steps, n)).astype(np.int64)


def with_set_up(arrival_ps: Ints, output: Ints, set_up_ps: Ints) -> tuple[Kernel, int]:
    """Serve customers at a server that stops when it is empty. Return the kernel and the number of set-ups.

    The first arrival after a stop starts the next set-up. The server stops when its last customer leaves: a check at
    each arrival is enough, because nothing happens in between.
    """
    k = Kernel([engine()], Router(limit=1), 0, len(output))
    k.offer(arrival_ps, np.ones(len(output), np.int32), output.astype(np.int32))
    starts, begin = 0, 0
    finish = k.requests.finished_ps
    while begin < len(arrival_ps):
        ready_ps = int(arrival_ps[begin] + set_up_ps[starts])
        k.advance(ready_ps)
        replica = k.add(0, starts)
        k.start(replica)
        starts += 1
        served = begin
        while True:  # until the first arrival at an empty server
            served += 1
            if served == len(arrival_ps):
                k.advance(NEVER)
                return k, starts
            k.advance(max(k.now_ps, int(arrival_ps[served])))
            if 0 <= finish[served - 1] < arrival_ps[served]:
                break
        k.drain(replica)
        assert k.emptied_ps(replica) >= 0
        begin = served
    return k, starts


@pytest.mark.parametrize("kind", ["constant", "exponential"])
@pytest.mark.parametrize(("rho", "mean_steps"), [(0.5, 3 * MEAN_STEPS), (0.7, 10 * MEAN_STEPS), (0.3, 500)])
def test_mean_wait_matches_the_theory_of_a_queue_with_set_up(kind: str, rho: float, mean_steps: int) -> None:
    rng = new_rng(7)
    rate = rho / MEAN_STEPS
    arrival = poisson(rng, CUSTOMERS, rate)
    output = sizes(rng, "geometric", CUSTOMERS)
    set_up = set_up_steps(rng, kind, mean_steps, CUSTOMERS)
    k, starts = with_set_up(arrival, output, set_up * STEP_PS)
    second = mean_steps**2 * (1 if kind == "constant" else 2)
    queueing = pollaczek_khinchine(rho, SECOND_MOMENT["geometric"])
    setting_up = (2 * mean_steps + rate * second) / (2 * (1 + rate * mean_steps))
    assert batch_means(waits(k)).agrees(queueing + setting_up, 0.02)
    # 1 + lam E[D] customers are present when a cycle's service begins, and each stands for 1 / (1 - rho) customers
    cycles = CUSTOMERS * (1 - rho) / (1 + rate * mean_steps)
    assert starts == pytest.approx(cycles, rel=0.05)


def test_a_set_up_time_of_zero_equals_the_plain_queue() -> None:
    rng, rho = new_rng(3), 0.6
    arrival = poisson(rng, CUSTOMERS, rho / MEAN_STEPS)
    output = sizes(rng, "geometric", CUSTOMERS)
    k, _ = with_set_up(arrival, output, np.zeros(CUSTOMERS, np.int64))
    walk = np.concatenate(([0], np.cumsum(output[:-1] * STEP_PS - np.diff(arrival))))
    lindley = walk - np.minimum.accumulate(walk)  # Lindley 1952
    assert (k.requests.at_ps(RequestMoment.ADMITTED) - arrival).tolist() == lindley.tolist()
