"""Kubernetes: one session per cluster; answers and failures of the API server as port errors.

Credentials are those of a pod's service account, whose token file is read again whenever it changes, or a kubeconfig's,
which is read again when the API server no longer accepts them. Nothing here goes to the network before the first call:
the daemon starts while the API server is down.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Iterator, Mapping
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

import aiohttp
from kubernetes_asyncio import client
from kubernetes_asyncio.config import ConfigException

from scaler.clouds import retry_after
from scaler.clouds.api_budget import Api
from scaler.clouds.api_channel import Channel
from scaler.clouds.http_answers import http_errors, read_body, read_json, read_lines
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.credentials import Load, credentials
from scaler.clouds.response_validation import one_line
from scaler.ports import Clock, Conflict, Context, Misconfigured, PortError, Throttled, Unavailable

CALLS: Final = 32
"""Calls under way at once, watches apart: a recovering API server is not stormed by thousands of workloads."""
API: Final = Api("kubernetes", per_s=200.0, burst=800)
"""A start with hundreds of workloads reads each of them once; API servers throttle by themselves before that hurts."""
RENEW_S: Final = 30.0
"""Refused credentials are read anew at most this often: a kubeconfig's plugin is a program to start."""
LOAD_S: Final = 20.0
"""For reading credentials: a kubeconfig's plugin may itself ask a cloud."""
MAX_BODY: Final = 32 * 2**20
"""Bytes of an answer: a page of 250 nodes, each with its images, has some 10 MB."""
MAX_LINE: Final = 4 * 2**20
"""Bytes of one event of a watch: an object has at most 1.5 MiB in etcd, and may have twice that as JSON."""
HUMAN: Final = frozenset({400, 401, 403, 404, 405, 415, 422})
"""Refusals that no retry mends."""

