"""Interruptions of a workload's pools in the last day."""

from __future__ import annotations

from collections import deque
from typing import Final

from policies.model import Fresh, PoolName, Tick

DAY_S: Final = 86_400.0
RECENT_S: Final = 600.0
"""Time after an interruption in which the workload is shown as interrupted. Seconds."""
MAX_STORED: Final = 256
"""Maximum number of interruptions stored per workload: one every six minutes for a day."""


class Interruptions:
    """Times and sizes of the last interruptions, by the pools' counters."""

    __slots__ = ("_at", "_counters", "_stored", "since")

    def __init__(self) -> None:
        self.since: float | None = None
        """Time of the first tick. No interruption before it is known."""
        self._at = 0.0
        self._counters: dict[PoolName, int] = {}
        self._stored: deque[tuple[float, PoolName, int]] = deque(maxlen=MAX_STORED)

    def add(self, tick: Tick) -> None:
        """Add the interruptions since the last tick. A counter that fell has restarted at 0."""
        if tick.clock_step_s and self.since is not None:
            self.since += tick.clock_step_s
            self._stored = deque(((at + tick.clock_step_s, p, n) for at, p, n in self._stored), MAX_STORED)
        self.since = tick.at if self.since is None else self.since
        self._at = tick.at
        for pool, reading in tick.observation.pools.items():
            if not isinstance(reading, Fresh):
                continue
            counter = reading.value.interrupted
            before = self._counters.get(pool, counter)
            interrupted = counter - before if counter >= before else counter
            if interrupted:
                self._stored.append((tick.at, pool, interrupted))
            self._counters[pool] = counter

    def count(self, pool: PoolName | None = None, within_s: float = DAY_S) -> int:
        """Return the replicas that were interrupted within the time, in one pool or in all."""
        return sum(n for at, p, n in self._stored if at > self._at - within_s and pool in {None, p})
