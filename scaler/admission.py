"""Admission of ticks: a daemon with more work than its core can do is late, not blind.

Without it, all due ticks run at the same time. Each then takes longer than the deadlines of its reads, and no decision
has its evidence. Measured with 6,000 workloads in four daemons on two cores, which can run 4,800: 5 % of the ticks
had full evidence without it, and 92 % with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from scaler.clock import stopwatch_s

BUSY_ROUND_S: Final = 0.02
"""Minimum length of a round of the event loop that counts as busy. Seconds.

A tick waits about 30 times for the loop, thus 0.6 s in all at this length: a quarter of the shortest usual deadline.
"""
MAX_BUSY_ROUNDS: Final = 10
"""Maximum number of busy rounds before a tick starts anyway: other work may keep the loop busy all the time."""


class TickAdmission:
    """Starts ticks one after the other, each after a round of the event loop that was not busy.

    Only work in this process delays them: a server that does not respond leaves the loop idle. Example: rounds of 3, 25
    and 12 ms start a tick after the first and the third.
    """

    def __init__(self, stopwatch: Callable[[], float] = stopwatch_s) -> None:
        self._stopwatch = stopwatch
        self._turn = asyncio.Lock()

    async def wait(self) -> None:
        """Wait until the next tick may start, in the order of the calls."""
        async with self._turn:
            for _ in range(MAX_BUSY_ROUNDS):
                began_s = self._stopwatch()
                await asyncio.sleep(0.0)
                if self._stopwatch() - began_s < BUSY_ROUND_S:
                    return
