"""Kubernetes: one session per cluster.

The API server's refusals and failures become port errors.

Credentials come from a pod's service account, whose token file is read again whenever it changes, or from a kubeconfig,
which is read again when the API server refuses them. No network access happens before the first call: the daemon starts
even while the API server is down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import aiohttp

from scaler.clouds import retry_after
from scaler.clouds.api_budget import Api
from scaler.clouds.api_channel import Channel
from scaler.clouds.http_answers import http_errors, read_body, read_json, read_lines
from scaler.clouds.kubernetes.client_library import ConfigException, client
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.credentials import Load, credentials
from scaler.clouds.kubernetes.fallback_reads import FallbackReads
from scaler.clouds.response_validation import one_line
from scaler.ports import Clock, Conflict, Context, Misconfigured, PortError, Throttled, Unavailable

CALLS: Final = 32
"""Maximum concurrent calls, without watches.

It prevents thousands of workloads from overloading a recovering API server.
"""
API: Final = Api("kubernetes", per_s=200.0, burst=800, is_divided=False)
"""A start with hundreds of workloads reads each of them once; API servers throttle before this rate hurts them.

Each daemon has all of it: it needs the API to take its first lease.
"""
RENEW_S: Final = 30.0
"""Minimum time between two reloads of refused credentials: a kubeconfig's plugin starts a program. Seconds."""
LOAD_S: Final = 20.0
"""Time limit of loading credentials: a kubeconfig's plugin may call a cloud. Seconds."""
MAX_BODY: Final = 32 * 2**20
"""Bytes of a response: a page of 250 nodes, each with its images, has some 10 MB."""
MAX_LINE: Final = 4 * 2**20
"""Bytes of one watch event: an object has at most 1.5 MiB in etcd, and up to twice that as JSON."""
PERMANENT: Final = frozenset({400, 401, 403, 404, 405, 415, 422})
"""Statuses of refusals that no retry fixes."""

Body: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class KubeResponse:
    """A response of the API server."""

    status: int
    body: Body
    retry_after_s: float | None = None

    @property
    def message(self) -> str:
        return str(self.body.get("message") or self.body.get("reason") or f"HTTP {self.status}")


