"""Google Cloud: one token per account for REST and gRPC, and one session.

One table lists the APIs and their rate limits.

google-auth provides the credentials: workload identity and the metadata server, a service account's key, workload
identity federation. It blocks, so it runs in a thread, one fetch at a time. No network access happens before the first
call: the daemon starts even while the metadata server is not up yet.
"""

from __future__ import annotations

import asyncio
import json
import traceback
import uuid
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from datetime import UTC
from pathlib import Path
from typing import Any, Final

import google.auth
import requests
from google.auth import exceptions
from google.auth.identity_pool import Credentials as Federation
from google.auth.transport.requests import Request as Transport
from google.oauth2.service_account import Credentials as Key

from scaler.clouds.api_budget import Api
from scaler.clouds.api_channel import Channel
from scaler.clouds.gcp import errors
from scaler.clouds.gcp import http as gcp_http
from scaler.clouds.gcp.http import AUTH_S
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.response_validation import MALFORMED, one_line
from scaler.clouds.rest import BearerTokens, Body, Request, Rest, session
from scaler.clouds.singleflight import Singleflight
from scaler.ports import Clock, Context, Misconfigured, Permit, Unavailable

SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)
"""OAuth scope of the tokens; IAM roles narrow it."""
APIS: Final = {
    "aiplatform": Api("gcp/aiplatform", per_s=5.0, burst=30),
    "aiplatform_operations": Api("gcp/aiplatform_operations", per_s=0.5, burst=15),
    "compute": Api("gcp/compute", per_s=10.0, burst=60),
    "container": Api("gcp/container", per_s=5.0, burst=30),
    "monitoring": Api("gcp/monitoring", per_s=20.0, burst=100),
    "pubsub": Api("gcp/pubsub", per_s=20.0, burst=100),
    "resource_manager": Api("gcp/resource_manager", per_s=2.0, burst=20),
    "run": Api("gcp/run", per_s=10.0, burst=60),
    "storage": Api("gcp/storage", per_s=500.0, burst=1000),
}
"""At most half of a project's default quota, since other clients call these APIs too. The quotas: Compute 1,500 reads a
minute and region; Container 3,000 requests a minute, some of them counted apart; Monitoring 6,000 lists a minute;
Pub/Sub 6,000 administrative operations a minute; Resource Manager 600 reads a minute; Vertex AI 600 calls and 60
submissions of long-running operations a minute and region; Cloud Run 3,000 reads a minute and region; Cloud Storage
1,000 writes a second and bucket."""
SAME_URL: Final = {"aiplatform_operations": "aiplatform"}
"""APIs with a rate limit of their own at another API's URL."""
PERMANENT_WORDS: Final = (
    "Status: 403",
    "Status: 404",
    "invalid_grant",
    "invalid_client",
    "unauthorized_client",
    "invalid_request",
)
"""Words in google-auth's errors for refusals by the token issuer or metadata server that no retry fixes."""
NO_CREDENTIALS: Final = (
    "GCP: no credentials. On GKE, bind the pod's service account to a Google service account (workload identity;"
    " docs/how-to/gcp.md). On a VM, attach a service account. Elsewhere, set project.credentials_file or"
    " GOOGLE_APPLICATION_CREDENTIALS"
)
MAX_PERMISSIONS: Final = 100
"""Maximum permissions in one testIamPermissions call."""


class Account:
    """One identity and its tokens."""

    def __init__(self, project: GcpProject, clock: Clock) -> None:
        self.tokens = BearerTokens(clock, self._fetch)
        self._clock = clock
        self._file = project.credentials_file
        self._http = gcp_http.session()
        self._ca_file = project.ca_file
        self._flights = Singleflight()
        self._credentials: Any = None

    async def aclose(self) -> None:
        await self._flights.aclose()
        self._http.close()

    async def _fetch(self) -> tuple[str, float]:
        """Return a token and its lifetime in seconds.

        Concurrent callers share one fetch in one thread.
        """
        return await self._flights.share("token", lambda: asyncio.to_thread(self._refresh))

    def _refresh(self) -> tuple[str, float]:
        request = _BoundedTransport(self._http, self._ca_file)
        try:
            if self._credentials is None:
                self._credentials = _load(self._file, request)
            self._credentials.refresh(request)
        except exceptions.DefaultCredentialsError as e:
            raise Misconfigured(NO_CREDENTIALS if self._file is None else f"GCP: {self._file}: {e}") from e
        except (exceptions.GoogleAuthError, requests.RequestException) as e:
            text = f"GCP: no token: {one_line(e)}"
            traceback.clear_frames(e.__traceback__)  # the frames hold the response, which holds its connection
            permanent = any(word in str(e) for word in PERMANENT_WORDS) and not getattr(e, "retryable", False)
            raise (Misconfigured(text) if permanent else Unavailable(text)) from e
        except (OSError, *MALFORMED) as e:
            text = f"GCP: {self._file or 'the credentials'}: {one_line(repr(e))}"
            loaded = self._credentials is not None and not isinstance(e, OSError)  # the response is malformed
            raise (Unavailable if loaded else Misconfigured)(text) from e
        expiry = self._credentials.expiry
        life_s = expiry.replace(tzinfo=UTC).timestamp() - self._clock.now() if expiry else 0.0
        return str(self._credentials.token), life_s


