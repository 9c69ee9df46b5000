"""A queue for writes that share one lock, such as the variants of one endpoint.

A platform accepts one change at a time to some objects, and a change takes minutes. All pools of the daemon whose
writes share such a lock take turns here: one write at a time, and in the order in which they asked. A tick does not
wait for its turn. Its write fails with `Conflict`, which names the pools ahead, and the pool keeps its place for the
next tick. Example: variants a and b of one endpoint are to grow. a is written, and the endpoint updates for 7 minutes.
b and then a ask in every tick; when the update ends, b is written before a.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager, nullcontext
from typing import Final

from scaler.ports import Clock, Conflict, Context

PLACE_S: Final = 120.0
"""Time after which a place is lost that was not asked for again: the pool or its workload was removed. A pool asks in
every tick; one that ticks less often has no place, but its writes are still exclusive. Seconds."""


class LockQueue:
    """The pools that wait for one lock, and the one that holds it.

    `what` names the locked object.
    """

    def __init__(self, clock: Clock, what: str) -> None:
        self._clock = clock
        self._what = what
        self._places: dict[str, float] = {}
        self._holder = ""
        self._stepped_s = clock.step_s()

    @asynccontextmanager
    async def turn(self, pool: str) -> AsyncIterator[None]:
        """Hold the lock for one write of `pool`. Raises `Conflict` before its turn.

        A write that raises `Conflict`, because the platform is busy, keeps its place. Any other end gives it up: a
        write that fails again and again must not hold back the others.
        """
        self._take_place(pool)
        if self._holder:
            raise Conflict(f"{self._what}: waits for its turn; {self._holder} writes now{self._ahead(pool)}")
        if ahead := self._ahead(pool):
            raise Conflict(f"{self._what}: waits for its turn{ahead}")
        self._holder = pool
        keeps_place = False
        try:
            yield
        except Conflict:
            keeps_place = True
            raise
        finally:
            self._holder = ""
            if not keeps_place:
                self._places.pop(pool, None)

    def withdraw(self, pool: str) -> None:
        """Give up the place of a pool that no longer has a size to write."""
        if pool != self._holder:
            self._places.pop(pool, None)

    @property
    def waiting(self) -> tuple[str, ...]:
        """The pools with a place, in order."""
        return tuple(self._places)

    def _take_place(self, pool: str) -> None:
        """Give the pool the last place, or extend the time of its own, and drop the expired ones."""
        stepped_s = self._clock.step_s()
        step_s, self._stepped_s = stepped_s - self._stepped_s, stepped_s
        now = self._clock.now()
        self._places = {
            other: asked_at + step_s
            for other, asked_at in self._places.items()
            if other in {pool, self._holder} or now - asked_at - step_s <= PLACE_S
        }
        self._places[pool] = now

    def _ahead(self, pool: str) -> str:
        """Return the pools ahead of `pool` as text; empty for the first one."""
        ahead = [other for other in self.waiting[: self.waiting.index(pool)] if other != self._holder]
        return f", behind {', '.join(ahead)}" if ahead else ""


async def lock_queue(context: Context, key: Hashable, what: str) -> LockQueue:
    """Return the queue under `key`, which all pools of the daemon share."""
    return await context.shared(("lock queue", key), lambda: nullcontext(LockQueue(context.clock, what)))
