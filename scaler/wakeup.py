"""A request that starts a workload's next tick early."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Final

GATHER_S: Final = 0.25
"""Delay from the first request to the tick, to collect further ones: a zone's interruptions come together. Seconds."""


class Wakeup:
    """Requests of adapters that end the sleep of the workload's controller between two ticks."""

    def __init__(self) -> None:
        self._requested = False
        self._sleep: asyncio.Timeout | None = None

    def request(self) -> None:
        """Request a tick at once, or right after the running one."""
        if self._sleep is not None and not self._requested:
            self._sleep.reschedule(asyncio.get_running_loop().time() + GATHER_S)
        self._requested = True

    async def interrupts(self, sleep: Awaitable[None]) -> bool:
        """Wait for `sleep`, at most until a request. Return whether a request ended it.

        It ends `GATHER_S` after the first request.
        """
        try:
            async with asyncio.timeout(GATHER_S if self._requested else None) as self._sleep:
                await sleep
        except TimeoutError:
            self._requested = False
            return True
        finally:
            self._sleep = None
        return False
