"""Answers that several pools of one account share within a tick."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Coroutine, Hashable
from contextlib import aclosing
from typing import Any, Final, TypeVar

from scaler.clouds.singleflight import Singleflight
from scaler.ports import Clock, Context

T = TypeVar("T")
TURN_S: Final = 1.0
"""Age up to which pools share an answer. Seconds."""
SLOW_S: Final = 300.0
"""For what people change, and seldom: reservations, other scalers' settings, a cluster's group."""


class RecentAnswers:
    """The last answers by key."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._flights = Singleflight()
        self._answers: dict[Hashable, tuple[float, Any]] = {}
        self._writes: Counter[Hashable] = Counter()

    async def get(self, key: Hashable, max_age_s: float, ask: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, float]:
        """Return an answer and when it was requested, at most `max_age_s` seconds ago.

        Raises what `ask` raises.
        """
        asked_at, answer = self._answers.get(key, (float("-inf"), None))
        if 0 <= self._clock.now() - asked_at < max_age_s:
            return answer, asked_at
        since = self._writes[key]
        result: tuple[T, float] = await self._flights.share((key, since), lambda: self._request(key, since, ask))
        return result

    async def _request(self, key: Hashable, since: int, ask: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, float]:
        asked_at = self._clock.now()
        answer = await ask()
        if since == self._writes[key]:
            self._answers[key] = asked_at, answer
        return answer, asked_at

    def forget(self, key: Hashable) -> None:
        """Drop an answer after a write, and an answer under way too."""
        self._answers.pop(key, None)
        self._writes[key] += 1

    async def aclose(self) -> None:
        await self._flights.aclose()


async def recent(context: Context) -> RecentAnswers:
    """Return the answers of this daemon."""
    return await context.shared("azure-recent", lambda: aclosing(RecentAnswers(context.clock)))