class Session:
    """One cluster's API: every call has a time limit and goes through the shared budget."""

    def __init__(self, context: Context, load: Load, scope: Hashable = None) -> None:
        self.clock: Clock = context.clock
        self.tasks = context.tasks
        self.fallback_reads = FallbackReads()
        self._channel = Channel(context, API, scope)
        self._load = load
        self._client: Any = None
        self._authenticating = asyncio.Lock()
        self._renewed_at = float("-inf")
        self._calls = asyncio.Semaphore(CALLS)

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.close()

    async def call(self, what: str, method: str, path: str, timeout_s: float, **request: Any) -> Body:
        """Return the body of an accepted call. Raises port errors that name `what` was called."""
        return accepted_body(what, await self.request(what, method, path, timeout_s, **request))

    async def request(
        self, what: str, method: str, path: str, timeout_s: float, *, write: bool | None = None, **request: Any
    ) -> KubeResponse:
        """Return the response with any status but that of a throttle.

        `request` has `query` and `body`. A PATCH with a list is a JSON patch, and one with an object is merged.

        `write`: whether the call changes anything; None means any method but GET. Raises port errors.
        """
        is_write = method != "GET" if write is None else write
        attempt = partial(self._attempt, what, method, path, request)
        return await self._channel.call(operation_of(what), attempt, write=is_write, deadline_s=timeout_s)

    async def _attempt(self, what: str, method: str, path: str, request: Mapping[str, Any]) -> KubeResponse:
        limit = aiohttp.ClientTimeout(total=None)  # the channel's deadline applies
        with _api_errors(what):
            async with self._calls:
                response = await self._parse_response(what, await self._send(method, path, limit, **request))
                if response.status == 401 and await self._renew():
                    response = await self._parse_response(what, await self._send(method, path, limit, **request))
        if response.status == 429:
            raise port_error(what, response)
        return response

    async def events(self, what: str, path: str, timeout_s: float, query: Mapping[str, str]) -> AsyncIterator[Body]:
        """Yield a watch's events until the server ends it.

        Raises port errors; `Unavailable` after `timeout_s`.
        """
        opening = partial(self._open, what, path, aiohttp.ClientTimeout(total=timeout_s), query)
        with _api_errors(what):
            try:
                response = await self._channel.call(operation_of(what), opening, repeat=False, deadline_s=timeout_s)
                async with response:
                    async for line in read_lines(what, response, MAX_LINE):
                        yield parse_event(what, await read_json(what, line))
            except TimeoutError as e:
                raise Unavailable(f"{what}: no data for {timeout_s:g} s") from e

    async def _open(
        self, what: str, path: str, limit: aiohttp.ClientTimeout, query: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        with _api_errors(what):
            response = await self._send("GET", path, limit, query=query)
            if response.status != 200:
                accepted_body(what, await self._parse_response(what, response))
                raise Unavailable(f"{what}: HTTP {response.status} in place of a watch")
            return response

    async def _send(
        self,
        method: str,
        path: str,
        limit: aiohttp.ClientTimeout,
        *,
        query: Mapping[str, str] | None = None,
        body: Body | list[Body] | None = None,
    ) -> aiohttp.ClientResponse:
        api = await self._api()
        content_type = _content_type(method, body)
        response: aiohttp.ClientResponse = await api.call_api(
            path,
            method,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": content_type},
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _request_timeout=limit,
        )
        return response

    async def _parse_response(self, what: str, response: aiohttp.ClientResponse) -> KubeResponse:
        """Return the response; a refusal that is not JSON becomes its message. Raises `Unavailable`."""
        async with response:
            content = await read_body(what, response, MAX_BODY)
        pause_s = retry_after.requested_wait_s([(response.headers.get("Retry-After", ""), 1.0)])
        try:
            body = await read_json(what, content)
        except Unavailable:
            if response.status < 300:
                raise
            body = one_line(content)  # an HTML page of a proxy
        return KubeResponse(response.status, body if isinstance(body, dict) else {"message": one_line(body)}, pause_s)

    async def _api(self) -> Any:
        async with self._authenticating:
            if self._client is None:
                self._client = client.ApiClient(await self._configuration())
                self._client.user_agent = "forescale"
        return self._client

    async def _renew(self) -> bool:
        """Reload the credentials after a refusal; return False where that was just done."""
        async with self._authenticating:
            if abs(self.clock.now() - self._renewed_at) < RENEW_S:
                return False
            self._client.configuration = await self._configuration()
        return True

    async def _configuration(self) -> Any:
        self._renewed_at = self.clock.now()
        try:
            async with asyncio.timeout(LOAD_S):
                configuration = await self._load()
        except FileNotFoundError as e:
            raise Misconfigured(f"the cluster's credentials: {e}") from e
        except ConfigException as e:  # a failed credential plugin, perhaps without a network
            raise Unavailable(f"the cluster's credentials: {e}") from e
        configuration.retries = False
        configuration.connection_pool_maxsize = 0  # unlimited: each watch holds a connection
        return configuration


def _content_type(method: str, body: Body | list[Body] | None) -> str:
    if method != "PATCH":
        return "application/json"
    return f"application/{'json' if isinstance(body, list) else 'merge'}-patch+json"


@contextmanager
def _api_errors(what: str) -> Iterator[None]:
    """Translate any failure of a call into a port error.

    A certificate error names the API server.
    """
    try:
        with http_errors(what):
            yield
    except Misconfigured as e:
        if isinstance(e.__cause__, aiohttp.ClientConnectorCertificateError):
            raise Misconfigured(
                f"{what}: the API server's certificate is not trusted (check the kubeconfig's CA): {e.__cause__}"
            ) from e
        raise


def parse_event(what: str, event: object) -> Body:
    """Return a watch event with its type and object. Raises `Unavailable` for anything else."""
    is_complete = (
        isinstance(event, dict) and isinstance(event.get("type"), str) and isinstance(event.get("object"), dict)
    )
    if not isinstance(event, dict) or not is_complete:
        raise Unavailable(f"{what}: malformed event, without type or object: {one_line(repr(event))}")
    if event["type"] == "ERROR":
        raise Unavailable(f"{what}: {event['object'].get('message')}")
    return event


def operation_of(what: str) -> str:
    """Return the operation for call metrics: `list pods in namespace llm` gives `list pods`."""
    return " ".join(what.split(maxsplit=2)[:2])


def accepted_body(what: str, response: KubeResponse, manifest: str = "") -> Body:
    """Return the body of an accepted response. Raises the port error of a refusal."""
    if response.status < 300:
        return response.body
    raise port_error(what, response, manifest)


def port_error(what: str, response: KubeResponse, manifest: str = "") -> PortError:
    """Return the port error for a refusal.

    `manifest` is the file in config/deploy that grants the call; empty where it depends on the kind.
    """
    text = f"{what}: {response.message}"
    if response.status == 401:
        return Misconfigured(f"{text}: the API server rejects the daemon's credentials")
    if response.status == 403:
        rules = f"config/deploy/{manifest}" if manifest else "docs/reference/permissions.md"
        return Misconfigured(f"{text}: grant it in a Role with the rules in {rules}")
    if response.status == 429:
        return Throttled(text, response.retry_after_s)
    if response.status == 409:
        return Conflict(text)
    if response.status in PERMANENT:
        return Misconfigured(text)
    return Unavailable(f"{text} (HTTP {response.status})", response.retry_after_s)


async def session(context: Context, cluster: KubeCluster) -> Session:
    """Return the session that all adapters of this cluster share. Raises `Misconfigured`."""
    return await context.shared(("kube", cluster), lambda: aclosing(Session(context, credentials(cluster), cluster)))
