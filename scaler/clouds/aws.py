"""AWS: one client per service, account and region; SDK errors as port errors.

Credentials come by the SDK's own chain: environment, profile, IRSA (web identity), EKS Pod Identity, instance role.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, TypeVar

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)

from scaler.clouds.account import AwsAccount
from scaler.ports import Context, Misconfigured, PortError, Unavailable

T = TypeVar("T")
CONNECT_S: Final = 3.0
"""For a TCP and TLS handshake: regional endpoints answer in well under a second."""
CONNECTIONS: Final = 50
"""Per client: 2,000 queues at 15 s are 133 calls a second, each some 20 ms."""
RETRIES: Final = 1
"""The next turn is the retry; one at once covers a connection that the far side had closed."""
HUMAN: Final = (NoCredentialsError, NoRegionError, PartialCredentialsError, ProfileNotFound, TokenRetrievalError)
MISCONFIGURED: Final = frozenset(
    {
        "AWS.SimpleQueueService.NonExistentQueue",
        "AccessDenied",
        "AccessDeniedException",
        "AuthFailure",
        "InvalidAccessKeyId",
        "InvalidAddress",
        "InvalidClientTokenId",
        "InvalidSecurity",
        "MissingAuthenticationToken",
        "QueueDoesNotExist",
        "SignatureDoesNotMatch",
        "UnauthorizedOperation",
        "UnrecognizedClientException",
    }
)
"""Codes that no retry mends; every other one (throttling, expired tokens, server faults) is taken as passing."""


async def client(context: Context, service: str, account: AwsAccount) -> Any:
    """The client of `service` that all adapters of this account and region share."""

    def opening() -> AbstractAsyncContextManager[Any]:
        config = AioConfig(
            connect_timeout=CONNECT_S,
            read_timeout=context.deadline_s,
            max_pool_connections=CONNECTIONS,
            retries={"total_max_attempts": 1 + RETRIES, "mode": "standard"},
        )
        session = AioSession(profile=account.profile)
        made: AbstractAsyncContextManager[Any] = session.create_client(
            service, region_name=account.region, endpoint_url=account.endpoint_url, config=config
        )
        return made

    try:
        return await context.shared(("aws", service, account), opening)
    except (BotoCoreError, ValueError) as e:
        raise Misconfigured(f"AWS {service}: {e}") from e


async def call(what: str, pending: Awaitable[T]) -> T:
    """The answer of an SDK call. Raises `Unavailable` or `Misconfigured`, naming `what` was called."""
    try:
        return await pending
    except ClientError as e:
        raise port_error(what, e) from e
    except HUMAN as e:
        raise Misconfigured(f"{what}: {e}") from e
    except (BotoCoreError, OSError, ValueError) as e:  # ValueError: an answer that is not what the SDK can parse
        raise Unavailable(f"{what}: {type(e).__name__}: {e}") from e


def port_error(what: str, error: ClientError) -> PortError:
    """A service's refusal by the remedy."""
    code = str(error.response.get("Error", {}).get("Code", "unknown"))
    message = str(error.response.get("Error", {}).get("Message", ""))
    text = f"{what}: {code}: {message}"
    return Misconfigured(text) if code in MISCONFIGURED else Unavailable(text)
