"""In-flight calls that several callers share, and shared workers.

A worker runs as long as it is shared.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Hashable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

if TYPE_CHECKING:
    from scaler.supervised_tasks import Tasks

T = TypeVar("T")


class Worker(Protocol):
    """A component that runs without end."""

    async def run(self) -> None: ...


WorkerT = TypeVar("WorkerT", bound=Worker)


class Singleflight:
    """Merges equal concurrent calls into one.

    A caller that gives up leaves the call to the others.
    """

    def __init__(self) -> None:
        self._tasks: dict[Hashable, asyncio.Task[Any]] = {}

    async def share(self, key: Hashable, call: Callable[[], Coroutine[Any, Any, T]]) -> T:
        task = self._tasks.get(key)
        if task is None:
            task = self._tasks[key] = asyncio.create_task(call())
            task.add_done_callback(lambda t: self._finish(key, t))
        result: T = await asyncio.shield(task)
        return result

    def in_flight(self, key: Hashable) -> bool:
        """Return whether a call with this key is in flight."""
        return key in self._tasks

    def _finish(self, key: Hashable, task: asyncio.Task[Any]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            task.exception()  # mark it as retrieved, even if every caller gave up

    async def aclose(self) -> None:
        await cancel_all(*self._tasks.values())


@asynccontextmanager
async def running(tasks: Tasks, name: str, worker: WorkerT) -> AsyncIterator[WorkerT]:
    """Run a worker as a supervised task while the context is open."""
    task = tasks.start(name, worker.run)
    try:
        yield worker
    finally:
        await cancel_all(task)


async def cancel_all(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
