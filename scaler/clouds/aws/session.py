"""AWS: one session per account, one client per service; SDK errors become port errors.

The SDK's own chain provides credentials: environment, profile, IRSA (web identity), EKS Pod Identity, instance role.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version
from typing import Any, Final, TypeVar

import botocore
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore import xform_name
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

from scaler.clouds.api_budget import Api
from scaler.clouds.api_channel import Channel
from scaler.clouds.aws import service_models
from scaler.clouds.aws.account import AwsAccount
from scaler.clouds.aws.errors import port_error
from scaler.clouds.aws.http import BoundedSession, check_encodable
from scaler.clouds.response_validation import MALFORMED, list_of, one_line
from scaler.ports import Context, Misconfigured, PortError, Unavailable

T = TypeVar("T")
CONNECT_S: Final = 3.0
"""Time limit of a TCP and TLS handshake: regional endpoints answer in well under a second. Seconds."""
CONNECTIONS: Final = 50
"""Connections per client. 2,000 queues every 15 s make 133 calls a second of some 20 ms each: 3 at a time."""
USER_AGENT: Final = f"forescale/{version('forescale')} botocore/{botocore.__version__}"
"""The SDK's own header is computed twice for each call, which takes an eighth of the call's processor time."""
MAX_PAGES: Final = 50
"""Maximum pages of one list: more than any pool has, so that a repeated page token does not block a tick."""
GRANTED_AS: Final = {"DeleteMessageBatch": "DeleteMessage", "ListObjectsV2": "ListBucket"}
"""Operations that IAM grants under another name."""
IAM_NAMES: Final = {"elbv2": "elasticloadbalancing"}
"""The names of services in IAM, where they differ."""
APIS: Final = {
    "application-autoscaling": Api("aws/application-autoscaling", per_s=5.0, burst=25),
    "autoscaling": Api("aws/autoscaling", per_s=10.0, burst=50),
    "bedrock": Api("aws/bedrock", per_s=2.0, burst=10),
    "cloudwatch": Api("aws/cloudwatch", per_s=50.0, burst=200),
    "ec2": Api("aws/ec2", per_s=10.0, burst=50),
    "eks": Api("aws/eks", per_s=5.0, burst=25),
    "elbv2": Api("aws/elbv2", per_s=5.0, burst=25),
    "iam": Api("aws/iam", per_s=2.0, burst=10),
    "route53": Api("aws/route53", per_s=2.5, burst=25),
    "s3": Api("aws/s3", per_s=1500.0, burst=3000),
    "sagemaker": Api("aws/sagemaker", per_s=5.0, burst=25),
    "sqs": Api("aws/sqs", per_s=1000.0, burst=2000),
    "ssm": Api("aws/ssm", per_s=5.0, burst=25),
    "sts": Api("aws/sts", per_s=10.0, burst=20),
}
"""About half of an account's default limit in one region, since other clients call these APIs too. EC2 grants 20 reads
a second and 100 at once; CloudWatch 500 a second; Route 53 5 a second; S3 3,500 writes a second for each prefix; the
other APIs publish no figure; SQS has no limit that this daemon reaches."""
PAGE_TOKENS: Final = {"bedrock": "nextToken"}
"""The names of page tokens, where they differ."""
TRANSIENT: Final = (CredentialRetrievalError, EndpointConnectionError, HTTPClientError, MetadataRetrievalError)
"""Errors of opening a client while the credentials' provider is not up yet. All others are configuration errors."""
PERMANENT: Final = (
    FileNotFoundError,  # the web identity's token file
    NoCredentialsError,
    NoRegionError,
    PartialCredentialsError,
    PermissionError,
    ProfileNotFound,
    TokenRetrievalError,
)
UNREADABLE: Final = (ResponseParserError, *MALFORMED, RuntimeError)
"""Exceptions of the SDK's parsers for a response that differs from the service's model; `RuntimeError` is theirs for an
invalid time."""
NO_CREDENTIALS: Final = (
    "AWS: no credentials. Give the pod a role (EKS Pod Identity or IRSA), give the instance a role, or set AWS_PROFILE,"
    " or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)


async def client(context: Context, service: str, account: AwsAccount, read_s: float | None = None) -> Any:
    """Return the client of `service` that all adapters of this account share.

    Raises port errors.

    `read_s`: time limit of a response where it differs from the context's deadline, as for a long poll. Seconds.
    """

    def opening() -> AbstractAsyncContextManager[Any]:
        config = None if read_s is None else AioConfig(read_timeout=read_s)
        sdk_client: AbstractAsyncContextManager[Any] = session.create_client(
            service, endpoint_url=account.endpoint_url, config=config
        )
        return sdk_client

    try:
        async with asyncio.timeout(context.deadline_s):
            session = await context.shared(("aws", account), lambda: _session(account, context.deadline_s))
            return await context.shared(("aws", service, account, read_s), opening)
    except TimeoutError as e:
        raise Unavailable(f"AWS {service}: no credentials within {context.deadline_s:g} s") from e
    except NoRegionError as e:
        raise Misconfigured(
            f"AWS {service}: no region. Set account.region, AWS_REGION, or the region of the profile"
        ) from e
    except TRANSIENT as e:
        raise Unavailable(f"AWS {service}: {e}") from e
    except ClientError as e:
        raise port_error(f"AWS {service}", e) from e
    except (BotoCoreError, ValueError, FileNotFoundError, PermissionError) as e:
        raise Misconfigured(f"AWS {service}: {e}") from e


@asynccontextmanager
async def _session(account: AwsAccount, deadline_s: float) -> AsyncIterator[AioSession]:
    """Open a session with credentials.

    Its region and limits also apply to the calls that renew them.
    """
    session = AioSession(profile=account.profile)
    session.register_component("data_loader", service_models.loader())
    if region := account.region or os.environ.get("AWS_REGION"):  # the SDK reads AWS_DEFAULT_REGION only
        session.set_config_variable("region", region)
    config = AioConfig(
        connect_timeout=CONNECT_S,
        read_timeout=deadline_s,
        max_pool_connections=CONNECTIONS,
        retries={"total_max_attempts": 1, "mode": "standard"},
        http_session_cls=BoundedSession,
        user_agent=USER_AGENT,
    )
    session.set_default_client_config(config)
    if await session.get_credentials() is None:
        raise Misconfigured(NO_CREDENTIALS)
    yield session


class AwsService:
    """Client of one service of an account, within its budget."""

    def __init__(self, client: Any, channel: Channel, service: str) -> None:
        self._client = client
        self._channel = channel
        self._service = service

    async def call(
        self,
        operation: str,
        about: str = "",
        *,
        write: bool = False,
        repeat: bool | None = None,
        deadline_s: float | None = None,
        **request: Any,
    ) -> Any:
        """Return the response to `operation`, named as in IAM.

        `about` names the resource. Raises port errors.
        """
        name = f"{self._service}:{GRANTED_AS.get(operation, operation)}"
        what = f"AWS {name}" + (f" of {about}" if about else "")
        send = getattr(self._client, xform_name(operation))
        return await self._channel.call(
            name, lambda: _await_response(what, send(**request)), write=write, repeat=repeat, deadline_s=deadline_s
        )

    async def pages(
        self, operation: str, member: str, about: str = "", *, urgent: bool = False, **request: Any
    ) -> list[Any]:
        """Return the items of the list `member` from all pages. Raises port errors.

        `urgent`: a write waits for it, so it does not give way as reads do.
        """
        token = PAGE_TOKENS.get(self._service, "NextToken")
        items: list[Any] = []
        for _ in range(MAX_PAGES):
            response = await self.call(operation, about, write=urgent, repeat=True, **request)
            items += list_of(f"AWS {self._service}:{operation} of {about}", response, member)
            if not response.get(token):
                return items
            request[token] = response[token]
        raise Unavailable(f"AWS {self._service}:{operation} of {about}: the response has more than {MAX_PAGES} pages")

    async def describe(  # noqa: PLR0913 - one call's parameters
        self, operation: str, member: str, key: str, parameter: str, names: Sequence[str], *, urgent: bool
    ) -> dict[str, Any]:
        """Return the items of the list `member` by their `key`; as `pages`.

        The call requests the items with these values (`names`) of `parameter`.
        """
        request = {parameter: list(names)}
        items = await self.pages(operation, member, ", ".join(names[:3]), urgent=urgent, **request)
        return {item[key]: item for item in items}


async def service(context: Context, name: str, account: AwsAccount, read_s: float | None = None) -> AwsService:
    """Return the service that all adapters of this account share; `read_s` as in `client`.

    Raises port errors.
    """
    sdk_client = await client(context, name, account, read_s)
    return AwsService(sdk_client, Channel(context, APIS[name], account), IAM_NAMES.get(name, name))


async def _await_response(what: str, pending: Awaitable[T]) -> T:
    """Return the response of an SDK call. Raises port errors that name `what` was called."""
    try:
        response = await pending
    except PortError as e:  # from the session, which does not know the call
        raise type(e)(f"{what}: {e}") from e
    except ClientError as e:
        raise port_error(what, e) from e
    except PERMANENT as e:
        raise Misconfigured(f"{what}: {e}") from e
    except (BotoCoreError, OSError, *UNREADABLE) as e:
        raise Unavailable(f"{what}: {type(e).__name__}: {one_line(e)}") from e
    return check_encodable(what, response)
