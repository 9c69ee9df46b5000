"""Functions of Modal, read and resized by its SDK over gRPC.

The SDK runs in a thread of its own, and retries broken calls three times with one idempotency key, so that Modal
applies a repeated write once. The address is the SDK's: `MODAL_SERVER_URL`, or Modal's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

import modal

from scaler.clouds.api_budget import Api
from scaler.clouds.api_channel import Channel
from scaler.clouds.modal.errors import port_errors
from scaler.clouds.response_validation import machine_count, unavailable_if_malformed
from scaler.config.kinds.modal import ModalFunction, ModalTokens
from scaler.ports import Context, Misconfigured

T = TypeVar("T")
API: Final = Api("modal", per_s=5.0, burst=50)
"""Modal publishes no limit of its API: the daemon stays at a modest rate."""


@dataclass(frozen=True, slots=True)
class Settings:
    """A function's autoscaler settings. None: Modal's default, or no limit."""

    minimum: int
    maximum: int | None
    buffer: int | None
    scaledown_window_s: int | None


class Function:
    """One function of a deployed app, or the function of a class."""

    def __init__(self, spec: ModalFunction, context: Context, client: modal.Client) -> None:
        self.name = f"Modal function {spec.title}"
        self._spec = spec
        self._client = client
        self._channel = Channel(context, API, spec.tokens.identity)
        self._handle: Any = None

    async def read(self) -> tuple[Settings, int]:
        """Return the settings, and the number of containers that run."""
        settings, stats = await asyncio.gather(
            self._call("FunctionGetSchedulingParams", lambda f: f.autoscaler.settings.aio()),
            self._call("FunctionGetCurrentStats", lambda f: f.get_current_stats.aio()),
        )
        with unavailable_if_malformed(self.name):
            return self._parsed(settings), machine_count(f"{self.name}: num_total_runners", stats.num_total_runners)

    async def settings(self) -> Settings:
        """Return the settings before a write."""
        settings = await self._call("FunctionGetSchedulingParams", lambda f: f.autoscaler.settings.aio(), urgent=True)
        with unavailable_if_malformed(self.name):
            return self._parsed(settings)

    async def update(self, **changes: int) -> None:
        """Change settings; the others stay."""
        await self._call(
            "FunctionUpdateSchedulingParams", lambda f: f.autoscaler.update.aio(**changes), urgent=True, write=True
        )

    async def _call(
        self, operation: str, call: Callable[[Any], Awaitable[T]], *, urgent: bool = False, write: bool = False
    ) -> T:
        attempt = partial(self._attempt, operation, call, write=write)
        return await self._channel.call(f"{self.name}: {operation}", attempt, write=urgent or write, repeat=False)

    async def _attempt(self, operation: str, call: Callable[[Any], Awaitable[T]], *, write: bool) -> T:
        self._handle = self._handle or self._named()
        try:
            with unavailable_if_malformed(self.name), port_errors(f"{operation} of {self._spec.title}", write=write):
                return await call(self._handle)
        except Misconfigured:
            self._handle = None  # a deleted and deployed function has another ID
            raise

    def _named(self) -> Any:
        spec = self._spec
        if spec.function_id is not None:
            return modal.Function.from_id(spec.function_id, client=self._client)
        return modal.Function.from_name(
            spec.app or "", spec.function or "", environment_name=spec.environment, client=self._client
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


async def open_function(spec: ModalFunction, context: Context) -> Function:
    """Open a function without reading it. Raises port errors."""
    client = await context.shared(("modal", spec.tokens.identity), partial(_client, spec.tokens))
    return Function(spec, context, client)


@asynccontextmanager
async def _client(tokens: ModalTokens) -> AsyncIterator[modal.Client]:
    """Open the client of one workspace."""
    with port_errors("credentials", write=False):
        if tokens.token_id is None or tokens.token_secret is None:
            yield await modal.Client.from_env.aio()  # one for the process, which the SDK closes at its end
            return
        client = await modal.Client.from_credentials.aio(tokens.token_id.read(), tokens.token_secret.read())
    try:
        yield client
    finally:
        await client.close.aio()
