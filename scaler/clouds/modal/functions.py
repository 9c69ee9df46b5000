"""Functions of Modal: their autoscaler settings, and their containers that run."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import modal

from scaler.clouds.modal.client import ModalObject, open_object
from scaler.clouds.response_validation import machine_count, unavailable_if_malformed
from scaler.config.kinds.modal import ModalName
from scaler.ports import Context


@dataclass(frozen=True, slots=True)
class Settings:
    """A function's autoscaler settings. None: Modal's default, or no limit."""

    minimum: int
    maximum: int | None
    buffer: int | None
    scaledown_window_s: int | None


class Function:
    """One function of a deployed app, or the function of a class."""

    def __init__(self, calls: ModalObject) -> None:
        self.name = calls.name
        self._calls = calls

    async def read(self) -> tuple[Settings, int]:
        """Return the settings, and the number of containers that run."""
        settings, stats = await asyncio.gather(
            self._calls.call("FunctionGetSchedulingParams", lambda f: f.autoscaler.settings.aio()),
            self._calls.call("FunctionGetCurrentStats", lambda f: f.get_current_stats.aio()),
        )
        with unavailable_if_malformed(self.name):
            return self._parsed(settings), machine_count(f"{self.name}: num_total_runners", stats.num_total_runners)

    async def settings(self) -> Settings:
        """Return the settings before a write."""
        settings = await self._calls.call(
            "FunctionGetSchedulingParams", lambda f: f.autoscaler.settings.aio(), urgent=True
        )
        with unavailable_if_malformed(self.name):
            return self._parsed(settings)

    async def update(self, **changes: int) -> None:
        """Change settings; the others stay."""
        await self._calls.call(
            "FunctionUpdateSchedulingParams", lambda f: f.autoscaler.update.aio(**changes), urgent=True, write=True
        )

    def _parsed(self, settings: Any) -> Settings:
        def count(value: Any, field: str) -> int | None:
            return None if value is None else machine_count(f"{self.name}: {field}", value)

        return Settings(
            count(settings.min_containers, "min_containers") or 0,
            count(settings.max_containers, "max_containers"),
            count(settings.buffer_containers, "buffer_containers"),
            count(settings.scaledown_window, "scaledown_window"),
        )


async def open_function(spec: ModalName, context: Context) -> Function:
    """Open a function without reading it. Raises port errors."""
    return Function(await open_object(spec, context, modal.Function))