Body: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class KubeResponse:
    """What the API server said."""

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
        """Return the body of an accepted call. Raises the port errors, naming `what` was called."""
        return is_accepted(what, await self.ask(what, method, path, timeout_s, **request))

    async def ask(
        self, what: str, method: str, path: str, timeout_s: float, *, write: bool | None = None, **request: Any
    ) -> KubeResponse:
        """Return the answer whatever its status, but for a throttle's.

        `request`: `query` and `body`.

        `write`: whether it changes anything; None: unless it is a GET. Raises the port errors.
        """
        changes = method != "GET" if write is None else write
        attempt = partial(self._attempt, what, method, path, request)
        return await self._channel.call(operation_of(what), attempt, write=changes, deadline_s=timeout_s)

    async def _attempt(self, what: str, method: str, path: str, request: Mapping[str, Any]) -> KubeResponse:
        limit = aiohttp.ClientTimeout(total=None)  # the caller's holds
        with _api_errors(what):
            async with self._calls:
                answer = await self._answer(what, await self._send(method, path, limit, **request))
                if answer.status == 401 and await self._renew():
                    answer = await self._answer(what, await self._send(method, path, limit, **request))
        if answer.status == 429:
            raise port_error(what, answer)
        return answer

    async def events(self, what: str, path: str, timeout_s: float, query: Mapping[str, str]) -> AsyncIterator[Body]:
        """Yield a watch's events until the server ends it.

        Raises the port errors; after `timeout_s`, `Unavailable`.
        """
        opening = partial(self._open, what, path, aiohttp.ClientTimeout(total=timeout_s), query)
        with _api_errors(what):
            try:
                response = await self._channel.call(operation_of(what), opening, repeat=False, deadline_s=timeout_s)
                async with response:
                    async for line in read_lines(what, response, MAX_LINE):
                        yield event_of(what, await read_json(what, line))
            except TimeoutError as e:
                raise Unavailable(f"{what}: silent for {timeout_s:g} s") from e

    async def _open(
        self, what: str, path: str, limit: aiohttp.ClientTimeout, query: Mapping[str, str]
    ) -> aiohttp.ClientResponse:
        with _api_errors(what):
            response = await self._send("GET", path, limit, query=query)
            if response.status != 200:
                is_accepted(what, await self._answer(what, response))
                raise Unavailable(f"{what}: HTTP {response.status} where a watch was expected")
            return response

    async def _send(
        self,
        method: str,
        path: str,
        limit: aiohttp.ClientTimeout,
        *,
        query: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> aiohttp.ClientResponse:
        api = await self._api()
        form = "application/merge-patch+json" if method == "PATCH" else "application/json"
        sent: aiohttp.ClientResponse = await api.call_api(
            path,
            method,
            query_params=list((query or {}).items()),
            header_params={"Accept": "application/json", "Content-Type": form},
            body=body,
            auth_settings=["BearerToken"],
            _preload_content=False,
            _request_timeout=limit,
        )
        return sent

    async def _answer(self, what: str, response: aiohttp.ClientResponse) -> KubeResponse:
        """Return the answer; of a refusal that is no JSON, its words. Raises `Unavailable`."""
        async with response:
            content = await read_body(what, response, MAX_BODY)
        pause_s = retry_after.requested_wait_s([(response.headers.get("Retry-After", ""), 1.0)])
        try:
            body = await read_json(what, content)
        except Unavailable:
            if response.status < 300:
                raise
            body = one_line(content)  # a proxy's page
        return KubeResponse(response.status, body if isinstance(body, dict) else {"message": one_line(body)}, pause_s)

    async def _api(self) -> Any:
        async with self._authenticating:
            if self._client is None:
                self._client = client.ApiClient(await self._configuration())
                self._client.user_agent = "forescale"
        return self._client

    async def _renew(self) -> bool:
        """Load the credentials anew after a refusal; return False where that was just done."""
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
        except ConfigException as e:  # a credential plugin that failed, perhaps for want of the network
            raise Unavailable(f"the cluster's credentials: {e}") from e
        configuration.retries = False
        configuration.connection_pool_maxsize = 0  # no limit: each watch holds one
        return configuration


@contextmanager
def _api_errors(what: str) -> Iterator[None]:
    """Turn whatever a call fails with into a port error; the certificate's says whose it is."""
    try:
        with http_errors(what):
            yield
    except Misconfigured as e:
        if isinstance(e.__cause__, aiohttp.ClientConnectorCertificateError):
            raise Misconfigured(f"{what}: the API server's certificate is not trusted: {e.__cause__}") from e
        raise


def event_of(what: str, event: object) -> Body:
    """Return a watch's event: its type and its object. Raises `Unavailable` for anything else."""
    whole = isinstance(event, dict) and isinstance(event.get("type"), str) and isinstance(event.get("object"), dict)
    if not isinstance(event, dict) or not whole:
        raise Unavailable(f"{what}: an event without a type and an object: {one_line(repr(event))}")
    if event["type"] == "ERROR":
        raise Unavailable(f"{what}: {event['object'].get('message')}")
    return event


def operation_of(what: str) -> str:
    """Return the name that calls are counted under: the verb and the resource, without names."""
    return " ".join(what.split(maxsplit=2)[:2])


def is_accepted(what: str, answer: KubeResponse) -> Body:
    """Return the body of an answer that is no refusal. Raises the refusal."""
    if answer.status < 300:
        return answer.body
    raise port_error(what, answer)


def port_error(what: str, answer: KubeResponse) -> PortError:
    """Return a refusal as the port error that names its remedy."""
    text = f"{what}: {answer.message}"
    if answer.status == 401:
        return Misconfigured(f"{text}: the API server does not accept our credentials")
    if answer.status == 403:
        return Misconfigured(f"{text}: grant it in a Role (config/deploy/kubernetes.yaml has the rules)")
    if answer.status == 429:
        return Throttled(text, answer.retry_after_s)
    if answer.status == 409:
        return Conflict(text)
    if answer.status in HUMAN:
        return Misconfigured(text)
    return Unavailable(f"{text} (HTTP {answer.status})", answer.retry_after_s)


async def session(context: Context, cluster: KubeCluster) -> Session:
    """Return the session that all adapters of this cluster share. Raises `Misconfigured`."""
    load = credentials(cluster)

    return await context.shared(("kube", cluster), lambda: aclosing(Session(context, load, cluster)))
