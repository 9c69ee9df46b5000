"""HTTP to engines and metrics servers.

One session serves each server. Bodies are bounded, and errors are port errors by their remedy.
"""

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
"""Connections per server: a query takes some milliseconds, so this carries thousands of workloads."""
DEADLINE_SHARE: Final = 0.9
"""Share of the deadline for all requests, so that partial results arrive before the controller times out."""
MAX_PAGE: Final = 16 * 2**20
"""Bytes of one engine's page: some hundred kilobytes, and some megabytes with many adapters and ranks."""
TRANSIENT: Final = frozenset({408, 425, 429})
"""Client-error statuses that pass with time, as those from 500 on do."""
MAX_WAIT_S: Final = 300.0
"""Maximum pause that a server's Retry-After is granted. Seconds."""


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
    request: AbstractAsyncContextManager[aiohttp.ClientResponse],
    max_bytes: int,
    now: float,
    remedy: str = "",
) -> tuple[int, bytes]:
    """Return status and body of a response with status 200, or with 400 or 422 and a reason.

    `remedy` ends the error for a body of more than `max_bytes`. Raises port errors.
    """
    with http_errors(what):
        async with request as response:
            content = await read_body(what, response, max_bytes, remedy)
    if response.status not in {200, 400, 422}:
        raise refusal(what, response.status, response.headers, content, now)
    return response.status, content


class Pages:
    """Text pages, each read whole within `deadline_s` seconds."""

    def __init__(self, session: aiohttp.ClientSession, access: Access, clock: Clock, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self._session = session
        self._access = access
        self._clock = clock

    async def get(self, url: URL, server_name: str | None) -> tuple[float, str]:
        """Return the time of the request (seconds since the Unix epoch) and the page.

        Raises port errors.
        """
        requested_at = self._clock.now()
        headers = {"Accept": "text/plain;version=0.0.4;q=1,*/*;q=0.1", **self._access.request_headers()}
        if server_name is not None:
            headers["Host"] = server_name if url.is_default_port() else f"{server_name}:{url.port}"
        request = self._session.get(
            url,
            headers=headers,
            server_hostname=server_name if url.scheme == "https" else None,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=self.deadline_s),
        )
        status, content = await body(
            str(url), request, MAX_PAGE, requested_at, "reduce the metrics that the engine exports"
        )
        if status != 200:
            raise refusal(str(url), status, {}, content, requested_at)
        try:
            return requested_at, content.decode()
        except UnicodeDecodeError as e:
            raise Unavailable(f"{url}: {e}") from e


def refusal(what: str, status: int, headers: Mapping[str, str], content: bytes, now: float) -> PortError:
    """Return the port error for a status other than success."""
    reason = one_line(content)
    if 300 <= status < 400:
        return Misconfigured(f"{what}: redirects to {headers.get('Location', 'nowhere')!r}; configure the final URL")
    text = f"{what}: HTTP {status}" + (f": {reason}" if reason else "")
    if status in TRANSIENT or status >= 500:
        return Unavailable(text, _wait_s(headers.get("Retry-After", ""), now))
    return Misconfigured(text)


def _wait_s(header: str, now: float) -> float | None:
    """Return the pause of a Retry-After header, in seconds or as an HTTP date. Seconds."""
    try:
        wait_s = float(header) if header.strip().isdigit() else parsedate_to_datetime(header).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, wait_s), MAX_WAIT_S)
