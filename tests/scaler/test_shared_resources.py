"""What adapters share is opened once, whoever gives up while it opens."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from scaler.shared_resources import Resources


class Door:
    """Opens when told to; counts how often it was tried, and how often it was shut."""

    def __init__(self) -> None:
        self.free = asyncio.Event()
        self.tried = 0
        self.shut = 0

    @asynccontextmanager
    async def opening(self) -> AsyncIterator[str]:
        self.tried += 1
        await self.free.wait()
        yield "open"
        self.shut += 1


async def test_many_callers_at_once_open_it_once_and_it_is_shut_once() -> None:
    door = Door()
    async with Resources() as resources:
        callers = [asyncio.ensure_future(resources.shared("door", door.opening)) for _ in range(5)]
        await asyncio.sleep(0)
        door.free.set()
        assert await asyncio.gather(*callers) == ["open"] * 5
    assert (door.tried, door.shut) == (1, 1)


@pytest.mark.parametrize("who", [0, 1], ids=["the one that opens it", "one that waits"])
async def test_a_caller_that_gives_up_takes_nobody_with_it(who: int) -> None:
    door = Door()
    async with Resources() as resources:
        callers = [asyncio.ensure_future(resources.shared("door", door.opening)) for _ in range(3)]
        await asyncio.sleep(0)
        given_up = callers.pop(who)
        given_up.cancel()
        await asyncio.wait([given_up])
        door.free.set()
        assert await asyncio.gather(*callers) == ["open"] * 2


async def test_what_failed_to_open_is_tried_again_by_the_next_caller() -> None:
    door = Door()

    @asynccontextmanager
    async def jammed() -> AsyncIterator[str]:
        raise OSError("jammed")
        yield "never"

    async with Resources() as resources:
        with pytest.raises(OSError, match="jammed"):
            await resources.shared("door", jammed)
        door.free.set()
        assert await resources.shared("door", door.opening) == "open"
