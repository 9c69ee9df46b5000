"""Pub/Sub over gRPC: one channel per account, with this daemon's own tokens.

Each call is within the shared budget.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import grpc
from google.api_core import exceptions
from google.pubsub_v1 import SubscriberAsyncClient
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcAsyncIOTransport
from google.pubsub_v1.types import ReceivedMessage, Subscription

from scaler.clouds.api_channel import CALL_SHARE, Channel
from scaler.clouds.gcp import errors, session
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.response_validation import one_line
from scaler.clouds.rest import BearerTokens
from scaler.ports import Context, Misconfigured, PortError, Throttled, Unavailable

T = TypeVar("T")
GET: Final = "pubsub.subscriptions.get"
CONSUME: Final = "pubsub.subscriptions.consume"
OPTIONS: Final = (
    ("grpc.enable_retries", 0),
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 2000),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 5_000),
)
"""A broken connection is retried within seconds; keepalives detect a silent one while no call is in flight."""
STATUS: Final = {"PERMISSION_DENIED": 403, "UNAUTHENTICATED": 401, "NOT_FOUND": 404, "INVALID_ARGUMENT": 400}
MAX_MESSAGES: Final = 100
"""Maximum number of messages in one pull."""


class Subscriber:
    """Client of the Pub/Sub subscriptions in one project."""

    def __init__(self, client: SubscriberAsyncClient, tokens: BearerTokens, channel: Channel, project: str) -> None:
        self._client = client
        self._tokens = tokens
        self._channel = channel
        self._project = project

    async def get(self, subscription: str, deadline_s: float) -> Subscription:
        """Return a subscription's settings. Raises port errors."""
        request_fields = {"subscription": self._path(subscription)}
        return await self._call(GET, subscription, deadline_s, self._client.get_subscription, request_fields)

    async def pull(self, subscription: str, wait_s: float) -> Sequence[ReceivedMessage]:
        """Return the messages that are available within `wait_s` seconds. Raises port errors."""
        request_fields = {"subscription": self._path(subscription), "max_messages": MAX_MESSAGES}

        async def pull(**kwargs: Any) -> Sequence[ReceivedMessage]:
            try:
                response = await self._client.pull(**kwargs)
            except exceptions.DeadlineExceeded:
                return ()
            return tuple(response.received_messages)

        return await self._call(CONSUME, subscription, wait_s, pull, request_fields, limit_s=wait_s + 10.0)

    async def acknowledge(self, subscription: str, ids: Sequence[str], deadline_s: float) -> None:
        """Acknowledge messages; repeating it does no harm. Raises port errors."""
        request_fields = {"subscription": self._path(subscription), "ack_ids": list(ids)}
        await self._call(CONSUME, subscription, deadline_s, self._client.acknowledge, request_fields)

    def _path(self, subscription: str) -> str:
        return f"projects/{self._project}/subscriptions/{subscription}"

    async def _call(  # noqa: PLR0913 - one call's parameters
        self,
        permission: str,
        about: str,
        deadline_s: float,
        send: Callable[..., Awaitable[T]],
        request_fields: dict[str, Any],
        limit_s: float | None = None,
    ) -> T:
        async def attempt() -> T:
            token = await self._tokens.get()
            options = {"metadata": [("authorization", f"Bearer {token}")], "retry": None, "timeout": deadline_s}
            try:
                return await send(request=request_fields, **options)
            except exceptions.GoogleAPICallError as e:
                if isinstance(e, exceptions.Unauthenticated) and self._tokens.refuse(token):
                    raise Unavailable(f"GCP {permission} of {about}: the token was rejected") from e
                raise refused(f"{permission} of {about}", e) from e

        return await self._channel.call(permission, attempt, deadline_s=limit_s or CALL_SHARE * deadline_s)


def refused(what: str, error: exceptions.GoogleAPICallError) -> PortError:
    """Return the port error for a failed call."""
    name = error.grpc_status_code.name if error.grpc_status_code is not None else "UNKNOWN"
    text = one_line(error.message or name)
    if name == "RESOURCE_EXHAUSTED":
        return Throttled(f"GCP {what}: {text}")
    if name in {"UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "UNKNOWN", "CANCELLED", "DATA_LOSS"}:
        return Unavailable(f"GCP {what}: {name}: {text}")
    return errors.port_error(what, errors.GcpFailure(frozenset({name}), text), STATUS.get(name, 400))


async def subscriber(context: Context, project: GcpProject) -> Subscriber:
    """Return the subscriptions' client, on one connection for all adapters.

    Raises `Misconfigured`.
    """

    @asynccontextmanager
    async def opening() -> AsyncIterator[SubscriberAsyncClient]:
        credentials = grpc.ssl_channel_credentials(_trust(project.ca_file))
        channel = grpc.aio.secure_channel(project.endpoints.pubsub, credentials, options=OPTIONS)
        try:
            yield SubscriberAsyncClient(transport=SubscriberGrpcAsyncIOTransport(channel=channel))
        finally:
            await channel.close()

    client = await context.shared(("gcp", "pubsub", project.endpoints.pubsub, project.ca_file), opening)
    tokens = (await session.account(context, project)).tokens
    return Subscriber(client, tokens, Channel(context, session.APIS["pubsub"], project.id), project.id)


def _trust(ca_file: str | None) -> bytes | None:
    if ca_file is None:
        return None
    try:
        return Path(ca_file).read_bytes()
    except OSError as e:
        raise Misconfigured(f"GCP: project.ca_file: {e}") from e
