"""One call for the keys that many workloads request at about the same time.

A key is, for example, a resource id or a metric.

The workloads' ticks begin together, so requests within `GATHER_S` go in one call. Some APIs refuse the whole call for
one unknown key: such a call is split in halves until the unknown key is alone.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Hashable, Mapping, Sequence
from contextlib import aclosing
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from scaler.clouds.response_validation import unavailable_if_malformed
from scaler.clouds.singleflight import cancel_all
from scaler.ports import Clock, Context, Misconfigured, PortError

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
V_co = TypeVar("V_co", covariant=True)
Pending: TypeAlias = dict[K, asyncio.Future[tuple[float, V | None]]]
GATHER_S: Final = 0.02
"""Time that the first request waits for others. A call itself takes longer. Seconds."""


class Fetch(Protocol[K, V_co]):
    """Values of those keys that exist.

    `urgent`: a write waits for them, so the call does not give way as reads do.
    """

    def __call__(self, keys: Sequence[K], /, *, urgent: bool) -> Awaitable[Mapping[K, V_co]]: ...


class Batch(Generic[K, V]):
    """Requests for many keys at once, at most `max_keys` a call.

    Each call contains keys of one `group` only. `split_refused`: whether a call that is refused as misconfigured is
    split in halves.
    """

    def __init__(  # noqa: PLR0913 - one batch's settings
        self,
        clock: Clock,
        fetch: Fetch[K, V],
        max_keys: int,
        *,
        cloud: str = "AWS",
        group: Callable[[K], Hashable] = lambda _: None,
        split_refused: bool = True,
    ) -> None:
        self._clock = clock
        self._fetch = fetch
        self._max_keys = max_keys
        self._cloud = cloud
        self._group = group
        self._split_refused = split_refused
        self._pending: Pending[K, V] = {}
        self._calls: set[asyncio.Task[None]] = set()
        self._gathering = False

    async def get(self, key: K, *, urgent: bool = False) -> tuple[float, V | None]:
        """Return the time of the request, and the value; None where the key does not exist.

        `urgent`: a write waits for it, so the request is sent alone and at once. Raises port errors.
        """
        if urgent:
            requested_at = self._clock.now()
            return requested_at, (await self._fetch([key], urgent=True)).get(key)
        future = self._pending.get(key)
        if future is None:
            future = self._pending[key] = asyncio.get_running_loop().create_future()
        if not self._gathering:
            self._gathering = True
            self._start(self._gather())
        return await asyncio.shield(future)

    async def aclose(self) -> None:
        await cancel_all(*self._calls)
        self._fail(self._pending, asyncio.CancelledError())

    async def _gather(self) -> None:
        await asyncio.sleep(GATHER_S)
        self._gathering = False
        pending, self._pending = self._pending, {}
        groups: defaultdict[Hashable, list[K]] = defaultdict(list)
        for key in pending:
            groups[self._group(key)].append(key)
        for keys in groups.values():
            for i in range(0, len(keys), self._max_keys):
                self._start(self._fetch_batch({key: pending[key] for key in keys[i : i + self._max_keys]}))

    async def _fetch_batch(self, pending: Pending[K, V]) -> None:
        requested_at = self._clock.now()
        keys = list(pending)
        try:
            with unavailable_if_malformed(self._cloud):
                values = await self._fetch(keys, urgent=False)
        except Misconfigured as e:
            if len(keys) == 1 or not self._split_refused:
                self._fail(pending, e)
                return
            for half in (keys[: len(keys) // 2], keys[len(keys) // 2 :]):
                self._start(self._fetch_batch({key: pending[key] for key in half}))
        except PortError as e:
            self._fail(pending, e)
        except BaseException as e:
            self._fail(pending, e)
            raise
        else:
            for key, future in pending.items():
                if not future.done():
                    future.set_result((requested_at, values.get(key)))

    def _fail(self, pending: Pending[K, V], error: BaseException) -> None:
        for future in pending.values():
            if isinstance(error, asyncio.CancelledError):
                future.cancel()
            elif not future.done():
                future.set_exception(error)
                future.exception()  # mark it as retrieved, even if every caller gave up

    def _start(self, work: Awaitable[None]) -> None:
        task = asyncio.ensure_future(work)
        assert isinstance(task, asyncio.Task)  # noqa: S101 - ensure_future of a coroutine gives a task
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)


async def batch(context: Context, key: Hashable, fetch: Fetch[K, V], max_keys: int) -> Batch[K, V]:
    """Return the batch under `key` that all adapters share, with the first caller's `fetch`."""
    return await context.shared(key, lambda: aclosing(Batch(context.clock, fetch, max_keys)))
