"""The sources with injected zeros at each tick, from a second draw of the fault injector's random streams.

The invariants see a tick as the daemon does, where a false zero looks like an idle service. Random streams have names,
so the seed determines the fault of each call, without a look into the run.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from policies.model import Tick
from scaler.registry import kind_of
from simulators.experiments.scenario import Case
from simulators.world.faults import ERRORS, RNG_STREAM, FaultInjector
from simulators.world.ports import QUEUES
from simulators.world.rng import stream

WAITING: Final = "not read: the server requested a wait (Retry-After)"
"""The controller's error text for a source that it did not call."""


class TickClock:
    """The time of the tick being judged. A simulated tick takes no time."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at

    async def sleep_until(self, t: float) -> None:
        self.at = t

    def step_s(self) -> float:
        return 0.0


class InjectedZeros:
    """Sources with injected zeros. Call it once for each tick of a run, from the first on."""

    def __init__(self, case: Case, seed: int) -> None:
        scenario = case.scenario
        self._clock = TickClock()
        source_faults = [fault for fault in scenario.faults if fault.where in {"sources", "both"}]
        sources = case.workload.spec.sources
        rngs = {name: stream(seed, f"{RNG_STREAM} sources", name) for name in sources}
        self._injectors = {
            name: FaultInjector(source_faults, self._clock, scenario.epoch_s, rng) for name, rng in rngs.items()
        }
        throttles = scenario.queue is not None and scenario.queue.service == "service_bus"
        self._throttled = scenario.queue.throttled_share if scenario.queue is not None and throttles else None
        self._queues = [name for name, source in sources.items() if kind_of("source", source) in QUEUES]
        self._queue_rng: np.random.Generator = stream(seed, "telemetry", "queue")

    def sources(self, tick: Tick) -> frozenset[str]:
        """Return the sources that reported an injected 0 at a tick."""
        self._clock.at = tick.at
        return frozenset(name for name in self._injectors if self._is_injected(name, tick))

    def _is_injected(self, name: str, tick: Tick) -> bool:
        if tick.observation.source_errors.get(name) == WAITING:
            return False
        fault = self._injectors[name].fault()
        failed = fault == "hang" or fault in ERRORS
        if failed != (name in tick.observation.source_errors):
            raise AssertionError(f"{name} was struck by {fault}, and the tick says {tick.observation.source_errors}")
        is_injected = fault == "zero"
        if not failed and name in self._queues and self._throttled is not None:
            is_injected |= float(self._queue_rng.random()) < self._throttled
        return is_injected
