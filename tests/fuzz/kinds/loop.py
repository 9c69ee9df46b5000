"""One event loop and one loopback server with configurable responses for all cases of a process."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final, TypeVar

from aiohttp import web

from scaler.shared_resources import AdapterContext, Resources
from tests.servers.site import listening
from tests.servers.spoiling import Ahead, hasty

T = TypeVar("T")
Answer = Callable[[web.Request], web.StreamResponse | Awaitable[web.StreamResponse]]
DEADLINE_S: Final = 10.0


class Loop:
    """A running loop with a server, a clock that tests advance, and a context for opening adapters."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.clock = Ahead()
        self.answer: Answer = lambda _: web.Response(status=404)
        self.port = 0
        self.run(self._open())

    async def _open(self) -> None:
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", self._handle)
        self.port = await self._stack.enter_async_context(listening(app))
        self.resources = hasty(await self._stack.enter_async_context(Resources()))
        self.context = AdapterContext(self.resources, self.clock, DEADLINE_S)

    async def _handle(self, request: web.Request) -> web.StreamResponse:
        response = self.answer(request)
        return response if isinstance(response, web.StreamResponse) else await response

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end on this loop."""
        return self._runner.run(work)

    async def keep(self, context: Any) -> Any:
        """Enter an asynchronous context that stays open until the process ends."""
        return await self._stack.enter_async_context(context)


_LOOPS: Final[list[Loop]] = []


def loop() -> Loop:
    """Return this process's loop."""
    if not _LOOPS:
        _LOOPS.append(Loop())
    return _LOOPS[0]
