"""One object's size: told, set under a condition, and guarded against other writers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from scaler.ports import Clock, Conflict

if TYPE_CHECKING:
    from scaler.clouds.kubernetes.objects import ScalableState, ScaleTarget
    from scaler.clouds.kubernetes.other_autoscalers import Writers

ATTEMPTS: Final = 5
"""Writes tried while only an object's status changes: a rollout touches it several times a second."""


class Sized(Protocol):
    """Objects of one kind whose size can be read and set."""

    @property
    def clock(self) -> Clock: ...
    async def state(self, name: str, timeout_s: float, *, anew: bool = False) -> ScalableState: ...
    async def resize(self, name: str, replicas: int, version: str, timeout_s: float) -> None: ...


class ScaleObserver:
    """Remembers the size that it last saw, and those that it asked for, to tell other writers.

    `writers` is None for kinds that no autoscaler sizes through their scale.
    """

    def __init__(
        self, target: ScaleTarget, watch: Sized, writers: Writers | None, timeout_s: float, other_writer_yield_s: float
    ) -> None:
        self._clock: Clock = watch.clock
        self._target = target
        self._watch = watch
        self._writers = writers
        self._timeout_s = timeout_s
        self._yield_s = other_writer_yield_s
        self._seen: ScalableState | None = None
        self._asked: set[int] = set()
        self._foreign = ""
        self._yields_until = float("-inf")

    async def read(self) -> tuple[ScalableState, str | None]:
        """The object, and who else sizes it. Raises the port errors."""
        state = await self._watch.state(self._target.name, self._timeout_s)
        other = await self._writers.of(self._target, self._timeout_s) if self._writers else None
        self._notice(state, named=other is not None)
        return state, other or (self._foreign if self._clock.now() < self._yields_until else None)

    async def write(self, replicas: int, seen: int, version: str) -> None:
        """Set the size, given that it is still the one `seen`. Raises the port errors."""
        self._asked.add(replicas)
        name = self._target.name
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._watch.resize(name, replicas, version, self._timeout_s)
            except Conflict as e:
                present = await self._watch.state(name, self._timeout_s, anew=True)
                if size(present) == replicas:
                    return
                if size(present) not in {seen, *self._asked}:
                    raise Conflict(f"{name} was {seen} replicas; {self._who(present)}") from e
                if attempt == ATTEMPTS:
                    raise
                version = present.version  # only its status or its template changed
            else:
                self._asked = {replicas}
                return

    def _notice(self, state: ScalableState, *, named: bool) -> None:
        """Take note of a size that we did not ask for. What an autoscaler does that is `named` anyway is no news."""
        if size(state) in self._asked:
            self._asked = {size(state)}
        elif self._seen is not None and size(state) != size(self._seen) and not named:
            self._foreign = self._who(state)
            self._yields_until = self._clock.now() + self._yield_s
        self._seen = state

    def _who(self, state: ScalableState) -> str:
        """Who set the present size and when, as far as the object tells: not every API server keeps that."""
        known = state.writer if self._seen is None or state.writer != self._seen.writer else None
        at = known.at if known else datetime.fromtimestamp(state.at, UTC).isoformat(timespec="seconds")
        return f"{known.manager if known else 'somebody'} set {size(state)} at {at}"


def size(state: ScalableState) -> int:
    """The size asked for: told of every state that the watch gives out."""
    assert state.desired is not None  # noqa: S101 - an invariant of `Watch.state`
    return state.desired


def ready_replicas(state: ScalableState) -> int:
    """The replicas that serve: told of every state that the watch gives out."""
    assert state.ready is not None  # noqa: S101 - an invariant of `Watch.state`
    return state.ready
