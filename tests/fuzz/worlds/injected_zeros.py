"""Which sources told a turn 0 of work that was there: known from the weather's own chance, drawn a second time.

The invariants see a tick as the daemon does, and a lie looks like an idle service there. The streams of chance are
named, so that who knows the seed knows what struck each call, without a look into the run.
"""

from __future__ import annotations

from typing import Final

import numpy as np

from policies.model import Tick
from scaler.registry import kind_of
from simulators.experiments.scenario import Case
from simulators.world.faults import ERRORS, FaultInjector
from simulators.world.ports import QUEUES
from simulators.world.rng import stream

WAITING: Final = "waiting, as it asked us to"
"""What the controller says of a source that it did not call."""


class TurnClock:
    """The time of the turn being judged: a simulated turn takes none."""

    def __init__(self) -> None:
        self.at = 0.0

    def now(self) -> float:
        return self.at

    async def sleep_until(self, t: float) -> None:
        self.at = t

    def step_s(self) -> float:
        return 0.0


class Lies:
    """What lied in each turn of a run, asked turn by turn from the first on."""

    def __init__(self, case: Case, seed: int) -> None:
        s = case.scenario
        self._clock = TurnClock()
        striking = [w for w in s.weather if w.where in {"sources", "both"}]
        sources = case.workload.spec.sources
        self._skies = {
            name: FaultInjector(striking, self._clock, s.epoch_s, stream(seed, "weather sources", name))
            for name in sources
        }
        throttles = s.queue is not None and s.queue.service == "service_bus"
        self._throttled = s.queue.throttled_share if s.queue is not None and throttles else None
        self._queues = [name for name, source in sources.items() if kind_of("source", source) in QUEUES]
        self._queue_chance: np.random.Generator = stream(seed, "telemetry", "queue")

    def told(self, tick: Tick) -> frozenset[str]:
        """The sources that said 0 where they were made to."""
        self._clock.at = tick.at
        return frozenset(name for name in self._skies if self._lied(name, tick))

    def _lied(self, name: str, tick: Tick) -> bool:
        if tick.observation.source_errors.get(name) == WAITING:
            return False
        fault = self._skies[name].fault()
        failed = fault == "hang" or fault in ERRORS
        if failed != (name in tick.observation.source_errors):
            raise AssertionError(f"{name} was struck by {fault}, and the tick says {tick.observation.source_errors}")
        lied = fault == "zero"
        if not failed and name in self._queues and self._throttled is not None:
            lied |= float(self._queue_chance.random()) < self._throttled
        return lied
