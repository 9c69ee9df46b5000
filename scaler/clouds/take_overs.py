"""Native autoscalers that this daemon took over, and their state before, to be given back.

A target is given back when the daemon ends, or once no pool has used it for `UNUSED_S`. After a crash nothing gives it
back; a person does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from scaler.clouds.singleflight import running
from scaler.ports import Clock, PortError
from scaler.telemetry.log import log

if TYPE_CHECKING:
    from scaler.supervised_tasks import Tasks

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
UNUSED_S: Final = 600.0
"""Interval in which a pool reads its target at least once; one that is not read is given back: the pool or its workload
was removed. Seconds."""


class TakeOvers(Generic[K, V]):
    """The targets that were taken over, with the state found before.

    `restore` writes that state back, `name_of` names a target in the log, and `remedy` is for a person.
    """

    def __init__(
        self, clock: Clock, restore: Callable[[K, V], Awaitable[None]], name_of: Callable[[K], str], remedy: str
    ) -> None:
        self._clock = clock
        self._restore = restore
        self._name_of = name_of
        self._remedy = remedy
        self._found: dict[K, V] = {}
        self._used: set[K] = set()

    def use(self, key: K) -> None:
        """Note that a pool still has the target."""
        self._used.add(key)

    def remember(self, key: K, state: V) -> None:
        """Remember the state of a target before it is taken over; the first one counts."""
        self._found.setdefault(key, state)
        self._used.add(key)

    @asynccontextmanager
    async def open(self, tasks: Tasks) -> AsyncIterator[None]:
        """Give back unused targets while the context is open, and all of them at its end."""
        try:
            async with running(tasks, "native autoscalers", self):
                yield
        finally:
            await self._give_back(list(self._found))

    async def run(self) -> None:
        """Give back unused targets until cancelled."""
        while True:
            await self._clock.sleep_until(self._clock.now() + UNUSED_S)
            unused = [key for key in self._found if key not in self._used]
            self._used.clear()
            await self._give_back(unused)

    async def _give_back(self, keys: Iterable[K]) -> None:
        """Restore targets.

        One that fails is logged and tried again later. One that a pool takes over meanwhile is remembered anew.
        """
        for key in keys:
            state = self._found.pop(key)
            try:
                await self._restore(key, state)
            except BaseException as e:
                self._found[key] = state  # also after a new takeover: the first state counts
                if not isinstance(e, PortError):
                    raise
                log.error("native autoscaler not resumed", target=self._name_of(key), error=str(e), remedy=self._remedy)
            else:
                log.info("native autoscaler resumed", target=self._name_of(key))
