"""What adapters share: one session per account and region, one watch per cluster, opened on first use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeVar, cast

from scaler.ports import Clock

T = TypeVar("T")


class Resources:
    """Opens each resource once and closes all of them, the last first, when the daemon ends."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._opened: dict[object, asyncio.Future[Any]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *exc: object) -> None:
        kind, error, trace = cast("tuple[type[BaseException], BaseException, TracebackType]", exc)
        await self._stack.__aexit__(kind, error, trace)

    async def shared(self, key: object, opening: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """The resource under `key`. One that fails to open is forgotten, so that the next caller tries again."""
        if key not in self._opened:
            future = self._opened[key] = asyncio.get_running_loop().create_future()
            try:
                future.set_result(await self._stack.enter_async_context(opening()))
            except BaseException as e:
                del self._opened[key]
                future.set_exception(e)
                future.exception()  # seen, even if nobody else waits
                raise
        return cast("T", await self._opened[key])


class Opening:
    """The context that one workload's adapters are opened in."""

    def __init__(self, resources: Resources, clock: Clock, deadline_s: float) -> None:
        self.clock = clock
        self.deadline_s = deadline_s
        self._resources = resources

    async def shared(self, key: object, opening: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        return await self._resources.shared(key, opening)
