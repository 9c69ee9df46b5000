"""Modal's client, and objects of deployed apps, called by Modal's SDK over gRPC.

The SDK runs in a thread of its own, and retries broken calls three times with one idempotency key, so that Modal
applies a repeated write once. The address is the SDK's: `MODAL_SERVER_URL`, or Modal's own.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final, TypeVar

import modal

from scaler.clouds.api_budget import Api
from scaler.clouds.api_channel import Channel
from scaler.clouds.modal.errors import port_errors
from scaler.clouds.response_validation import unavailable_if_malformed
from scaler.config.kinds.modal import ModalName, ModalTokens
from scaler.ports import Context, Misconfigured

T = TypeVar("T")
API: Final = Api("modal", per_s=5.0, burst=50)
"""Modal publishes no limit of its API: the daemon stays at a modest rate."""


class ModalObject:
    """A function or server of a deployed app.

    `kind` is its class in the SDK: `Function` or `Server`.
    """

    def __init__(self, spec: ModalName, context: Context, client: modal.Client, kind: Any) -> None:
        self.name = f"Modal {kind.__name__.lower()} {spec.title}"
        self._spec = spec
        self._client = client
        self._kind = kind
        self._channel = Channel(context, API, spec.tokens.identity)
        self._handle: Any = None

    async def call(
        self, operation: str, call: Callable[[Any], Awaitable[T]], *, urgent: bool = False, write: bool = False
    ) -> T:
        """Return the response to a call of the SDK's object. Raises port errors."""
        attempt = partial(self._attempt, operation, call, write=write)
        return await self._channel.call(f"{self.name}: {operation}", attempt, write=urgent or write, repeat=False)

    async def _attempt(self, operation: str, call: Callable[[Any], Awaitable[T]], *, write: bool) -> T:
        self._handle = self._handle or self._named()
        try:
            with unavailable_if_malformed(self.name), port_errors(f"{operation} of {self._spec.title}", write=write):
                return await call(self._handle)
        except Misconfigured:
            self._handle = None  # a deleted and deployed object has another ID
            raise

    def _named(self) -> Any:
        spec = self._spec
        if spec.function_id is not None:
            return self._kind.from_id(spec.function_id, client=self._client)
        return self._kind.from_name(
            spec.app or "", spec.function or "", environment_name=spec.environment, client=self._client
        )


async def open_object(spec: ModalName, context: Context, kind: Any) -> ModalObject:
    """Open a function or server without reading it. Raises port errors."""
    client = await context.shared(("modal", spec.tokens.identity), partial(_client, spec.tokens))
    return ModalObject(spec, context, client, kind)


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
