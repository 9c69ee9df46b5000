"""Shared resources are opened once, also if a caller is cancelled meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from scaler.shared_resources import Resources


class Resource:
    """Resource that opens on a signal, and counts its openings and closings."""

    def __init__(self) -> None:
        self.may_open = asyncio.Event()
        self.opening_count = 0
        self.closing_count = 0

    @asynccontextmanager
    async def opening(self) -> AsyncIterator[str]:
        self.opening_count += 1
        await self.may_open.wait()
        yield "open"
        self.closing_count += 1


async def test_concurrent_callers_open_and_close_a_resource_once() -> None:
    resource = Resource()
    async with Resources() as resources:
        callers = [asyncio.ensure_future(resources.shared("door", resource.opening)) for _ in range(5)]
        await asyncio.sleep(0)
        resource.may_open.set()
        assert await asyncio.gather(*callers) == ["open"] * 5
    assert (resource.opening_count, resource.closing_count) == (1, 1)


@pytest.mark.parametrize("who", [0, 1], ids=["the one that opens it", "one that waits"])
async def test_cancelled_caller_does_not_cancel_the_other_callers(who: int) -> None:
    resource = Resource()
    async with Resources() as resources:
        callers = [asyncio.ensure_future(resources.shared("door", resource.opening)) for _ in range(3)]
        await asyncio.sleep(0)
        cancelled = callers.pop(who)
        cancelled.cancel()
        await asyncio.wait([cancelled])
        resource.may_open.set()
        assert await asyncio.gather(*callers) == ["open"] * 2


async def test_next_caller_retries_a_resource_that_failed_to_open() -> None:
    resource = Resource()

    @asynccontextmanager
    async def failing() -> AsyncIterator[str]:
        raise OSError("jammed")
        yield "never"

    async with Resources() as resources:
        with pytest.raises(OSError, match="jammed"):
            await resources.shared("door", failing)
        resource.may_open.set()
        assert await resources.shared("door", resource.opening) == "open"
