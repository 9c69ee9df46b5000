"""One call for what many ask at about the same time: describes of named things, and metrics.

Workloads' turns fall together, so what they ask within a moment goes in one call. A name that the cloud does not know
makes some calls fail as a whole: such a call is cut in halves until the name that is wrong stands alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Hashable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, Generic, Protocol, TypeVar

from scaler.clouds.response_validation import MISSHAPEN, malformed
from scaler.clouds.singleflight import cancelled
from scaler.ports import Clock, Context, Misconfigured, PortError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)
GATHER_S: Final = 0.02
"""How long the first one who asks waits for others: turns begin together, and a call takes longer than this."""


class Fetch(Protocol[K, V_co]):
    """Answers for those keys that exist. `first`: a write waits for it, so it does not give way as reads do."""

    def __call__(self, keys: Sequence[K], /, *, first: bool) -> Awaitable[Mapping[K, V_co]]: ...


class Batch(Generic[K, V]):
    """Asks for many keys at once; `most` keys go in one call."""

    def __init__(self, clock: Clock, fetch: Fetch[K, V], most: int) -> None:
        self._clock = clock
        self._fetch = fetch
        self._most = most
        self._waiting: dict[K, asyncio.Future[tuple[float, V | None]]] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._gathering = False

    async def get(self, key: K, *, first: bool = False) -> tuple[float, V | None]:
        """What is under `key` and a time that it is no older than; None where there is no such thing.

        `first`: a write waits for it, so it waits for nobody. Raises port errors.
        """
        if first:
            asked_at = self._clock.now()
            return asked_at, (await self._fetch([key], first=True)).get(key)
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
        if not self._gathering:
            self._gathering = True
            self._begin(self._gather())
        return await asyncio.shield(future)

    async def _gather(self) -> None:
        await asyncio.sleep(GATHER_S)
        self._gathering = False
        waiting, self._waiting = self._waiting, {}
        keys = list(waiting)
        for i in range(0, len(keys), self._most):
            self._begin(self._answer({key: waiting[key] for key in keys[i : i + self._most]}))

    async def _answer(self, waiting: dict[K, asyncio.Future[tuple[float, V | None]]]) -> None:
        asked_at = self._clock.now()
        try:
            found = await self._fetch(list(waiting), first=False)
        except Misconfigured as e:
            if len(waiting) > 1:
                keys = list(waiting)
                for half in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
                    self._begin(self._answer({key: waiting[key] for key in half}))
                return
            self._fail(waiting, e)
        except PortError as e:
            self._fail(waiting, e)
        except MISSHAPEN as e:
            self._fail(waiting, malformed("AWS", e))
        except BaseException as e:
            self._fail(waiting, e)
            raise
        else:
            for key, future in waiting.items():
                if not future.done():
                    future.set_result((asked_at, found.get(key)))

    def _fail(self, waiting: dict[K, asyncio.Future[tuple[float, V | None]]], error: BaseException) -> None:
        for future in waiting.values():
            if isinstance(error, asyncio.CancelledError):
                future.cancel()
            elif not future.done():
                future.set_exception(error)
                future.exception()  # seen, even if every caller gave up

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)  # noqa: S101 - of a coroutine it is one
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)

    async def close(self) -> None:
        await cancelled(*self._calls)
        self._fail(self._waiting, asyncio.CancelledError())


async def batch(context: Context, key: Hashable, fetch: Fetch[K, V], most: int) -> Batch[K, V]:
    """The batch under `key` that all adapters share; the first caller's `fetch` is used."""

    @asynccontextmanager
    async def opening() -> AsyncIterator[Batch[K, V]]:
        made = Batch(context.clock, fetch, most)
        try:
            yield made
        finally:
            await made.close()

    return await context.shared(key, opening)
