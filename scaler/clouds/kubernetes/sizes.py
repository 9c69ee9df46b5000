"""The size of one Kubernetes object: read, set under a condition, and guarded against other writers."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

from scaler.clouds.foreign_writes import ForeignWriteDetector
from scaler.ports import Clock, Conflict

if TYPE_CHECKING:
    from scaler.clouds.kubernetes.objects import ScalableState, ScaleTarget, Writer
    from scaler.clouds.kubernetes.other_autoscalers import Writers

ATTEMPTS: Final = 5
"""Writes tried while only an object's status changes: a rollout touches it several times a second."""


class Sized(Protocol):
    """Objects of one kind whose size can be read and set."""

    @property
    def clock(self) -> Clock: ...
    async def state(self, name: str, timeout_s: float, *, refresh: bool = False) -> ScalableState: ...
    async def resize(self, name: str, replicas: int, version: str, timeout_s: float) -> None: ...


class ScaleObserver:
    """The size of one object: read with its other writers, and set unless one of them was first.

    `writers` is None for kinds that no autoscaler sizes through their scale.
    """

    def __init__(
        self, target: ScaleTarget, watch: Sized, writers: Writers | None, timeout_s: float, other_writer_yield_s: float
    ) -> None:
        self._target = target
        self._watch = watch
        self._writers = writers
        self._timeout_s = timeout_s
        self._own_writes = ForeignWriteDetector(watch.clock, other_writer_yield_s, target.name)
        self._last_writer: Writer | None = None

    async def read(self) -> tuple[ScalableState, str | None]:
        """Return the object and who else sizes it. Raises the port errors."""
        state = await self._watch.state(self._target.name, self._timeout_s)
        autoscaler = await self._writers.of(self._target, self._timeout_s) if self._writers else None
        other = self._own_writes.observe(size(state), self._writer(state), named=autoscaler is not None)
        self._last_writer = state.writer
        return state, autoscaler or other

    async def write(self, replicas: int, seen: int, version: str) -> None:
        """Set the size, given that it is still the one `seen`. Raises the port errors."""
        self._own_writes.request(seen, [replicas])
        name = self._target.name
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._watch.resize(name, replicas, version, self._timeout_s)
            except Conflict:
                present = await self._watch.state(name, self._timeout_s, refresh=True)
                if size(present) == replicas:
                    return
                self._own_writes.check(size(present), seen, self._writer(present))
                if attempt == ATTEMPTS:
                    raise
                version = present.version  # only its status or its template changed
            else:
                self._own_writes.confirm(replicas)
                return

    def _writer(self, state: ScalableState) -> str:
        """Return who set the present size and when, where the object's managed fields record it.

        The writer that was there at the last read did not make the change since: then another one did.
        """
        known = state.writer if state.writer != self._last_writer else None
        at = known.at if known else datetime.fromtimestamp(state.at, UTC).isoformat(timespec="seconds")
        return f"{known.manager if known else 'another writer'} set it to {size(state)} at {at}"


def size(state: ScalableState) -> int:
    """Return the requested size, which every state that the watch gives out has."""
    assert state.desired is not None  # noqa: S101 - an invariant of `Watch.state`
    return state.desired


def ready_replicas(state: ScalableState) -> int:
    """Return the replicas that serve, which every state that the watch gives out has."""
    assert state.ready is not None  # noqa: S101 - an invariant of `Watch.state`
    return state.ready
