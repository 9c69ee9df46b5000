"""An event that starts a workload's next tick early."""

from __future__ import annotations

import asyncio
from typing import Final

GATHER_S: Final = 0.25
"""Delay from the first request to the tick, to collect further ones: a zone's interruptions come together. Seconds."""


class Wakeup:
    """An event that adapters set and the workload's controller awaits between two ticks."""

    def __init__(self) -> None:
        self._requested = asyncio.Event()

    def request(self) -> None:
        """Request a tick at once, or right after the running one."""
        self._requested.set()

    async def wait(self) -> None:
        """Return `GATHER_S` after the first request."""
        await self._requested.wait()
        await asyncio.sleep(GATHER_S)
        self._requested.clear()
