"""What the compiled kernel does on one core, what it costs to start, and what others do with the same load.

The load is the Azure conversation trace at 20 times its speed over 16 replicas, end to end as often as needed. Times
are processor time, the best of five. Peers get the first requests of the same load, and the same constants.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from simulators.kernel import layout
from simulators.kernel.kernel import Kernel
from simulators.models.service import PS_PER_S, ServiceModel
from tests.benchmarks.figure import Figure
from tests.benchmarks.peers import ciw_queue, reference_engine, simpy_engine
from tests.benchmarks.peers.outcome import Outcome, outcome_of, processor_s
from tests.benchmarks.traffic import Load, conversations, kernel_of, load_of
from tests.simulators.kernel.queues import MEAN_STEPS, engine, erlang_c, poisson, rng, serve, sizes, waits
from tests.simulators.kernel.test_theory_limits import ROOFLINE
from tests.simulators.kernel.worlds import VLLM

REPLICAS: Final = 16
SPEED: Final = 20.0
REQUESTS: Final = 400_000
REPEATS: Final = 5
LARGE: Final = 10_000_000
LEAST_RPS: Final = 2_000_000
MOST_MB: Final = 1536
SERVERS: Final = 10
UTILIZATION: Final = 0.8
START: Final = """
import numpy as np
from simulators.kernel.kernel import Kernel, Router
from simulators.kernel.layout import NEVER
from simulators.models.service import ServiceModel
times = dict(mem_base_s=0, cmp_base_s=1e-3, cmp_token_s=0, kv_decode_s=0, kv_mixed_s=0, attn_pair_s=0)
k = Kernel([ServiceModel(name="start", kv_tokens=1000, **times)], Router(), 0, 1)
k.start(k.add(0, 0))
k.offer(np.array([0]), np.array([1], np.int32), np.array([1], np.int32))
k.advance(NEVER)
k.read()
"""
MEMORY: Final = """
from pathlib import Path
from tests.benchmarks.kernel import LARGE, REPLICAS, SPEED, VLLM
from tests.benchmarks.traffic import conversations, kernel_of, load_of
from simulators.kernel.layout import NEVER
kernel_of(VLLM, REPLICAS, load_of(conversations(Path({data!r}), SPEED), LARGE)).advance(NEVER)
"""


@dataclass(frozen=True, slots=True)
class Child:
    """A process that has ended: processor time, and the most memory it held."""

    taken_s: float
    memory_mb: float


def run(data: Path) -> Iterator[Figure]:
    fast = conversations(data, SPEED)
    yield from starts()
    load = load_of(fast, REQUESTS)
    kernel_of(VLLM, 1, load_of(fast, 1)).advance(layout.NEVER)  # compiles, or reads from the cache
    yield from speed("vLLM, pipelined, 16 replicas", VLLM, REPLICAS, load, LEAST_RPS)
    yield from speed("roofline, 16 replicas", ROOFLINE, REPLICAS, load, LEAST_RPS)
    yield from speed("vLLM, pipelined, 1 replica", VLLM, 1, load_of(conversations(data, 1.0), REQUESTS), LEAST_RPS)
    memory = child(MEMORY.format(data=str(data))).memory_mb
    yield Figure("kernel", f"memory at {LARGE:.0e} requests", memory, "MB", MOST_MB, note="every time of each kept")
    for name, requests, peer in (
        ("SimPy, iteration level", 4000, simpy_engine.run),
        ("reference.py, plain Python", 1000, reference_engine.run),
    ):
        yield beside(name, peer(ROOFLINE, REPLICAS, load_of(fast, requests)), load_of(fast, requests), load)
    yield queue()


def starts() -> Iterator[Figure]:
    """From a new process to the first event handled, with an empty cache and with a full one."""
    with tempfile.TemporaryDirectory() as cache:
        for name, goal in (("first start: import and compile", 5.0), ("later start: import and read the cache", 1.0)):
            yield Figure("kernel", name, child(START, XDG_CACHE_HOME=cache).taken_s, "s", goal)


def child(code: str, **environment: str) -> Child:
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **environment})
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the measured process ended with {process.returncode}; its error stands above")
    return Child(used.ru_utime + used.ru_stime, used.ru_maxrss / 1024)


def once(model: ServiceModel, replicas: int, load: Load) -> tuple[float, Kernel]:
    k = kernel_of(model, replicas, load)
    began = processor_s()
    k.advance(layout.NEVER)
    return processor_s() - began, k


def speed(name: str, model: ServiceModel, replicas: int, load: Load, goal: float) -> Iterator[Figure]:
    runs = [once(model, replicas, load) for _ in range(REPEATS)]
    taken_s, k = min(runs, key=lambda r: r[0])
    events = int(k.world[layout.EVENTS])
    note = f"{len(load)} requests, {events / len(load):.2f} events each, {taken_s / events * 1e9:.0f} ns an event"
    yield Figure("kernel", name, len(load) / taken_s, "requests/s", goal, ">=", note=note)


def outcome(taken_s: float, k: Kernel) -> Outcome:
    seconds = k.times / PS_PER_S
    return outcome_of(taken_s, [(row[0], row[layout.FIRST], row[layout.FINISH]) for row in seconds.tolist()])


def beside(name: str, peer: Outcome, few: Load, many: Load) -> Figure:
    """The kernel's rate on the whole load beside a peer's on its beginning; both on the roofline model."""
    taken_s, _ = min((once(ROOFLINE, REPLICAS, many) for _ in range(REPEATS)), key=lambda r: r[0])
    same = outcome(*once(ROOFLINE, REPLICAS, few))
    note = f"peer: {peer.requests} requests; mean TTFT and e2e agree within {100 * peer.off(same):.2g} %"
    return Figure("kernel", f"beside {name}", len(many) / taken_s, "requests/s", None, ">=", name, peer.rate, note)


def queue() -> Figure:
    """M/M/10, which Ciw can express: customers a second of both, and their mean waits beside Erlang's."""
    theirs = ciw_queue.run(SERVERS, UTILIZATION, 30_000)
    chance = rng(1)
    arrival = poisson(chance, REQUESTS, SERVERS * UTILIZATION / MEAN_STEPS)
    size = sizes(chance, "geometric", REQUESTS)
    began = processor_s()
    k = serve(engine(), arrival, size, replicas=SERVERS, limit=1)
    taken_s = processor_s() - began
    expected = erlang_c(SERVERS, SERVERS * UTILIZATION) / (SERVERS * (1 - UTILIZATION))
    found = float(np.mean(waits(k))) / MEAN_STEPS
    note = f"M/M/10: waits {found:.3f} and {theirs.wait:.3f} of a service, Erlang C {expected:.3f}; Ciw has no batching"
    rate = theirs.customers / theirs.taken_s
    return Figure("kernel", "beside Ciw", REQUESTS / taken_s, "customers/s", None, ">=", "Ciw", rate, note)
