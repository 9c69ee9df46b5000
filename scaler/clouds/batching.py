"""One call for the keys that many workloads request at about the same time: described resources, metrics.

Workloads' ticks fall together, so requests within a moment go in one call. A key that the cloud does not know makes
some calls fail as a whole: such a call is cut in halves until the wrong key stands alone.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import aclosing
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from scaler.clouds.response_validation import understood
from scaler.clouds.singleflight import cancelled
from scaler.ports import Clock, Context, Misconfigured, PortError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)
Waiting: TypeAlias = dict[K, asyncio.Future[tuple[float, V | None]]]
GATHER_S: Final = 0.02
"""Time that the first request waits for others: ticks begin together, and a call takes longer than this. Seconds."""


class Fetch(Protocol[K, V_co]):
    """Answers for those keys that exist. `urgent`: a write waits for it, so it does not give way as reads do."""

    def __call__(self, keys: Sequence[K], /, *, urgent: bool) -> Awaitable[Mapping[K, V_co]]: ...


class Batch(Generic[K, V]):
    """Requests for many keys at once, up to `most` a call, those of one `group` together.

    `halves`: whether a call that is refused as misconfigured is cut in halves.
    """

    def __init__(  # noqa: PLR0913 - what one batch is made of
        self,
        clock: Clock,
        fetch: Fetch[K, V],
        most: int,
        *,
        cloud: str = "AWS",
        group: Callable[[K], Hashable] = lambda _: None,
        halves: bool = True,
    ) -> None:
        self._clock = clock
        self._fetch = fetch
        self._most = most
        self._cloud = cloud
        self._group = group
        self._halves = halves
        self._waiting: Waiting[K, V] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._gathering = False

    async def get(self, key: K, *, urgent: bool = False) -> tuple[float, V | None]:
        """Return a time that the answer is no older than, and the value; None where there is none.

        `urgent`: a write waits for it, so it waits for no other request. Raises port errors.
        """
        if urgent:
            requested_at = self._clock.now()
            return requested_at, (await self._fetch([key], urgent=True)).get(key)
        future = self._waiting.get(key)
        if future is None:
            future = self._waiting[key] = asyncio.get_running_loop().create_future()
        if not self._gathering:
            self._gathering = True
            self._begin(self._gather())
        return await asyncio.shield(future)

    async def aclose(self) -> None:
        await cancelled(*self._calls)
        self._fail(self._waiting, asyncio.CancelledError())

    async def _gather(self) -> None:
        await asyncio.sleep(GATHER_S)
        self._gathering = False
        waiting, self._waiting = self._waiting, {}
        groups: defaultdict[Hashable, list[K]] = defaultdict(list)
        for key in waiting:
            groups[self._group(key)].append(key)
        for keys in groups.values():
            for i in range(0, len(keys), self._most):
                self._begin(self._answer({key: waiting[key] for key in keys[i : i + self._most]}))

    async def _answer(self, waiting: Waiting[K, V]) -> None:
        requested_at = self._clock.now()
        keys = list(waiting)
        try:
            with understood(self._cloud):
                found = await self._fetch(keys, urgent=False)
        except Misconfigured as e:
            if len(keys) == 1 or not self._halves:
                self._fail(waiting, e)
                return
            for half in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
                self._begin(self._answer({key: waiting[key] for key in half}))
        except PortError as e:
            self._fail(waiting, e)
        except BaseException as e:
            self._fail(waiting, e)
            raise
        else:
            for key, future in waiting.items():
                if not future.done():
                    future.set_result((requested_at, found.get(key)))

    def _fail(self, waiting: Waiting[K, V], error: BaseException) -> None:
        for future in waiting.values():
            if isinstance(error, asyncio.CancelledError):
                future.cancel()
            elif not future.done():
                future.set_exception(error)
                future.exception()  # retrieved, even if every caller gave up

    def _begin(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)  # noqa: S101 - of a coroutine it is one
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)


async def batch(context: Context, key: Hashable, fetch: Fetch[K, V], most: int) -> Batch[K, V]:
    """Return the batch under `key` that all adapters share; the first caller's `fetch` is used."""
    return await context.shared(key, lambda: aclosing(Batch(context.clock, fetch, most)))
