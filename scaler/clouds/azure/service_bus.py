"""Service Bus namespaces: one SDK client per namespace and identity.

All callers share one read of an entity. Counting is expensive for the broker, so a response is shared for some seconds
and each namespace has its own budget.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from azure.core.credentials import AccessToken
from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.servicebus.aio.management import ServiceBusAdministrationClient

from scaler.clock import SystemClock
from scaler.clouds.api_channel import Channel
from scaler.clouds.azure.account import AzureAccount
from scaler.clouds.azure.errors import error_of_code, retry_after_s
from scaler.clouds.azure.session import APIS, Identity, identity
from scaler.clouds.azure.shared_reads import RecentAnswers, recent
from scaler.clouds.azure.transport import transport
from scaler.clouds.response_validation import MALFORMED, one_line
from scaler.config.secret import Secret
from scaler.ports import Context, Misconfigured, PortError, Unavailable

OPERATION: Final = "Microsoft.ServiceBus/namespaces/queues/read"
OPERATION_OF_TOPICS: Final = "Microsoft.ServiceBus/namespaces/topics/subscriptions/read"
THROTTLED_S: Final = 2.0
"""Pause that Service Bus requests of a throttled caller. Seconds."""
LEASE_S: Final = 600.0
"""Token lifetime reported to the SDK, which requests a new token 300 s before its end. Seconds."""
KINDS: Final = {
    "visible": "active_message_count",
    "delayed": "scheduled_message_count",
    "dead_letter": "dead_letter_message_count",
    "transfer": "transfer_message_count",
    "transfer_dead_letter": "transfer_dead_letter_message_count",
}
"""The SDK's property of each quantity. A subscription has no scheduled messages: they wait in the topic."""


@dataclass(frozen=True, slots=True)
class Entity:
    """A queue, or a subscription of the topic `name`."""

    name: str
    subscription: str | None = None

    @property
    def path(self) -> str:
        return self.name if self.subscription is None else f"{self.name}/subscriptions/{self.subscription}"


@dataclass(frozen=True, slots=True)
class MessageCounts:
    """Messages by kind; a kind that was not reported is None."""

    by_kind: dict[str, object]


class _SharedCredential:
    """This daemon's tokens as the SDK's credential."""

    def __init__(self, owner: Identity, scope: str) -> None:
        self._tokens = owner.tokens(scope)

    async def get_token(self, *_: str, **__: Any) -> AccessToken:
        return AccessToken(await self._tokens.get(), int(SystemClock().now() + LEASE_S))

    async def close(self) -> None:
        """Do nothing: the identity's owner closes it."""

    async def __aenter__(self) -> _SharedCredential:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass


class Namespace:
    """Client of one namespace with one identity."""

    def __init__(
        self, client: ServiceBusAdministrationClient, host: str, channel: Channel, shared: RecentAnswers
    ) -> None:
        self._client = client
        self._host = host
        self._channel = channel
        self._recent = shared

    async def counts(self, entity: Entity, max_age_s: float) -> tuple[MessageCounts, float]:
        """Return the counts and the time of their request, at most `max_age_s` seconds ago.

        Raises port errors.
        """
        return await self._recent.get((self._client, entity), max_age_s, lambda: self._count(entity))

    async def _count(self, entity: Entity) -> MessageCounts:
        operation = OPERATION if entity.subscription is None else OPERATION_OF_TOPICS
        return await self._channel.call(operation, lambda: self._request(entity, operation))

    async def _request(self, entity: Entity, operation: str) -> MessageCounts:
        what = f"Azure {operation} of {entity.path} at {self._host}"
        try:
            if entity.subscription is None:
                properties: Any = await self._client.get_queue_runtime_properties(entity.name)
            else:
                properties = await self._client.get_subscription_runtime_properties(entity.name, entity.subscription)
            kinds = {k: p for k, p in KINDS.items() if entity.subscription is None or k != "delayed"}
            return MessageCounts({kind: getattr(properties, name) for kind, name in kinds.items()})
        except ResourceNotFoundError as e:
            raise Misconfigured(f"{what}: it does not exist, or the credentials may not read it: {one_line(e)}") from e
        except HttpResponseError as e:
            raise _refusal(what, e) from e
        except AzureError as e:
            untrusted = "CERTIFICATE_VERIFY_FAILED" in str(e)
            raise (Misconfigured if untrusted else Unavailable)(f"{what}: {type(e).__name__}: {one_line(e)}") from e
        except OSError as e:  # the CA file: network failures come as SDK errors
            raise Misconfigured(f"{what}: {one_line(e)}") from e
        except MALFORMED as e:
            raise Unavailable(f"{what}: malformed response: {one_line(e)}") from e


def _refusal(what: str, error: HttpResponseError) -> PortError:
    """Return the port error for a refusal.

    The broker's subcode 50009 is a throttled namespace, with any status.
    """
    text = one_line(error.message or error)
    headers = getattr(error.response, "headers", None) or {}
    wait_s = retry_after_s(headers)
    code = "50009" if "50009" in text else ""
    if code or error.status_code == 429:
        wait_s = wait_s or THROTTLED_S
    if error.status_code in {401, 403}:
        grant = "grant the Manage right, or the role Azure Service Bus Data Owner, to count messages"
        return Misconfigured(f"{what}: HTTP {error.status_code}: {text}: {grant}")
    return error_of_code(code, f"{what}: HTTP {error.status_code}: {text}", error.status_code, wait_s)


async def namespace(context: Context, host: str, account: AzureAccount, connection: Secret | None) -> Namespace:
    """Return the namespace client that all its sources share. Raises `Misconfigured`.

    `host` is its full name, with a port other than 443; `connection` is a connection string that replaces the identity.
    """

    @asynccontextmanager
    async def opening() -> AsyncIterator[ServiceBusAdministrationClient]:
        options: dict[str, Any] = {"retry_total": 0, "transport": transport(account.ca_file)}
        try:
            if connection is not None:
                sdk_client = ServiceBusAdministrationClient.from_connection_string(connection.read(), **options)
            else:
                scope = "https://servicebus.azure.net/.default"
                credential: Any = _SharedCredential(await identity(context, account), scope)
                sdk_client = ServiceBusAdministrationClient(host, credential, **options)
        except MALFORMED as e:
            raise Misconfigured(f"Azure Service Bus: the connection string is malformed: {type(e).__name__}") from e
        async with sdk_client:
            yield sdk_client

    client = await context.shared(("azure-bus", host, account, connection), opening)
    channel = Channel(context, APIS["service_bus"], host)
    return Namespace(client, client.fully_qualified_namespace, channel, await recent(context))
