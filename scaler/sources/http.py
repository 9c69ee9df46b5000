"""HTTP to servers of metrics: a session a server, credentials read at each use, bounded bodies, errors by remedy."""

from __future__ import annotations

import base64
import ssl
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Annotated, Final

import aiohttp
from yarl import URL

from policies.model.field_metadata import FieldMetadata
from scaler.clouds.http_answers import http_errors, read_body
from scaler.clouds.response_validation import one_line
from scaler.config.secret import Secret
from scaler.masking import is_harmless_header, is_secret_name, remember
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


@dataclass(frozen=True, kw_only=True)
class Access:
    """How to be let in. Certificates are always verified."""

    bearer_token: Annotated[Secret | None, FieldMetadata("Sent as a bearer token; null: none.")] = None
    username: Annotated[str | None, FieldMetadata("Of basic authentication; null: none.")] = None
    password: Annotated[Secret | None, FieldMetadata("Of basic authentication.")] = None
    headers: Annotated[
        Mapping[str, str],
        FieldMetadata(
            "Sent with every request; no secrets here: those go into secret_headers. Values of headers other than the"
            " usual harmless ones (Accept, User-Agent, X-Scope-OrgID ...) are not recorded.",
            example={"X-Scope-OrgID": "llm"},
        ),
    ] = field(default_factory=dict)
    secret_headers: Annotated[
        Mapping[str, Secret],
        FieldMetadata(
            "Headers with a secret as their value, such as an API key: each by an environment variable or a file.",
            example={"X-Api-Key": {"env": "PROMETHEUS_API_KEY"}},
        ),
    ] = field(default_factory=dict)
    ca_file: Annotated[str | None, FieldMetadata("PEM file of the authorities to trust; null: the system's.")] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if (self.username is None) != (self.password is None):
            yield "username", "and password come together"
        if self.bearer_token and self.username:
            yield "bearer_token", "and basic authentication exclude each other"
        for name, value in self.headers.items():
            if not _is_header(name) or not value.isprintable():
                yield "headers", "one is not a header on one line"
            elif is_secret_name(name):
                remedy = "use bearer_token or password" if name.lower() == "authorization" else "use secret_headers"
                yield "headers", f"secrets have no place here, and {name} holds one: {remedy}"
        names = [name.lower() for name in (*self.headers, *self.secret_headers)]
        if len(set(names)) < len(names):
            yield "secret_headers", "names a header twice, here or under headers"
        if "authorization" in names and (self.bearer_token or self.username):
            yield "secret_headers", "has Authorization, which bearer_token and basic authentication send already"
        if not all(map(_is_header, self.secret_headers)):
            yield "secret_headers", "one is not a header's name"

    def sent(self) -> dict[str, str]:
        """The headers of one request. Raises `Misconfigured`."""
        remember(*(value for name, value in self.headers.items() if not is_harmless_header(name)))
        headers = {**self.headers, **{name: secret.read() for name, secret in self.secret_headers.items()}}
        if self.bearer_token is not None:
            headers["Authorization"] = f"Bearer {self.bearer_token.read()}"
        elif self.username is not None and self.password is not None:
            both = f"{self.username}:{self.password.read()}".encode()
            encoded = base64.b64encode(both).decode()
            remember(encoded, encoded.rstrip("="))
            headers["Authorization"] = f"Basic {encoded}"
        return headers


def _is_header(name: str) -> bool:
    return name.isascii() and name.replace("-", "").isalnum()


async def session(
    context: Context, server: object, ca_file: str | None, connections: int = CONNECTIONS
) -> aiohttp.ClientSession:
    """The session that all adapters of `server` share. Raises `Misconfigured`."""

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


def is_page(address: str) -> bool:
    """Whether it is an address that can be read without a name and password in it."""
    try:
        url = URL(address)
        return url.scheme in {"http", "https"} and bool(url.host) and url.user is None and bool(url.port)
    except ValueError:
        return False


class Pages:
    """Pages of text, read whole within `deadline_s`."""

    def __init__(self, opened: aiohttp.ClientSession, access: Access, clock: Clock, deadline_s: float) -> None:
        self.deadline_s = deadline_s
        self._session = opened
        self._access = access
        self._clock = clock

    async def get(self, url: URL, server_name: str | None) -> tuple[float, str]:
        """A page, and the time from before it was asked for. Raises port errors."""
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
    """A status other than success, by the remedy."""
    said = one_line(content)
    if 300 <= status < 400:
        return Misconfigured(f"{what}: sends us to {headers.get('Location', 'nowhere')!r}; give the final address")
    text = f"{what}: HTTP {status}" + (f": {said}" if said else "")
    if status in PASSING or status >= 500:
        return Unavailable(text, _wait_s(headers.get("Retry-After", ""), now))
    return Misconfigured(text)


def _wait_s(header: str, now: float) -> float | None:
    """Retry-After in seconds, from either of its forms."""
    try:
        wait_s = float(header) if header.strip().isdigit() else parsedate_to_datetime(header).timestamp() - now
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, wait_s), MAX_WAIT_S)
