"""JSON over HTTPS with a bearer token: the seam to the APIs whose SDKs are synchronous, or heavier than the calls.

One session a trust is shared by all clouds. Tokens are fetched once for all who wait, renewed before they end, and once
more when an API refuses one. A body that is cut short, is no JSON, or is larger than any honest answer is no answer.
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
"""Bytes. A cluster's or a scale set's answer with a thousand nodes has some megabytes."""
CONNECT_S: Final = 3.0
"""For a TCP and TLS handshake: clouds' endpoints answer in well under a second."""
CONNECTIONS: Final = 64
"""At once, to all clouds; none may storm them."""
RENEW_SHARE: Final = 0.8
"""Of a token's life, after which it is renewed."""
LEAST_LIFE_S: Final = 5.0
"""A token that ends sooner is asked for anew only after this, so that a broken clock does not make a storm."""


@dataclass(frozen=True, slots=True)
class RestResponse:
    """What an API said."""

    status: int
    body: Body
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One call. `operation` is named as the permission that grants it, `about` says what it is asked of."""

    operation: str
    method: str
    url: str
    about: str = ""
    query: Mapping[str, str] | None = None
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def what(self) -> str:
        return f"{self.operation} of {self.about}" if self.about else self.operation


Refuse: TypeAlias = Callable[[str, RestResponse, float], PortError]
"""A status other than success by its remedy, from what was asked, the answer and the present time."""
Fetch: TypeAlias = Callable[[], Awaitable[tuple[str, float]]]
"""A token and how long it lives, in seconds. Raises port errors."""


class BearerTokens:
    """A bearer token, renewed in time; one fetch for all who wait."""

    def __init__(self, clock: Clock, fetch: Fetch) -> None:
        self._clock = clock
        self._fetch = fetch
        self._lock = asyncio.Lock()
        self._token = ""
        self._requested_at = float("-inf")
        self._good_s = 0.0

    async def get(self) -> str:
        """Return a token that has not ended. Raises port errors."""
        async with self._lock:
            if not 0 <= self._clock.now() - self._requested_at < self._good_s:
                asked_at = self._clock.now()
                self._token, life_s = await self._fetch()
                self._requested_at, self._good_s = asked_at, max(LEAST_LIFE_S, RENEW_SHARE * life_s)
            return self._token

    def refuse(self, token: str) -> bool:
        """Note that an API refused `token`; return whether another one may be had."""
        if token == self._token and self._clock.now() - self._requested_at > LEAST_LIFE_S:
            self._good_s = 0.0
        return token != self._token or self._good_s == 0.0


class Rest:
    """One API of one account."""

    def __init__(
        self, session: aiohttp.ClientSession, tokens: BearerTokens, channel: Channel, refuse: Refuse, clock: Clock
    ) -> None:
        self._session = session
        self._tokens = tokens
        self._channel = channel
        self._refuse = refuse
        self._clock = clock

    async def call(self, request: Request, *, write: bool = False, repeat: bool | None = None) -> RestResponse:
        """Return the answer of an accepted call. Raises port errors."""

        async def attempt() -> RestResponse:
            answer = await self._send(request, await self._tokens.get())
            if answer.status < 300:
                return answer
            raise self._refuse(request.what, answer, self._clock.now())

        return await self._channel.call(request.operation, attempt, write=write, repeat=repeat)

    async def _send(self, request: Request, token: str) -> RestResponse:
        what = request.what
        sent = {"Accept": "application/json", **request.headers, "Authorization": f"Bearer {token}"}
        with http_errors(what):
            async with self._session.request(
                request.method,
                request.url,
                params=request.query,
                json=request.body,
                headers=sent,
                allow_redirects=False,
            ) as response:
                content = await read_body(what, response, MAX_BODY)
        answer = RestResponse(response.status, await _object(what, response.status, content), response.headers)
        if answer.status == 401 and self._tokens.refuse(token):
            raise Unavailable(f"{what}: the token was refused; another one is requested")
        return answer


async def _object(what: str, status: int, content: bytes) -> Body:
    """Return the body as an object; of a refusal that is no JSON, its words.

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
        raise Unavailable(f"{what}: the answer is no JSON object")
    return {"message": one_line(value)}


async def session(context: Context, ca_file: str | None = None) -> aiohttp.ClientSession:
    """Return the session that all REST clients with this trust share. Raises `Misconfigured`."""

    def opening() -> AbstractAsyncContextManager[aiohttp.ClientSession]:
        trust: ssl.SSLContext | bool = ssl.create_default_context(cafile=ca_file) if ca_file else True
        made = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=CONNECTIONS, ssl=trust),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S),
        )
        made._retry_connection = False  # noqa: SLF001 - else a PUT whose answer was lost is sent once more by itself
        return made

    try:
        return await context.shared(("rest", ca_file), opening)
    except OSError as e:
        raise Misconfigured(f"{ca_file}: {e}") from e
