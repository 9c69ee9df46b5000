"""A bell that brings a workload's next turn forward."""

from __future__ import annotations

import asyncio
from typing import Final

GATHER_S: Final = 0.25
"""Notices come in bunches, as a zone's capacity goes at once: the first one waits so long for the others."""


class Wakeup:
    """Rung by adapters, heard by the workload's controller between two turns."""

    def __init__(self) -> None:
        self._rung = asyncio.Event()

    def request(self) -> None:
        """Ask for a turn at once. Rung during a turn, the next follows it."""
        self._rung.set()

    async def wait(self) -> None:
        """Return soon after it was rung."""
        await self._rung.wait()
        await asyncio.sleep(GATHER_S)
        self._rung.clear()
