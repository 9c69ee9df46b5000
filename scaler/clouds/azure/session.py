"""Azure: one credential per identity, one session per CA file.

One table lists the APIs and their rate limits. azure-identity provides the tokens: workload identity (AKS), managed
identity, or its default chain. No network access happens before the first call: the daemon starts even while the
identity's endpoint is not up yet.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Final
from urllib.parse import urlsplit

from azure.core.exceptions import AzureError, ClientAuthenticationError
from azure.identity import CredentialUnavailableError
from azure.identity.aio import (
    AzureCliCredential,
    ChainedTokenCredential,
    EnvironmentCredential,
    ManagedIdentityCredential,
    WorkloadIdentityCredential,
)

from scaler.clock import SystemClock
from scaler.clouds.api_budget import Api
from scaler.clouds.api_channel import Channel
from scaler.clouds.azure import errors
from scaler.clouds.azure.account import AzureAccount
from scaler.clouds.azure.transport import transport
from scaler.clouds.response_validation import list_of, one_line
from scaler.clouds.rest import BearerTokens, Body, Request, Rest, RestResponse, session
from scaler.ports import Clock, Context, Misconfigured, Unavailable

APIS: Final = {
    "Microsoft.Authorization": Api("azure/authorization", per_s=1.0, burst=20),
    "Microsoft.CognitiveServices": Api("azure/cognitive_services", per_s=2.0, burst=30),
    "Microsoft.Compute": Api("azure/compute", per_s=5.0, burst=60),
    "Microsoft.ContainerService": Api("azure/aks", per_s=0.5, burst=30),
    "Microsoft.Insights": Api("azure/insights", per_s=1.0, burst=20),
    "Microsoft.MachineLearningServices": Api("azure/machine_learning", per_s=5.0, burst=50),
    "Microsoft.StandbyPool": Api("azure/standby_pool", per_s=1.0, burst=20),
    "blob": Api("azure/blob", per_s=1000.0, burst=2000),
    "metrics": Api("azure/metrics", per_s=10.0, burst=50),
    "service_bus": Api("azure/service_bus", per_s=5.0, burst=20),
}
"""About half of a subscription's limits, since other clients call these APIs too. AKS grants 60 calls at once and one a
second; Compute counts by kind of call, and reads of a scale set's machines are the most expensive; Resource Manager
grants 250 reads at once and 25 a second. A storage account serves 20,000 requests a second. A read of Service Bus's
counts costs its namespace 10 of its 1,000 credits a second."""
AKS_PUT: Final = Api("azure/aks_put", per_s=1 / 60, burst=20)
"""Writes of one agent pool: 20 at once, then one a minute."""
VERSIONS: Final = {
    "Microsoft.Authorization": "2022-04-01",
    "Microsoft.CognitiveServices": "2025-09-01",
    "Microsoft.Compute": "2025-04-01",
    "Microsoft.ContainerService": "2025-07-01",
    "Microsoft.Insights": "2022-10-01",
    "Microsoft.MachineLearningServices": "2024-10-01",
    "Microsoft.StandbyPool": "2025-03-01",
}
"""The API versions that these adapters are written for."""
MAX_PAGES: Final = 50
"""Maximum pages of one list. A scale set of a thousand machines has some ten."""
NO_CREDENTIALS: Final = (
    "Azure: no credentials. On AKS, label the pod azure.workload.identity/use and annotate its service account with the"
    " identity's client ID (docs/how-to/azure.md). On a VM, assign a managed identity. Elsewhere, set AZURE_TENANT_ID,"
    " AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or run az login"
)
UNREADABLE: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError)
"""Exceptions of the SDK for a malformed token response."""
EARLY_SHARE: Final = 0.75
"""Share of a token's lifetime within which a new request means that a service refused the token."""
MAX_CREDENTIALS: Final = 3
CLI_S: Final = 5
"""Time limit of the az tool, which takes seconds to start. Seconds."""

logging.getLogger("azure").setLevel(logging.CRITICAL + 1)  # the SDKs' errors are reported once, as port errors


