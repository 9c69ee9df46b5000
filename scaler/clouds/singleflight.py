"""Calls under way that several callers share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, TypeVar

T = TypeVar("T")


class Flights:
    """Makes one call of several equal ones under way. A caller that gives up leaves the call to the others."""

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[Any]] = {}

    async def share(self, key: Hashable, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(call())
            task.add_done_callback(lambda t: self._landed(key, t))
        result: T = await asyncio.shield(task)
        return result

    def under_way(self, key: Hashable) -> bool:
        """Whether such a call has not come back yet."""
        return key in self._tasks

    def _landed(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            task.exception()  # seen, even if every caller gave up

    async def close(self) -> None:
        await cancelled(*self._tasks.values())


async def cancelled(*tasks: asyncio.Task[Any]) -> None:
    """End tasks and wait for their end."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
