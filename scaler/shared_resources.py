"""Resources that adapters share, opened on first use.

There is one session per account and region, and one watch per cluster.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import Any, Self, TypeVar, cast

from scaler.adapter_faults import Faults
from scaler.admission import TickAdmission
from scaler.clouds.api_budget import Calls
from scaler.group_board import GroupBoard
from scaler.ports import Clock
from scaler.supervised_tasks import Tasks
from scaler.wakeup import Wakeup

T = TypeVar("T")


class Resources:
    """Opens each resource once, and closes all of them in reverse order when the daemon ends."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._opened: dict[object, Any] = {}
        self._opening: defaultdict[object, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.calls = Calls()
        self.faults = Faults()
        self.admission = TickAdmission()
        self.groups = GroupBoard()
        self.tasks = Tasks()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def shared(self, key: object, opening: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        """Return the resource under `key`.

        If opening it fails or is cancelled, the next caller tries again.
        """
        async with self._opening[key]:
            if key not in self._opened:
                self._opened[key] = await self._stack.enter_async_context(opening())
        return cast("T", self._opened[key])


class AdapterContext:
    """The context that one workload's adapters are opened in."""

    def __init__(
        self, resources: Resources, clock: Clock, deadline_s: float, slo_limits_s: Mapping[str, float] | None = None
    ) -> None:
        self.clock = clock
        self.deadline_s = deadline_s
        self.slo_limits_s = slo_limits_s or {}
        self.calls = resources.calls
        self.tasks = resources.tasks
        self.wakeup = Wakeup()
        self._resources = resources

    async def shared(self, key: object, opening: Callable[[], AbstractAsyncContextManager[T]]) -> T:
        return await self._resources.shared(key, opening)