class Identity:
    """One identity and its tokens."""

    def __init__(self, account: AzureAccount, clock: Clock) -> None:
        self._credentials = [_credential(account)]
        self._account = account
        self._clock = clock
        self._tokens: dict[str, BearerTokens] = {}
        self._early_until: dict[str, float] = {}

    async def aclose(self) -> None:
        for credential in self._credentials:
            await credential.close()

    def tokens(self, scope: str) -> BearerTokens:
        """Return the tokens for a service's scope.

        Example of a scope: ``https://management.azure.com/.default``.
        """
        return self._tokens.setdefault(scope, BearerTokens(self._clock, lambda: self._fetch(scope)))

    async def _fetch(self, scope: str) -> tuple[str, float]:
        """Return a token and its lifetime in seconds.

        An early request means that a service refused the token: one that lives 3600 s is otherwise not requested again
        within 0.75 * 3600 = 2700 s. The SDK would return it from its cache, so the credential is replaced first.
        """
        if self._clock.now() < self._early_until.pop(scope, float("-inf")):
            await self._replace_credential()
        token, life_s = await self._request(scope)
        self._early_until[scope] = self._clock.now() + EARLY_SHARE * life_s
        return token, life_s

    async def _replace_credential(self) -> None:
        """Replace the credential by one with an empty cache.

        Calls in flight may still use the earlier ones.
        """
        self._credentials.append(_credential(self._account))
        if len(self._credentials) > MAX_CREDENTIALS:
            await self._credentials.pop(0).close()

    async def _request(self, scope: str) -> tuple[str, float]:
        try:
            token = await self._credentials[-1].get_token(scope)
        except CredentialUnavailableError as e:
            if self._account.credential == "managed_identity":  # its endpoint may not be up yet
                raise Unavailable(f"Azure: no token: {one_line(e)}") from e
            raise Misconfigured(f"{NO_CREDENTIALS}: {one_line(e)}") from e
        except ClientAuthenticationError as e:
            transient = (e.status_code or 0) >= 500 or e.status_code == 429
            no_credentials = e.status_code is None and self._account.credential == "default"
            what = NO_CREDENTIALS if no_credentials else "Azure: no token"
            raise (Unavailable if transient else Misconfigured)(f"{what}: {one_line(e)}") from e
        except AzureError as e:
            raise Unavailable(f"Azure: no token: {one_line(e)}") from e
        except UNREADABLE as e:
            raise Unavailable(f"Azure: no token: malformed response: {one_line(repr(e))}") from e
        except (OSError, ValueError) as e:  # the service account's token file
            raise Misconfigured(f"Azure: no token: {one_line(e)}") from e
        return token.token, token.expires_on - SystemClock().now()  # the expiry refers to the real clock


def _credential(account: AzureAccount) -> Any:
    """Return the SDK's credential, with its own retries off. Raises `Misconfigured`."""
    authority = account.authority_url or os.environ.get("AZURE_AUTHORITY_HOST") or account.endpoints.authority
    entra: dict[str, Any] = {"authority": authority, "retry_total": 0}
    local: dict[str, Any] = {"client_id": account.client_id, "retry_total": 0}
    if account.authority_url:
        entra["disable_instance_discovery"] = True
    identity = {k: v for k, v in (("tenant_id", account.tenant_id), ("client_id", account.client_id)) if v}
    if account.token_file:
        identity["token_file_path"] = account.token_file
    try:
        match account.credential:
            case "workload_identity":
                return WorkloadIdentityCredential(**identity, **entra, transport=transport(account.ca_file))
            case "managed_identity":
                return ManagedIdentityCredential(**local, transport=transport(None))
        federated = account.token_file or os.environ.get("AZURE_FEDERATED_TOKEN_FILE")
        return ChainedTokenCredential(
            EnvironmentCredential(**entra, transport=transport(account.ca_file)),
            *(
                [WorkloadIdentityCredential(**identity, **entra, transport=transport(account.ca_file))]
                if federated
                else []
            ),
            ManagedIdentityCredential(**local, transport=transport(None)),
            AzureCliCredential(process_timeout=CLI_S),
        )
    except ValueError as e:  # tenant, client or token file is neither given nor in the environment
        raise Misconfigured(f"Azure: {one_line(e)}") from e


