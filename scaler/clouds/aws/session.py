"""AWS: one session per account, one client per service of it; SDK errors as port errors.

Credentials come by the SDK's own chain: environment, profile, IRSA (web identity), EKS Pod Identity, instance role.
"""

from __future__ import annotations

import asyncio
import functools
import os
from collections.abc import AsyncIterator, Awaitable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final, TypeVar

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
from botocore.loaders import Loader, create_loader
from botocore.parsers import ResponseParserError

from scaler.clouds.api_budget import Api
from scaler.clouds.api_channel import Channel
from scaler.clouds.aws.account import AwsAccount
from scaler.clouds.aws.errors import port_error
from scaler.clouds.aws.http import BoundedSession, checked
from scaler.clouds.response_validation import MALFORMED, list_of, one_line
from scaler.ports import Context, Misconfigured, PortError, Unavailable

T = TypeVar("T")
CONNECT_S: Final = 3.0
"""For a TCP and TLS handshake: regional endpoints answer in well under a second."""
CONNECTIONS: Final = 50
"""Per client: 2,000 queues at 15 s are 133 calls a second, each some 20 ms."""
MOST_PAGES: Final = 50
"""Of one listing: more than any pool has, so that a repeated token does not hold a tick for ever."""
GRANTED_AS: Final = {"DeleteMessageBatch": "DeleteMessage"}
"""Operations that IAM grants under another name."""
APIS: Final = {
    "autoscaling": Api("aws/autoscaling", per_s=10.0, burst=50),
    "cloudwatch": Api("aws/cloudwatch", per_s=50.0, burst=200),
    "ec2": Api("aws/ec2", per_s=10.0, burst=50),
    "eks": Api("aws/eks", per_s=5.0, burst=25),
    "iam": Api("aws/iam", per_s=2.0, burst=10),
    "sqs": Api("aws/sqs", per_s=1000.0, burst=2000),
    "sts": Api("aws/sts", per_s=10.0, burst=20),
}
"""About half of what an account is granted in one region by default, for others call there too. EC2 grants 20 reads a
second and 100 at once; Auto Scaling, EKS and IAM name no figure; CloudWatch 500 a second; SQS no limit that we meet."""
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
UNREADABLE: Final = (ResponseParserError, *MALFORMED, RuntimeError)
"""What the SDK's parsers let through when an answer is of another shape than the service's model says; `RuntimeError`
is theirs for a time that is none."""
NO_CREDENTIALS: Final = (
    "AWS: no credentials. Give the pod a role (EKS Pod Identity, or IRSA by its service account's annotation), or the"
    " instance one, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
)


async def client(context: Context, service: str, account: AwsAccount, read_s: float | None = None) -> Any:
    """Return the client of `service` that all adapters of this account share.

    Raises port errors.

    `read_s`: how long an answer may take where that is not the context's deadline, as for a poll that stands.
    """

    def opening() -> AbstractAsyncContextManager[Any]:
        config = None if read_s is None else AioConfig(read_timeout=read_s)
        made: AbstractAsyncContextManager[Any] = session.create_client(
            service, endpoint_url=account.endpoint_url, config=config
        )
        return made

    try:
        async with asyncio.timeout(context.deadline_s):
            session = await context.shared(("aws", account), lambda: _session(account, context.deadline_s))
            return await context.shared(("aws", service, account, read_s), opening)
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
    """Return a session with credentials.

    Its region and limits hold for the calls that renew them, too.
    """
    session = AioSession(profile=account.profile)
    session.register_component("data_loader", _loader())
    if region := account.region or os.environ.get("AWS_REGION"):  # this SDK knows AWS_DEFAULT_REGION only
        session.set_config_variable("region", region)
    config = AioConfig(
        connect_timeout=CONNECT_S,
        read_timeout=deadline_s,
        max_pool_connections=CONNECTIONS,
        retries={"total_max_attempts": 1, "mode": "standard"},
        http_session_cls=BoundedSession,
    )
    session.set_default_client_config(config)
    if await session.get_credentials() is None:
        raise Misconfigured(NO_CREDENTIALS)
    yield session


@functools.cache
def _loader() -> Loader:
    """Return the services' models, read once for all accounts: EC2's alone is tens of megabytes."""
    return create_loader(os.environ.get("AWS_DATA_PATH"))


class AwsService:
    """One service of an account, as an adapter calls it."""

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
        """Return the answer to `operation`, named as in IAM.

        Raises port errors. `about` names the resource in errors.
        """
        name = f"{self._service}:{GRANTED_AS.get(operation, operation)}"
        what = f"AWS {self._service}:{operation}" + (f" of {about}" if about else "")
        send = getattr(self._client, xform_name(operation))
        return await self._channel.call(
            name, lambda: _answer(what, send(**request)), write=write, repeat=repeat, deadline_s=deadline_s
        )

    async def pages(
        self, operation: str, member: str, about: str = "", *, urgent: bool = False, **request: Any
    ) -> list[Any]:
        """Return all pages of the list `member`.

        Raises port errors; an answer without the list is `Unavailable`.

        `urgent`: a write waits for it, so it does not give way as reads do.
        """
        found: list[Any] = []
        for _ in range(MOST_PAGES):
            answer = await self.call(operation, about, write=urgent, repeat=True, **request)
            found += list_of(f"AWS {self._service}:{operation} of {about}", answer, member)
            if not answer.get("NextToken"):
                return found
            request["NextToken"] = answer["NextToken"]
        raise Unavailable(f"AWS {self._service}:{operation} of {about}: more than {MOST_PAGES} pages")


async def service(context: Context, name: str, account: AwsAccount, read_s: float | None = None) -> AwsService:
    """Return the service that all adapters of this account share; `read_s` as of `client`.

    Raises port errors.
    """
    made = await client(context, name, account, read_s)
    return AwsService(made, Channel(context, APIS[name], account), name)


async def _answer(what: str, pending: Awaitable[T]) -> T:
    """Return the answer of an SDK call. Raises port errors that name `what` was called."""
    try:
        answer = await pending
    except PortError as e:  # of the session, which does not know what was called
        raise type(e)(f"{what}: {e}") from e
    except ClientError as e:
        raise port_error(what, e) from e
    except HUMAN as e:
        raise Misconfigured(f"{what}: {e}") from e
    except (BotoCoreError, OSError, *UNREADABLE) as e:
        raise Unavailable(f"{what}: {type(e).__name__}: {one_line(e)}") from e
    return checked(what, answer)
