"""In-memory ports of the controller that follow a story: a clock, sources and pools."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from policies.model import Absent, Fresh, PoolStatus, Shortfall
from scaler.ports import Conflict, Misconfigured, OutOfCapacity, OutOfQuota, Unavailable
from tests.fuzz.sequences.policies import SHARES, TOTALS
from tests.fuzz.sequences.story import Fault, PoolEvent, Readings, SourceValue

OLD_S: Final = 500.0
"""Age of a stale reading."""
AHEAD_S: Final = 400.0
"""Time by which a reading with a wrong clock is in the future."""
QUEUED: Final = 3.0
"""Waiting requests of each saturated replica."""


class StoryClock:
    """A clock that only the story advances."""

    def __init__(self, now: float) -> None:
        self._now = now
        self._stepped_s = 0.0

    def now(self) -> float:
        return self._now

    def step_s(self) -> float:
        return self._stepped_s

    async def sleep_until(self, t: float) -> None:
        self._now = max(self._now, t)

    def advance(self, seconds: float, step_s: float) -> None:
        """Advance the time, then let the wall clock jump."""
        self._now += seconds + step_s
        self._stepped_s += step_s


def _raise_fault(error: Fault, subject: str) -> None:
    if error == "misconfigured":
        raise Misconfigured(f"{subject}: no such thing")
    if error:
        raise Unavailable(f"{subject}: no answer", 45.0 if error == "raises_wait" else None)


class StorySource:
    """A source that reports the scene's readings."""

    def __init__(self, clock: StoryClock) -> None:
        self._clock = clock
        self.readings = Readings({}, "unavailable")
        self.ready_share = 1.0
        """Share of the requested replicas that is ready, by which totals are scaled."""
        self.saturated = 0
        """Number of ready replicas if they are saturated, else 0."""

    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        _raise_fault(self.readings.error, "source")
        return {quantity: self._sample(quantity, level) for quantity, level in self.readings.levels.items()}

    def _sample(self, quantity: str, level: SourceValue) -> Fresh[float] | Absent:
        now, value = self._clock.now(), level.value
        if quantity in TOTALS:
            value *= self.ready_share
        if self.saturated and quantity in SHARES:
            value = 1.0
        if self.saturated and quantity == "waiting":
            value = max(value, QUEUED * self.saturated)
        match level.fault:
            case "absent":
                return Absent("not exported")
            case "old":
                return Fresh(value, now - OLD_S)
            case "ahead":
                return Fresh(value, now + AHEAD_S)
            case "partial":
                return Fresh(value, now, "1 of 3 engines did not answer")
        return Fresh(value, now)


class StoryPool:
    """A pool of the platform. `happen` lets an event happen; the controller then reads and writes it."""

    def __init__(self, clock: StoryClock, size: int) -> None:
        self._clock = clock
        self.desired = self.ready = size
        self.failed = self.interruption_pending = self.interrupted = 0
        self.shortage: Shortfall | None = None
        self.other_writer = False
        self.version = 0
        self.event = PoolEvent()

    def apply_event(self, event: PoolEvent) -> None:
        self.event = event
        self.interruption_pending = min(event.interruption_pending, self.ready)
        pending = max(0, self.desired - self.ready - self.failed)
        self.ready += min(pending, math.ceil(event.starts * pending))
        self.ready -= min(self.ready, math.ceil(event.loses * self.ready))
        interrupted = min(self.ready, event.interrupts)
        self.ready, self.interrupted = self.ready - interrupted, self.interrupted + interrupted
        pending = max(0, self.desired - self.ready - self.failed)
        self.failed += min(pending, event.fails)
        if event.shortage:
            self.shortage = Shortfall(self._clock.now(), f"no {event.shortage}", quota=event.shortage == "quota")
        elif not self.failed:
            self.shortage = None
        self.other_writer = event.other_writer
        if event.sets is not None:
            self._size(event.sets)

    def _size(self, replicas: int) -> None:
        self.desired = replicas
        self.failed = min(self.failed, max(0, replicas - self.ready))
        self.ready = min(self.ready, replicas)
        self.interruption_pending = min(self.interruption_pending, self.ready)
        self.version += 1

    async def status(self) -> Fresh[PoolStatus]:
        _raise_fault(self.event.error, "pool")
        status = PoolStatus(
            self.desired,
            self.ready,
            "kubectl" if self.other_writer else None,
            str(self.version),
            interruption_pending=self.interruption_pending,
            interrupted=self.interrupted,
            failed=self.failed,
            shortfall=self.shortage,
        )
        return Fresh(status, self._clock.now())

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        assert replicas >= 0
        if observed.version != str(self.version):
            raise Conflict("the size was changed since it was read")
        match self.event.write_result:
            case "refused":
                raise Unavailable("HTTP 503")
            case "capacity":
                raise OutOfCapacity("no machines of this type")
            case "quota":
                raise OutOfQuota("the account's limit is reached")
            case "conflict":
                raise Conflict("another writer was first")
            case "misconfigured":
                raise Misconfigured("not permitted")
        self._size(replicas)
        if self.event.write_result == "lost":
            raise Unavailable("no answer")
