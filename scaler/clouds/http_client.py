"""HTTP to engines and servers of metrics: one session a server, bounded bodies, errors by remedy."""

from __future__ import annotations

import ssl
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from email.utils import parsedate_to_datetime
from typing import Final

import aiohttp
from yarl import URL

from scaler.clouds.http_access import Access
from scaler.clouds.http_answers import http_errors, read_body
from scaler.clouds.response_validation import one_line
from scaler.ports import Clock, Context, Misconfigured, PortError, Unavailable

CONNECTIONS: Final = 50
"""Per server: a query takes some milliseconds, so that this carries thousands of workloads."""
DEADLINE_SHARE: Final = 0.9
"""Of the deadline, so that what was found is handed over before the controller gives up."""
MAX_PAGE: Final = 16 * 2**20
"""Bytes of one engine's page: some hundred kilobytes, and some megabytes with many adapters and ranks."""
PASSING: Final = frozenset({408, 425, 429})
"""Refusals that time mends; those from 500 on are too."""
MAX_WAIT_S: Final = 300.0
"""The longest that a server's Retry-After is obeyed."""


async def session(
    context: Context, server: object, ca_file: str | None, connections: int = CONNECTIONS
) -> aiohttp.ClientSession:
    """Return the session that all adapters of `server` share. Raises `Misconfigured`."""

    def opening() -> AbstractAsyncContextManager[aiohttp.ClientSession]:
        trust: ssl.SSLContext | bool = ssl.create_default_context(cafile=ca_file) if ca_file else True
        connector = aiohttp.TCPConnector(limit=connections, ssl=trust)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())

    try:
        return await context.shared(("http", server, ca_file), opening)
    except OSError as e:
        raise Misconfigured(f"{ca_file}: {e}") from e


async def body(
    what: str,
    asked: AbstractAsyncContextManager[aiohttp.ClientResponse],
    max_bytes: int,
    now: float,
    remedy: str = "",
) -> tuple[int, bytes]:
    """Return status and body of an answer worth reading: 200, or 400 and 422 with their reasons.

    `remedy` is what to do about an answer of more than `max_bytes`. Raises port errors.
    """
    with http_errors(what):
        async with asked as response:
            content = await read_body(what, response, max_bytes, remedy)
    if response.status not in {200, 400, 422}:
        raise refusal(what, response.status, response.headers, content, now)
    return response.status, content


class Pages:
    """Pages of text, read whole within `deadline_s`."""

    def __init__(self, opened: aiohttp.ClientSession, access: Access, clock: Clock, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self._session = opened
        self._access = access
        self._clock = clock

    async def get(self, url: URL, server_name: str | None) -> tuple[float, str]:
        """Return a page, and the time from before it was requested. Raises port errors."""
        at = self._clock.now()
        headers = {"Accept": "text/plain;version=0.0.4;q=1,*/*;q=0.1", **self._access.sent()}
        if server_name is not None:
            headers["Host"] = server_name if url.is_default_port() else f"{server_name}:{url.port}"
        asked = self._session.get(
            url,
            headers=headers,
            server_hostname=server_name if url.scheme == "https" else None,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=self.deadline_s),
        )
        status, content = await body(str(url), asked, MAX_PAGE, at, "have the engine show fewer metrics")
        if status != 200:
            raise refusal(str(url), status, {}, content, at)
        try:
            return at, content.decode()
        except UnicodeDecodeError as e:
            raise Unavailable(f"{url}: {e}") from e


def refusal(what: str, status: int, headers: Mapping[str, str], content: bytes, now: float) -> PortError:
    """Return a status other than success as the port error that names its remedy."""
    said = one_line(content)
    if 300 <= status < 400:
        return Misconfigured(f"{what}: sends us to {headers.get('Location', 'nowhere')!r}; give the final address")
    text = f"{what}: HTTP {status}" + (f": {said}" if said else "")
    if status in PASSING or status >= 500:
        return Unavailable(text, _wait_s(headers.get("Retry-After", ""), now))
    return Misconfigured(text)


def _wait_s(header: str, now: float) -> float | None:
    """Return Retry-After in seconds, from either of its forms."""
    try:
        wait_s = float(header) if header.strip().isdigit() else parsedate_to_datetime(header).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, wait_s), MAX_WAIT_S)
