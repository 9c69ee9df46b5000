"""The only module that reads a clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

JUMP_S: Final = 2.0
"""A wall clock that departs further than this from the monotonic one has jumped; less is slewing by NTP."""


class SystemClock:
    """Wall-clock seconds that run evenly: the monotonic clock, moved only by the jumps that `step_s` adds up.

    `wall` and `even` tell the two that it goes by, in seconds.
    """

    def __init__(self, wall: Callable[[], float] = time.time, even: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._even = wall, even
        self._offset = wall() - even()
        self._stepped_s = 0.0

    def now(self) -> float:
        return self._even() + self._offset

    async def sleep_until(self, t: float) -> None:
        await asyncio.sleep(max(0.0, t - self.now()))

    def step_s(self) -> float:
        departed = self._wall() - self.now()
        if abs(departed) >= JUMP_S:
            self._offset += departed
            self._stepped_s += departed
        return self._stepped_s


class FastClock:
    """Seconds that pass `speed` times as fast as real ones, from `start`: for embedded worlds."""

    def __init__(self, speed: float, start: float) -> None:
        self._speed = speed
        self._start = start
        self._began = time.monotonic()

    def now(self) -> float:
        return self._start + (time.monotonic() - self._began) * self._speed

    async def sleep_until(self, t: float) -> None:
        await asyncio.sleep(max(0.0, t - self.now()) / self._speed)

    def step_s(self) -> float:
        return 0.0


def stopwatch_s() -> float:
    """Seconds of a clock fit for measuring durations, with no meaning of its own."""
    return time.perf_counter()


def wall_time() -> str:
    """Return the present wall-clock time in ISO 8601, for log lines."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
