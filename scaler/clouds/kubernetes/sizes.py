"""The size of one Kubernetes object.

The module reads it, writes it conditionally, and detects other writers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from scaler.clouds.foreign_writes import ForeignWriteDetector
from scaler.clouds.kubernetes.objects import written_by
from scaler.ports import Clock, Conflict

if TYPE_CHECKING:
    from scaler.clouds.kubernetes.objects import ScalableState, ScaleTarget, Writer
    from scaler.clouds.kubernetes.other_autoscalers import Writers

ATTEMPTS: Final = 5
"""Attempts of a write while only the object's status changes: a rollout changes it several times a second."""


class SizedObjects(Protocol):
    """A collection of objects whose size can be read and set."""

    @property
    def clock(self) -> Clock: ...
    async def state(self, name: str, timeout_s: float, *, refresh: bool = False) -> ScalableState: ...
    async def resize(self, name: str, replicas: int, version: str, timeout_s: float) -> None: ...


class ScaleObserver:
    """Reader and conditional writer of one object's size.

    It also observes the object's other writers. It sets the size unless another writer changed it first. `writers` is
    None for kinds that no autoscaler sizes through the scale subresource.
    """

    def __init__(
        self,
        target: ScaleTarget,
        watch: SizedObjects,
        writers: Writers | None,
        timeout_s: float,
        other_writer_yield_s: float,
    ) -> None:
        self._target = target
        self._watch = watch
        self._writers = writers
        self._timeout_s = timeout_s
        self._own_writes = ForeignWriteDetector(watch.clock, other_writer_yield_s, target.name)
        self._last_writer: Writer | None = None

    async def read(self) -> tuple[ScalableState, str | None]:
        """Return the object's state and its other writer. Raises port errors."""
        state = await self._watch.state(self._target.name, self._timeout_s)
        autoscaler = await self._writers.autoscaler_of(self._target, self._timeout_s) if self._writers else None
        other_writer = self._own_writes.observe(
            requested_size(state), self._writer(state), named=autoscaler is not None
        )
        self._last_writer = state.writer
        return state, autoscaler or other_writer

    async def write(self, replicas: int, observed: int, version: str) -> None:
        """Set the size if it is still the `observed` one. Raises port errors."""
        self._own_writes.request(observed, [replicas])
        name = self._target.name
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._watch.resize(name, replicas, version, self._timeout_s)
            except Conflict:
                present = await self._watch.state(name, self._timeout_s, refresh=True)
                if requested_size(present) == replicas:
                    return
                self._own_writes.check(requested_size(present), observed, self._writer(present))
                if attempt == ATTEMPTS:
                    raise
                version = present.version  # only its status or template changed
            else:
                self._own_writes.confirm(replicas)
                return

    def _writer(self, state: ScalableState) -> str:
        """Return the writer of the present size and its time.

        The writer recorded at the last read did not make the change since, so then another one did.
        """
        return written_by(state.writer if state.writer != self._last_writer else None, requested_size(state), state.at)


def requested_size(state: ScalableState) -> int:
    """Return the requested size, which every state from the watch has."""
    assert state.desired is not None  # noqa: S101 - an invariant of `SharedWatch.state`
    return state.desired
