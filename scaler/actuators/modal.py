"""Modal functions and classes: the minimum of containers, or their exact number.

A deployment of the app resets all settings to those in its code. So they are compared in each tick, and written again.
"""

from __future__ import annotations

from collections.abc import Sequence

from policies.model import Fresh, PoolName, PoolStatus, WorkloadName
from scaler.clouds.foreign_writes import ForeignWriteDetector
from scaler.clouds.modal.functions import Function, Settings, open_function
from scaler.config.kinds.modal import ModalFunction
from scaler.ports import Context, Misconfigured, Permit


async def open_modal(spec: ModalFunction, context: Context, workload: WorkloadName, pool: PoolName) -> ModalResizer:
    """Open a function without reading it. Raises port errors."""
    return ModalResizer(spec, context, await open_function(spec, context))


class ModalResizer:
    """The actuator's port."""

    def __init__(self, spec: ModalFunction, context: Context, function: Function) -> None:
        self._spec = spec
        self._clock = context.clock
        self._function = function
        self._writes = ForeignWriteDetector(context.clock, spec.other_writer_yield_s, function.name)
        self._deployed: int | None = None
        """The minimum before the first write, to which a deployment resets it."""
        self._unfinished = False

    async def status(self) -> Fresh[PoolStatus]:
        at = self._clock.now()
        settings, running = await self._function.read()
        self._unfinished = bool(self._changes(settings, settings.minimum))
        other_writer = self._writes.observe(settings.minimum)
        if self._deployed is None:
            self._deployed = settings.minimum
        self._writes.expect(self._deployed)
        return Fresh(PoolStatus(settings.minimum, running, other_writer=other_writer), at)

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        settings = await self._function.settings()
        changes = self._changes(settings, replicas)
        if not changes:
            return
        self._writes.check(settings.minimum, observed.desired)
        self._require_possible(settings, replicas)
        self._writes.request(settings.minimum, [replicas])
        await self._function.update(**changes)
        self._writes.confirm(replicas)
        self._writes.expect(settings.minimum if self._deployed is None else self._deployed)

    def unfinished(self) -> bool:
        """Return whether settings other than the size differ from the configured ones."""
        return self._unfinished

    async def scale_out_refusals(self) -> Sequence[str]:
        """Return why a scale-out would be refused, with the remedy."""
        try:
            self._require_possible(await self._function.settings(), self._spec.max_replicas or 0)
        except Misconfigured as e:
            return [str(e)]
        return []

    async def permits(self) -> Sequence[Permit]:
        """Return the permissions. Modal shows those of a token only by a call."""
        await self._function.read()
        unknown = "Modal has no check without a write: a token of a workspace member may change settings"
        return [
            Permit("read a function's autoscaler settings and current stats", True),
            Permit("update a function's autoscaler settings", None, unknown),
        ]

    def _require_possible(self, settings: Settings, replicas: int) -> None:
        if self._spec.sized_by == "minimum" and settings.maximum is not None and replicas > settings.maximum:
            remedy = f"raise it in the app, or set max_replicas: {settings.maximum}"
            raise Misconfigured(
                f"{self._function.name}: its max_containers is {settings.maximum}, below {replicas}; {remedy}"
            )

    def _changes(self, settings: Settings, replicas: int) -> dict[str, int]:
        """Return the settings to write, by the names of Modal's SDK."""
        spec = self._spec
        wanted = {
            "min_containers": (settings.minimum, replicas),
            "max_containers": (settings.maximum, replicas if spec.sized_by == "exact" else None),
            "buffer_containers": (settings.buffer, spec.buffer_containers),
            "scaledown_window": (settings.scaledown_window_s, spec.scaledown_window_s),
        }
        return {name: value for name, (present, value) in wanted.items() if value is not None and value != present}
