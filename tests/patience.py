"""Waiting for what shall come soon, on a machine that may be busy."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from scaler.wakeup import Wakeup

PATIENCE_S = 240.0
"""Limit of every wait for what comes on a machine of any load; a longer one is a defect. Seconds."""
STEP_S = 0.01


@asynccontextmanager
async def patience(seconds: float) -> AsyncIterator[None]:
    """`asyncio.timeout` that counts steps of this process' event loop, not the wall's seconds.

    Where the machine stands still for ten seconds, ten seconds of the wall are one step, for what is waited for as for
    the waiter. Raises `TimeoutError`.
    """
    async with asyncio.timeout(None) as limit:

        async def count() -> None:
            for _ in range(round(seconds / STEP_S)):
                await asyncio.sleep(STEP_S)
            limit.reschedule(asyncio.get_running_loop().time())

        counting = asyncio.create_task(count())
        try:
            yield
        finally:
            counting.cancel()


async def requested(wakeup: Wakeup) -> None:
    """Wait until an adapter has requested a tick."""
    assert await wakeup.interrupts(asyncio.sleep(PATIENCE_S))
