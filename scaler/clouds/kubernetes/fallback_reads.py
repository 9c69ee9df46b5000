"""Reads of single objects in place of a watch that has not confirmed them, a few at a time.

A daemon that is too slow to follow its watches would otherwise read each object of each workload alone, and these reads
would keep it slow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

from scaler.clock import stopwatch_s
from scaler.ports import Unavailable

T = TypeVar("T")
FALLBACK_READS: Final = 8
"""Maximum concurrent fallback reads of one cluster.

At 50 ms each, they are 160 a second: enough for 2,400 workloads at 15 s while a watch is broken.
"""
WAIT_SHARE: Final = 0.5
"""Maximum share of a read's time limit that it waits for other reads, so that it has time itself."""


class FallbackReads:
    """Limit of the fallback reads of one cluster. Reads wait in the order of the calls."""

    def __init__(self) -> None:
        self._free = asyncio.Semaphore(FALLBACK_READS)

    async def run(self, name: str, timeout_s: float, read: Callable[[float], Awaitable[T]]) -> T:
        """Return the result of `read`, which gets the rest of the time limit.

        Raises `Unavailable` for a read that finds no place in time.
        """
        began_s = stopwatch_s()
        try:
            async with asyncio.timeout(WAIT_SHARE * timeout_s):
                await self._free.acquire()
        except TimeoutError as e:
            problem = "the API server does not respond, or the daemon has too many workloads for its processor"
            raise Unavailable(
                f"the watch has not confirmed {name}, and {FALLBACK_READS} reads of single objects were in flight for"
                f" {WAIT_SHARE * timeout_s:.3g} s: {problem}"
            ) from e
        try:
            return await read(timeout_s - (stopwatch_s() - began_s))
        finally:
            self._free.release()