class _BoundedTransport(Transport):  # type: ignore[misc]
    """google-auth's requests, each limited to `AUTH_S`."""

    def __init__(self, http: requests.Session, ca_file: str | None) -> None:
        super().__init__(http)
        # As an argument, since the environment's CA file would override the session's.
        self._trust = {} if ca_file is None else {"verify": ca_file}

    def __call__(
        self, url: str, method: str = "GET", body: Any = None, headers: Any = None, timeout: Any = None, **kwargs: Any
    ) -> Any:
        return super().__call__(url, method, body, headers, min(timeout or AUTH_S, AUTH_S), **self._trust, **kwargs)


def _load(file: str | None, request: Transport) -> Any:
    """Return credentials.

    From a file, only kinds that run no program and read no other file are accepted.
    """
    if file is None:
        return google.auth.default(scopes=SCOPES, request=request)[0]
    info = json.loads(Path(file).read_text(encoding="utf-8"))
    match info.get("type"):
        case "service_account":
            return Key.from_service_account_info(info, scopes=SCOPES)
        case "external_account":
            return Federation.from_info(info, scopes=SCOPES)
    raise ValueError(f"type must be service_account or external_account, not {info.get('type')!r}")


async def account(context: Context, project: GcpProject) -> Account:
    """Return the account client that all adapters with these credentials share."""
    return await context.shared(
        ("gcp", project.credentials_file, project.ca_file), lambda: aclosing(Account(project, context.clock))
    )


class GcpService:
    """One REST API of a project, as an adapter calls it."""

    def __init__(self, rest: Rest, url: str, rng: Any) -> None:
        self._rest = rest
        self._url = url.rstrip("/")
        self._rng = rng

    async def call(  # noqa: PLR0913 - one call's parameters
        self,
        permission: str,
        path: str,
        about: str,
        *,
        method: str = "GET",
        query: Mapping[str, str] | None = None,
        body: object = None,
        write: bool = False,
        repeat: bool | None = None,
    ) -> Body:
        """Return the response to a call that needs `permission`.

        Raises port errors. `about` names the resource.
        """
        request = Request(
            operation=permission, method=method, url=self._url + path, about=about, query=query, body=body
        )
        return (await self._rest.call(request, write=write, repeat=repeat)).body

    async def content(
        self, permission: str, path: str, about: str, *, query: Mapping[str, str], sent: bytes | None = None
    ) -> bytes:
        """Return the content of a response that is no JSON.

        A repetition does not change the call. `sent` is written. Raises port errors.
        """
        request = Request(
            operation=permission,
            method="GET" if sent is None else "POST",
            url=self._url + path,
            about=about,
            query=query,
            content=sent,
            headers={"Content-Type": "application/octet-stream"},
            is_raw=True,
        )
        return (await self._rest.call(request, repeat=True)).content

    def request_id(self) -> str:
        """Return a new request id, which makes a repeated call idempotent."""
        return str(uuid.UUID(int=self._rng.getrandbits(128), version=4))


async def service(context: Context, project: GcpProject, name: str, region: str = "") -> GcpService:
    """Return an API's client within the project's shared budget.

    The budget is per `region` where one is given. Raises `Misconfigured`.
    """
    http = await session(context, project.ca_file)
    tokens = (await account(context, project)).tokens
    channel = Channel(context, APIS[name], (project.id, region) if region else project.id)
    rest = Rest(http, tokens, channel, errors.refuse, context.clock)
    url: str = getattr(project.endpoints, SAME_URL.get(name, name))
    return GcpService(rest, url.replace("{region}", region), context.calls.rng)


async def check_permissions(context: Context, project: GcpProject, permissions: Sequence[str]) -> Sequence[Permit]:
    """Return whether each permission is granted on the project.

    The check itself needs none. Raises port errors.
    """
    manager = await service(context, project, "resource_manager")
    granted = set[str]()
    for first in range(0, len(permissions), MAX_PERMISSIONS):
        body = {"permissions": list(permissions[first : first + MAX_PERMISSIONS])}
        path = f"/v1/projects/{project.id}:testIamPermissions"
        response = await manager.call("testIamPermissions", path, project.id, method="POST", body=body, repeat=True)
        granted.update(str(p) for p in response.get("permissions") or ())
    return [
        Permit(p, granted=True)
        if p in granted
        else Permit(
            p, granted=False, detail=f"not granted on project {project.id}; grant it with the role in {errors.ROLE}"
        )
        for p in permissions
    ]
