"""Throughput of the compiled kernel on one core, its start-up time, and other simulators with the same load.

The load is the Azure conversation trace at 20 times its speed over 16 replicas, repeated as often as needed. Times
are processor time, the best of five. Peers get the first requests of the same load and the same roofline of a step's
time; Vidur is among them if VIDUR_PYTHON names a Python that has it (`pip install vidur`).
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from simulators.engine.kernel.event_loop import Kernel, Router
from simulators.engine.kernel.layout import NEVER
from simulators.engine.models.service import PS_PER_S, ServiceModel
from tests.benchmarks.figure import Figure
from tests.benchmarks.peers import ciw_queue, reference_engine, simpy_engine, vidur_engine
from tests.benchmarks.peers.outcome import Outcome, outcome_of, processor_s
from tests.benchmarks.traffic import LEAST_LOADED, Load, conversations, kernel_of, load_of
from tests.simulators.engine.kernel.chats import ROOFLINE
from tests.simulators.engine.kernel.queues import MEAN_STEPS, engine, erlang_c, new_rng, poisson, serve, sizes, waits
from tests.simulators.engine.kernel.worlds import VLLM

REPLICAS: Final = 16
SPEED: Final = 20.0
REQUESTS: Final = 400_000
REPEATS: Final = 5
STARTS: Final = 3
LARGE: Final = 10_000_000
MIN_RPS: Final = 2_000_000
MAX_MB: Final = 1536
SERVERS: Final = 10
UTILIZATION: Final = 0.8
BARE: Final = replace(ROOFLINE, ingest_s=0.0)
"""The features of every iteration-level peer: chunked prefill in synchronous steps."""
PEERS: Final[tuple[tuple[str, int, Callable[[ServiceModel, int, Load], Outcome | None], Router], ...]] = (
    ("SimPy, iteration level", 4000, simpy_engine.run, LEAST_LOADED),
    ("Vidur 0.0.26 with our step time", 1000, vidur_engine.run, Router(kind="round_robin")),
    ("reference.py, plain Python", 1000, reference_engine.run, LEAST_LOADED),
)
"""Name, number of requests, run function, and router: Vidur's least-loaded router counts other requests than ours."""
START: Final = """
import numpy as np
from simulators.engine.kernel.event_loop import Kernel, Router
from simulators.engine.kernel.layout import NEVER
from simulators.engine.models.service import ServiceModel
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
from simulators.engine.kernel.layout import NEVER
kernel_of(VLLM, REPLICAS, load_of(conversations(Path({data!r}), SPEED), LARGE)).advance(NEVER)
"""


@dataclass(frozen=True, slots=True)
class Child:
    """A finished process: its processor time and peak memory."""

    time_s: float
    memory_mb: float


def run(data: Path) -> Iterator[Figure]:
    fast = conversations(data, SPEED)
    yield from starts()
    load = load_of(fast, REQUESTS)
    kernel_of(VLLM, 1, load_of(fast, 1)).advance(NEVER)  # compiles, or reads from the cache
    yield from speed("vLLM, pipelined, 16 replicas", VLLM, REPLICAS, load, MIN_RPS)
    yield from speed("roofline, 16 replicas", ROOFLINE, REPLICAS, load, MIN_RPS)
    yield from speed("vLLM, pipelined, 1 replica", VLLM, 1, load_of(conversations(data, 1.0), REQUESTS), MIN_RPS)
    memory = child(MEMORY.format(data=str(data))).memory_mb
    yield Figure(
        "kernel", f"memory at {LARGE:.0e} requests", memory, "MB", MAX_MB, note="with all times of every request"
    )
    for name, requests, peer, router in PEERS:
        peer_load = load_of(fast, requests)
        outcome_ = peer(BARE, REPLICAS, peer_load)
        if outcome_ is not None:
            yield compared_with(name, outcome_, outcome(*run_once(BARE, REPLICAS, peer_load, router)), load)
    yield queue()


def starts() -> Iterator[Figure]:
    """Yield the time from a new process to its first event, with an empty and with a full cache; the best of three."""
    first, later = [], []
    for _ in range(STARTS):
        with tempfile.TemporaryDirectory() as cache:
            first.append(child(START, XDG_CACHE_HOME=cache).time_s)
            later.append(child(START, XDG_CACHE_HOME=cache).time_s)
    yield Figure("kernel", "first start: import and compile", min(first), "s", 5.0)
    yield Figure("kernel", "later start: import and read the cache", min(later), "s", 1.0)


def child(code: str, **environment: str) -> Child:
    process = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, **environment})
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"the measured process ended with {process.returncode}; its error is above")
    return Child(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def run_once(model: ServiceModel, replicas: int, load: Load, router: Router = LEAST_LOADED) -> tuple[float, Kernel]:
    k = kernel_of(model, replicas, load, router)
    start_s = processor_s()
    k.advance(NEVER)
    return processor_s() - start_s, k


def speed(name: str, model: ServiceModel, replicas: int, load: Load, goal: float) -> Iterator[Figure]:
    runs = [run_once(model, replicas, load) for _ in range(REPEATS)]
    time_s, k = min(runs, key=lambda r: r[0])
    events = k.events
    note = (
        f"{len(load)} requests, {events / len(load):.2f} events per request, {time_s / events * 1e9:.0f} ns per event"
    )
    yield Figure("kernel", name, len(load) / time_s, "requests/s", goal, ">=", note=note)


def outcome(time_s: float, k: Kernel) -> Outcome:
    times_ps = (k.requests.arrived_ps, k.requests.first_token_ps, k.requests.finished_ps)
    seconds = np.column_stack(times_ps) / PS_PER_S
    return outcome_of(time_s, [(arrived, first, finished) for arrived, first, finished in seconds.tolist()])


def compared_with(name: str, peer: Outcome, kernel: Outcome, whole_load: Load) -> Figure:
    """Compare the kernel's rate on the whole load with a peer's on its first requests (ours on those: `kernel`)."""
    time_s = min(run_once(BARE, REPLICAS, whole_load)[0] for _ in range(REPEATS))
    note = f"peer: {peer.requests} requests; mean TTFT and e2e agree within {100 * peer.off(kernel):.2g} %"
    return Figure(
        "kernel",
        f"throughput compared with {name}",
        len(whole_load) / time_s,
        "requests/s",
        None,
        ">=",
        name,
        peer.rate,
        note,
    )


def queue() -> Figure:
    """Compare an M/M/10 queue with Ciw: customers per second, and the mean waits with Erlang C."""
    ciw = ciw_queue.run(SERVERS, UTILIZATION, 30_000)
    rng = new_rng(1)
    arrival = poisson(rng, REQUESTS, SERVERS * UTILIZATION / MEAN_STEPS)
    size = sizes(rng, "geometric", REQUESTS)
    start_s = processor_s()
    k = serve(engine(), arrival, size, replicas=SERVERS, limit=1)
    time_s = processor_s() - start_s
    expected = erlang_c(SERVERS, SERVERS * UTILIZATION) / (SERVERS * (1 - UTILIZATION))
    wait = float(np.mean(waits(k))) / MEAN_STEPS
    note = f"mean wait in service times: {wait:.3f}, Ciw {ciw.wait:.3f}, Erlang C {expected:.3f}; Ciw has no batching"
    rate = ciw.customers / ciw.time_s
    return Figure(
        "kernel", "throughput compared with Ciw", REQUESTS / time_s, "customers/s", None, ">=", "Ciw", rate, note
    )
