"""The Azure conversation trace (2023) as the kernel's benchmark uses it: sped up, and repeated end to end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from simulators.engine.kernel.event_loop import Kernel, Router
from simulators.engine.models.service import PS_PER_S, ServiceModel
from simulators.world.traffic.readers import read
from simulators.world.traffic.trace import RequestTrace

LEAST_LOADED: Final = Router()
FILE: Final = "requests/azure2023_conv.csv.gz"


@dataclass(frozen=True, slots=True)
class Load:
    """Requests in the kernel's input format."""

    arrival_ps: NDArray[np.int64]
    prompt: NDArray[np.int32]
    output: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.arrival_ps)


def conversations(data: Path, speed: float) -> RequestTrace:
    return read(data / FILE).speed(speed)


def load_of(trace: RequestTrace, requests: int) -> Load:
    """Return the first requests of a trace that repeats a mean gap after its last arrival."""
    times = -(-requests // len(trace))
    arrival_ps = np.rint(trace.arrival_s * PS_PER_S).astype(np.int64)
    period = round(trace.duration_s * (1 + 1 / len(trace)) * PS_PER_S)
    starts = np.repeat(np.arange(times, dtype=np.int64) * period, len(trace))
    prompt, output = (np.tile(c.astype(np.int32), times) for c in (trace.prompt_tokens, trace.output_tokens))
    return Load((np.tile(arrival_ps, times) + starts)[:requests], prompt[:requests], output[:requests])


def kernel_of(model: ServiceModel, replicas: int, load: Load, router: Router = LEAST_LOADED) -> Kernel:
    """Return a kernel with equal replicas and the requests of the load."""
    k = Kernel([model], router, 0, len(load))
    for key in range(replicas):
        k.start(k.add(0, key))
    k.offer(load.arrival_ps, load.prompt, load.output)
    return k
