"""Responses that several pools of one account share within a tick."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Hashable
from contextlib import aclosing
from typing import Any, Final, TypeVar

from scaler.clouds.singleflight import Singleflight
from scaler.ports import Clock, Context

T = TypeVar("T")
TICK_S: Final = 1.0
"""Maximum age of a response that the pools of one tick share. Seconds."""
SLOW_S: Final = 300.0
"""Maximum age of values that people change rarely: reservations, autoscale settings, a cluster's group. Seconds."""


class RecentAnswers:
    """The last responses by key."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._flights = Singleflight()
        self._responses: dict[Hashable, tuple[float, Any]] = {}
        self._writes: Counter[Hashable] = Counter()

    async def get(
        self, key: Hashable, max_age_s: float, request: Callable[[], Coroutine[Any, Any, T]]
    ) -> tuple[T, float]:
        """Return a response and the time of its request, at most `max_age_s` seconds ago.

        Raises as `request`.
        """
        requested_at, response = self._responses.get(key, (float("-inf"), None))
        if 0 <= self._clock.now() - requested_at < max_age_s:
            return response, requested_at
        write_count = self._writes[key]
        result: tuple[T, float] = await self._flights.share(
            (key, write_count), lambda: self._request(key, write_count, request)
        )
        return result

    async def _request(
        self, key: Hashable, write_count: int, request: Callable[[], Coroutine[Any, Any, T]]
    ) -> tuple[T, float]:
        requested_at = self._clock.now()
        response = await request()
        if write_count == self._writes[key]:
            self._responses[key] = requested_at, response
        return response, requested_at

    def forget(self, key: Hashable) -> None:
        """Drop a response after a write, even one in flight."""
        self._responses.pop(key, None)
        self._writes[key] += 1

    async def aclose(self) -> None:
        await self._flights.aclose()


async def recent(context: Context) -> RecentAnswers:
    """Return the daemon's shared responses."""
    return await context.shared("azure-recent", lambda: aclosing(RecentAnswers(context.clock)))
