"""Clocks of the daemon. No other module reads the system's clocks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

JUMP_S: Final = 2.0
"""Minimum drift of the wall clock from the monotonic one that counts as a jump; NTP slews less. Seconds."""

LEASE_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Linux has a monotonic clock that counts suspend; macOS counts it in its CLOCK_MONOTONIC."""


class SystemClock:
    """Unix time at the monotonic clock's rate.

    It follows the wall clock only where that jumps. `wall` and `monotonic` return the two clocks' readings, in seconds.
    Example: the wall clock is set back by an hour; the next call of `step_s` returns -3600, and `now` is an hour
    earlier from then on.
    """

    def __init__(self, wall: Callable[[], float] = time.time, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._wall, self._monotonic = wall, monotonic
        self._offset_s = wall() - monotonic()
        self._stepped_s = 0.0

    def now(self) -> float:
        return self._monotonic() + self._offset_s

    async def sleep_until(self, t: float) -> None:
        await asyncio.sleep(max(0.0, t - self.now()))

    def step_s(self) -> float:
        drift_s = self._wall() - self.now()
        if abs(drift_s) >= JUMP_S:
            self._offset_s += drift_s
            self._stepped_s += drift_s
        return self._stepped_s


class FastClock:
    """A clock that starts at `start` (Unix time) and runs `speed` times as fast as real time.

    It serves embedded worlds.
    """

    def __init__(self, speed: float, start: float) -> None:
        self._speed = speed
        self._start = start
        self._began_s = time.monotonic()

    def now(self) -> float:
        return self._start + (time.monotonic() - self._began_s) * self._speed

    async def sleep_until(self, t: float) -> None:
        await asyncio.sleep(max(0.0, t - self.now()) / self._speed)

    def step_s(self) -> float:
        return 0.0


def lease_clock_s() -> float:
    """Return a reading of the clock of leases, which also runs while the machine sleeps.

    It is monotonic. Seconds.
    """
    return time.clock_gettime(LEASE_CLOCK)


def stopwatch_s() -> float:
    """Return a reading of the clock that measures durations.

    Only differences of readings have a meaning. Seconds.
    """
    return time.perf_counter()


def processor_s() -> float:
    """Return the processor time that this thread has used. Seconds.

    A busy machine does not change it.
    """
    return time.thread_time()


def wall_time() -> str:
    """Return the wall-clock time in ISO 8601."""
    return iso_time(time.time())


def iso_time(at: float) -> str:
    """Return a Unix time in ISO 8601 with milliseconds, in UTC.

    A time after the year 9999 of a simulated clock remains a number: a log line must not fail.
    """
    try:
        return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (ValueError, OverflowError):
        return f"{at:.3f}"
