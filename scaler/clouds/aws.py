"""AWS: one session per account, one client per service of it; SDK errors as port errors.

Credentials come by the SDK's own chain: environment, profile, IRSA (web identity), EKS Pod Identity, instance role.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, TypeVar

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    EndpointConnectionError,
    HTTPClientError,
    MetadataRetrievalError,
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    ProfileNotFound,
    TokenRetrievalError,
)
from botocore.parsers import ResponseParserError

from scaler.clouds.account import AwsAccount
from scaler.ports import Context, Misconfigured, PortError, Unavailable

T = TypeVar("T")
CONNECT_S: Final = 3.0
"""For a TCP and TLS handshake: regional endpoints answer in well under a second."""
CONNECTIONS: Final = 50
"""Per client: 2,000 queues at 15 s are 133 calls a second, each some 20 ms."""
RETRIES: Final = 1
"""The next turn is the retry; one at once covers a connection that the far side had closed."""
THROTTLED_S: Final = 5.0
"""The pause after a throttle that names none: the limits are a second's worth of calls, and others need them too."""
MAX_RETRY_AFTER_S: Final = 60.0
"""The longest pause that a service is granted: its readings would be stale after it, and scale-in is blocked then."""
PASSING: Final = (CredentialRetrievalError, EndpointConnectionError, HTTPClientError, MetadataRetrievalError)
"""While opening: the agent that lends credentials is not up yet. All else that goes wrong there is configuration."""
HUMAN: Final = (
    FileNotFoundError,  # the web identity's token file
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    PermissionError,
    ProfileNotFound,
    TokenRetrievalError,
)
MISCONFIGURED: Final = frozenset(
    {
        "AccessDenied",
        "AuthFailure",
        "ExpiredToken",  # the SDK renews those that it can: these are pasted ones, or the clock is wrong
        "IDPRejectedClaim",
        "IncompleteSignature",
        "InvalidAccessKeyId",
        "InvalidAddress",
        "InvalidClientTokenId",
        "InvalidIdentityToken",
        "InvalidParameterValue",
        "InvalidSecurity",
        "InvalidSignature",
        "MissingAuthenticationToken",
        "NonExistentQueue",
        "NotAuthorized",
        "OptInRequired",
        "QueueDoesNotExist",
        "RequestExpired",
        "SignatureDoesNotMatch",
        "UnauthorizedOperation",
        "UnrecognizedClient",
        "UnsupportedOperation",
        "Validation",
        "ValidationError",
    }
)
"""Codes, as `bare` gives them, that no retry mends; every other one is taken as passing."""
THROTTLES: Final = frozenset(
    {
        "BandwidthLimitExceeded",
        "RequestLimitExceeded",
        "RequestThrottled",
        "SlowDown",
        "Throttled",
        "Throttling",
        "TooManyRequests",
    }
)
UNREADABLE: Final = (ResponseParserError, AttributeError, LookupError, TypeError, ValueError)
"""What the SDK's parsers let through when an answer is of another shape than the service's model says."""
MESSAGE_CHARS: Final = 300
"""Of an SDK's message, kept in errors: AWS's own refusals fit, with the ARNs in them."""
NO_CREDENTIALS: Final = (
    "AWS: no credentials. Give the pod a role (EKS Pod Identity, or IRSA by its service account's annotation), or the"
    " instance one, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)


async def client(context: Context, service: str, account: AwsAccount) -> Any:
    """The client of `service` that all adapters of this account share. Raises `Unavailable` or `Misconfigured`."""

    def opening() -> AbstractAsyncContextManager[Any]:
        made: AbstractAsyncContextManager[Any] = session.create_client(service, endpoint_url=account.endpoint_url)
        return made

    try:
        async with asyncio.timeout(context.deadline_s):
            session = await context.shared(("aws", account), lambda: _session(account, context.deadline_s))
            return await context.shared(("aws", service, account), opening)
    except TimeoutError as e:
        raise Unavailable(f"AWS {service}: no credentials within {context.deadline_s:g} s") from e
    except NoRegionError as e:
        raise Misconfigured(f"AWS {service}: no region. Set account.region, AWS_REGION or the profile's region") from e
    except PASSING as e:
        raise Unavailable(f"AWS {service}: {e}") from e
    except ClientError as e:
        raise port_error(f"AWS {service}", e) from e
    except (BotoCoreError, ValueError, FileNotFoundError, PermissionError) as e:
        raise Misconfigured(f"AWS {service}: {e}") from e


@asynccontextmanager
async def _session(account: AwsAccount, deadline_s: float) -> AsyncIterator[AioSession]:
    """A session with credentials. Its region and limits hold for the calls that renew them, too."""
    session = AioSession(profile=account.profile)
    if region := account.region or os.environ.get("AWS_REGION"):  # this SDK knows AWS_DEFAULT_REGION only
        session.set_config_variable("region", region)
    config = AioConfig(
        connect_timeout=CONNECT_S,
        read_timeout=deadline_s,
        max_pool_connections=CONNECTIONS,
        retries={"total_max_attempts": 1 + RETRIES, "mode": "standard"},
    )
    session.set_default_client_config(config)
    if await session.get_credentials() is None:
        raise Misconfigured(NO_CREDENTIALS)
    yield session


async def call(what: str, pending: Awaitable[T]) -> T:
    """The answer of an SDK call. Raises `Unavailable` or `Misconfigured`, naming `what` was called."""
    try:
        return await pending
    except ClientError as e:
        raise port_error(what, e) from e
    except HUMAN as e:
        raise Misconfigured(f"{what}: {e}") from e
    except (BotoCoreError, OSError, *UNREADABLE) as e:
        raise Unavailable(f"{what}: {type(e).__name__}: {_short(e)}") from e


def port_error(what: str, error: ClientError) -> PortError:
    """A service's refusal by the remedy."""
    code = str(error.response.get("Error", {}).get("Code", "unknown"))
    message = _short(error.response.get("Error", {}).get("Message", ""))
    by = "" if error.operation_name in what else f"{error.operation_name}: "
    text = f"{what}: {by}{code}: {message}"
    if bare(code) in MISCONFIGURED:
        return Misconfigured(text)
    headers = error.response.get("ResponseMetadata", {}).get("HTTPHeaders", {})
    return Unavailable(text, _retry_after_s(headers, THROTTLED_S if bare(code) in THROTTLES else None))


def _short(text: object) -> str:
    """One line of it: some answers are whole web pages."""
    return " ".join(str(text).split())[:MESSAGE_CHARS]


def bare(code: str) -> str:
    """A code without what the protocols add: ``AWS.SimpleQueueService.X``, ``com.amazonaws.sqs#X``, ``XException``."""
    return code.rpartition("#")[2].rpartition(".")[2].removesuffix("Exception")


def _retry_after_s(headers: Mapping[str, str], default: float | None) -> float | None:
    """How long the service asks to be left alone, within reason."""
    for name, unit_s in (("retry-after", 1.0), ("x-amz-retry-after", 0.001)):
        try:
            asked = float(headers.get(name, "")) * unit_s
        except ValueError:  # absent, or a date
            continue
        if math.isfinite(asked) and asked > 0:
            return min(asked, MAX_RETRY_AFTER_S)
    return default
