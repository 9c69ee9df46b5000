"""JSON over HTTPS with a bearer token.

It serves APIs whose SDKs are synchronous or heavier than the calls.

All clouds share one session per CA file. A token is fetched once for all waiting callers, renewed before it expires,
and renewed when an API refuses it. A body that is truncated, not JSON, or larger than `MAX_BODY` raises `Unavailable`.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

import aiohttp

from scaler.clouds.api_channel import Channel
from scaler.clouds.http_answers import http_errors, read_body, read_json
from scaler.clouds.response_validation import one_line
from scaler.ports import Clock, Context, Misconfigured, PortError, Unavailable

Body: TypeAlias = dict[str, Any]
MAX_BODY: Final = 16 * 2**20
"""Bytes of a response. That of a cluster or a scale set with a thousand nodes has some megabytes."""
CONNECT_S: Final = 3.0
"""Time limit of a TCP and TLS handshake: cloud endpoints answer in well under a second. Seconds."""
CONNECTIONS: Final = 64
"""Maximum number of connections to all clouds together."""
RENEW_SHARE: Final = 0.8
"""Share of a token's lifetime after which it is renewed."""
MIN_LIFE_S: Final = 5.0
"""Minimum time between two token requests, so that a wrong clock does not cause a request storm. Seconds."""


@dataclass(frozen=True, slots=True)
class RestResponse:
    """A response of an API: status, JSON object, headers.

    `content` is that of an accepted raw request.
    """

    status: int
    body: Body
    headers: Mapping[str, str] = field(default_factory=dict)
    content: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call.

    `operation` is named as the permission that grants it; `about` names the resource. `content` is sent as it is, in
    place of a JSON `body`; the response to an `is_raw` request is not JSON.
    """

    operation: str
    method: str
    url: str
    about: str = ""
    query: Mapping[str, str] | None = None
    body: object = None
    content: bytes | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    is_raw: bool = False

    @property
    def description(self) -> str:
        return f"{self.operation} of {self.about}" if self.about else self.operation


Refuse: TypeAlias = Callable[[str, RestResponse, float], PortError]
"""Maps a status other than success to a port error, from the call's name, the response and the present time."""
Fetch: TypeAlias = Callable[[], Awaitable[tuple[str, float]]]
"""Returns a token and its lifetime in seconds. Raises port errors."""


class BearerTokens:
    """A bearer token, renewed before it expires; one fetch for all waiting callers."""

    def __init__(self, clock: Clock, fetch: Fetch) -> None:
        self._clock = clock
        self._fetch = fetch
        self._lock = asyncio.Lock()
        self._token = ""
        self._requested_at = float("-inf")
        self._valid_s = 0.0

    async def get(self) -> str:
        """Return a token that has not expired. Raises port errors.

        Example: a token that lives 3600 s is renewed 0.8 * 3600 = 2880 s after its request.
        """
        async with self._lock:
            if not 0 <= self._clock.now() - self._requested_at < self._valid_s:
                requested_at = self._clock.now()
                self._token, life_s = await self._fetch()
                self._requested_at, self._valid_s = requested_at, max(MIN_LIFE_S, RENEW_SHARE * life_s)
            return self._token

    def refuse(self, token: str) -> bool:
        """Mark `token` as refused by an API; return whether `get` will return another one."""
        if token == self._token and self._clock.now() - self._requested_at > MIN_LIFE_S:
            self._valid_s = 0.0
        return token != self._token or self._valid_s == 0.0


class Rest:
    """The client of one API of one account."""

    def __init__(
        self, session: aiohttp.ClientSession, tokens: BearerTokens, channel: Channel, refuse: Refuse, clock: Clock
    ) -> None:
        self._session = session
        self._tokens = tokens
        self._channel = channel
        self._refuse = refuse
        self._clock = clock

    async def call(self, request: Request, *, write: bool = False, repeat: bool | None = None) -> RestResponse:
        """Return the response of an accepted call. Raises port errors."""

        async def attempt() -> RestResponse:
            response = await self._send(request, await self._tokens.get())
            if response.status < 300:
                return response
            raise self._refuse(request.description, response, self._clock.now())

        return await self._channel.call(request.operation, attempt, write=write, repeat=repeat)

    async def _send(self, request: Request, token: str) -> RestResponse:
        what = request.description
        headers = {"Accept": "application/json", **request.headers, "Authorization": f"Bearer {token}"}
        with http_errors(what):
            async with self._session.request(
                request.method,
                request.url,
                params=request.query,
                json=request.body,
                data=request.content,
                headers=headers,
                allow_redirects=False,
            ) as http_response:
                content, status = await read_body(what, http_response, MAX_BODY), http_response.status
        if request.is_raw and status < 300:
            return RestResponse(status, {}, http_response.headers, content)
        response = RestResponse(status, await _object(what, status, content), http_response.headers)
        if response.status == 401 and self._tokens.refuse(token):
            raise Unavailable(f"{what}: the token was rejected; the next call requests a new one")
        return response


async def _object(what: str, status: int, content: bytes) -> Body:
    """Return the body as an object; a refusal that is not JSON becomes its message.

    Raises `Unavailable`.
    """
    try:
        value = await read_json(what, content) if content else {}
    except Unavailable:
        if status < 300:
            raise
        value = one_line(content)
    if isinstance(value, dict):
        return value
    if status < 300:
        raise Unavailable(f"{what}: malformed response: not a JSON object")
    return {"message": one_line(value)}


async def session(context: Context, ca_file: str | None = None) -> aiohttp.ClientSession:
    """Return the session that all REST clients with this CA file share. Raises `Misconfigured`."""

    def opening() -> AbstractAsyncContextManager[aiohttp.ClientSession]:
        trust: ssl.SSLContext | bool = ssl.create_default_context(cafile=ca_file) if ca_file else True
        client_session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=trust),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        )
        client_session._retry_connection = False  # noqa: SLF001 - else aiohttp resends a PUT whose response was lost
        return client_session

    try:
        return await context.shared(("rest", ca_file), opening)
    except OSError as e:
        raise Misconfigured(f"{ca_file}: {e}") from e
