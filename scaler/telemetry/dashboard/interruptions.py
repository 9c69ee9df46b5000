"""Interruptions of a workload's pools in the last day."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from policies.model import Fresh, PoolName, Tick

DAY_S: Final = 86_400.0
RECENT_S: Final = 600.0
"""Time after an interruption in which the workload is shown as interrupted. Seconds."""
MAX_STORED: Final = 256
"""Maximum number of interruptions stored per workload: one every six minutes for a day."""


def new_interruptions(tick: Tick, counters: dict[PoolName, int]) -> Iterator[tuple[PoolName, int]]:
    """Yield each pool with interruptions since its last reading, and update its counter.

    A counter that fell has restarted at 0: 7, then 2 are 2 interruptions.
    """
    for pool, reading in tick.observation.pools.items():
        if isinstance(reading, Fresh):
            counter = reading.value.interrupted
            before = counters.get(pool, counter)
            counters[pool] = counter
            if interrupted := counter - before if counter >= before else counter:
                yield pool, interrupted


class Interruptions:
    """Times and sizes of the last interruptions, by the pools' counters."""

    __slots__ = ("_at", "_counters", "_stored", "since")

    def __init__(self) -> None:
        self.since: float | None = None
        """Time of the first tick. No interruption before it is known."""
        self._at = 0.0
        self._counters: dict[PoolName, int] = {}
        self._stored: list[tuple[float, PoolName, int]] = []

    def add(self, tick: Tick) -> None:
        """Add the interruptions since the last tick."""
        if tick.clock_step_s and self.since is not None:
            self.since += tick.clock_step_s
            self._stored = [(at + tick.clock_step_s, p, n) for at, p, n in self._stored]
        self.since = tick.at if self.since is None else self.since
        self._at = tick.at
        self._stored += ((tick.at, pool, n) for pool, n in new_interruptions(tick, self._counters))
        del self._stored[:-MAX_STORED]

    def count(self, pool: PoolName | None = None, within_s: float = DAY_S) -> int:
        """Return the replicas that were interrupted within the time, in one pool or in all."""
        return sum(n for at, p, n in self._stored if at > self._at - within_s and pool in {None, p})
