"""Chat traffic for a few equal replicas, and a pure roofline engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from simulators.engine.kernel import layout
from simulators.engine.kernel.event_loop import Kernel, Router
from simulators.engine.models.service import PS_PER_S, ServiceModel
from tests.simulators.engine.kernel.queues import new_rng
from tests.simulators.engine.kernel.worlds import VLLM

HOST_TIMES = ("host_decode_s", "host_graph_s", "host_eager_s", "host_seq_s", "front_base_s", "front_seq_s")
NO_HOST: dict[str, Any] = dict.fromkeys(HOST_TIMES, 0.0)
ROOFLINE = replace(VLLM, pipelined=False, graph_tokens=0, **NO_HOST)
"""GPU time only: a step takes the longer of memory and compute time, plus attention."""


def chat(m: ServiceModel, n: int, rate_rps: float, replicas: int) -> Kernel:
    """Serve chat traffic (log-normal lengths as in the Azure conversation trace) on equal replicas."""
    rng = new_rng(1)
    arrival = np.cumsum(np.rint(rng.exponential(PS_PER_S / rate_rps, n)).astype(np.int64))
    prompt, output = (
        np.rint(np.clip(rng.lognormal(mean, sigma, n), 1, 8000)).astype(np.int32)
        for mean, sigma in ((6.5, 1.1), (4.9, 0.8))
    )
    k = Kernel([m], Router(), 7, n)
    for key in range(replicas):
        k.start(k.add(0, key))
    k.offer(arrival, prompt, output)
    k.advance(layout.NEVER)
    return k