async def identity(context: Context, account: AzureAccount) -> Identity:
    """Return the identity that all adapters with these credentials share.

    Raises `Misconfigured`.
    """
    key = (account.credential, account.tenant_id, account.client_id, account.token_file, account.cloud)

    return await context.shared(
        ("azure", key, account.authority_url, account.ca_file), lambda: aclosing(Identity(account, context.clock))
    )


class Arm:
    """Client of Resource Manager. Paths are resource ids; actions are named as in Azure's roles."""

    def __init__(self, account: AzureAccount, rest: Mapping[str, Rest], base: str) -> None:
        self.account = account
        self._rest = rest
        self._base = base

    async def get(
        self, action: str, path: str, query: Mapping[str, str] | None = None, *, urgent: bool = False
    ) -> Body:
        """Return a resource.

        `urgent`: a write waits for it, so it does not give way. Raises port errors.
        """
        return (await self._call("GET", action, path, query=query, urgent=urgent)).body

    async def list_all(
        self, action: str, path: str, query: Mapping[str, str] | None = None, *, urgent: bool = False
    ) -> list[Body]:
        """Return all items of a list from all pages.

        Raises port errors: half a list is `Unavailable`.
        """
        items: list[Body] = []
        body = await self.get(action, path, query, urgent=urgent)
        for _ in range(MAX_PAGES):
            items += list_of(f"Azure {action} of {short_name(path)}", body, "value")
            next_link = body.get("nextLink")
            if not next_link:
                return items
            body = (await self.follow(action, str(next_link))).body
        raise Unavailable(f"Azure {action} of {short_name(path)}: the response has more than {MAX_PAGES} pages")

    async def follow(self, action: str, url: str) -> RestResponse:
        """Return the response of a URL that Azure returned.

        It must be Resource Manager's own: it gets the token.
        """
        if urlsplit(url)[:2] != urlsplit(self._base)[:2]:
            raise Unavailable(f"Azure {action}: the response refers to another host, {urlsplit(url).hostname}")
        return await self._rest[_provider(action)].call(Request(operation=action, method="GET", url=url))

    async def write(  # noqa: PLR0913 - one write's parameters
        self,
        method: str,
        action: str,
        path: str,
        body: object,
        *,
        version: str = "",
        through: Rest | None = None,
    ) -> RestResponse:
        """Return the response of an accepted write, which is never retried.

        `version`: the etag it must still have.
        """
        headers = {"If-Match": version} if version else {}
        return await self._call(method, action, path, body=body, headers=headers, through=through)

    async def _call(  # noqa: PLR0913 - one call's parameters
        self,
        method: str,
        action: str,
        path: str,
        *,
        through: Rest | None = None,
        query: Mapping[str, str] | None = None,
        urgent: bool = False,
        **fields: Any,
    ) -> RestResponse:
        provider = _provider(action)
        request = Request(
            operation=action,
            method=method,
            url=self._base + path,
            about=short_name(path),
            query={"api-version": VERSIONS[provider], **(query or {})},
            **fields,
        )
        is_read = method == "GET"
        return await (through or self._rest[provider]).call(request, write=urgent or not is_read, repeat=is_read)


async def arm(context: Context, account: AzureAccount) -> Arm:
    """Return a client of Resource Manager for a subscription. Raises `Misconfigured`."""
    if account.subscription_id is None:
        raise Misconfigured("Azure: account.subscription_id is not set")
    rest = {p: await through(context, account, APIS[p], account.subscription_id) for p in VERSIONS}
    return Arm(account, rest, account.arm)


async def through(context: Context, account: AzureAccount, api: Api, scope: object) -> Rest:
    """Return a client of Resource Manager within the budget of one API in `scope`.

    Raises `Misconfigured`.
    """
    http = await session(context, account.ca_file)
    tokens = (await identity(context, account)).tokens(f"{account.endpoints.arm}/.default")
    return Rest(http, tokens, Channel(context, api, scope), errors.refuse, context.clock)


def short_name(path: str) -> str:
    """Return a resource id without subscription and resource group."""
    return path.rpartition("/providers/")[2] or path


def _provider(action: str) -> str:
    return action.partition("/")[0]
