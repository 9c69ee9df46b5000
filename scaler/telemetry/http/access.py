"""Access control of the daemon's HTTP server.

The request's Host decides, and a token if one is configured.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from scaler.config.daemon import ServerSpec
from scaler.ports import Misconfigured
from scaler.telemetry.http.connections import NAME, HttpConnection
from scaler.telemetry.http.peers import is_proven

PROBES: Final = frozenset({"/healthz", "/readyz"})
"""Paths that need no token: the kubelet sends none. They show workloads' names and failing parts, but no secret."""
ANY_HOST: Final = PROBES | {"/metrics"}
"""Paths that accept any Host: the daemon cannot know the addresses that the kubelet and Prometheus use."""
LOOPBACK: Final = frozenset({"localhost", "localhost.localdomain"})
CHALLENGE: Final = 'Bearer realm="forescale", Basic realm="forescale", charset="UTF-8"'
"""Makes browsers request a password, which is the token, with any user name."""
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class AccessControl:
    """Middleware that checks the Host and the token of every request."""

    def __init__(self, spec: ServerSpec, listen: str | None = None) -> None:
        self._token = spec.token
        self._identity = ""
        self._hosts = frozenset(map(str.lower, spec.hosts)) | LOOPBACK | ({host_of(listen)} if listen else set())

    def join(self, identity: str, url: str) -> None:
        """Accept requests by the other daemons to this one, known to them by its identity and URL."""
        self._identity = identity
        self._hosts |= {host_of(url.partition("//")[2])}

    def mount(self, app: web.Application) -> None:
        """Check every request of the application, and remove the version from its Server header."""
        app.middlewares.append(self._check)
        app.on_response_prepare.append(set_server_header)

    @web.middleware
    async def _check(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        with HttpConnection.responding(request):
            if request.path not in ANY_HOST and not self._is_known_host(request):
                raise web.HTTPMisdirectedRequest(text="unknown Host header: add the host to daemon.server.hosts\n")
            if request.path not in PROBES and not self._is_authorized(request):
                raise web.HTTPUnauthorized(
                    headers={"WWW-Authenticate": CHALLENGE},
                    text="the daemon requires its token (daemon.server.token)\n",
                )
            return await handler(request)

    def _is_known_host(self, request: web.Request) -> bool:
        """Return whether the Host is a name of this server.

        It must not be a name that another page points here.
        """
        host = host_of(request.headers.get("Host", ""))
        if host in self._hosts:
            return True
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        local = request.transport.get_extra_info("sockname") if request.transport is not None else None
        return address.is_loopback or (local is not None and address == ipaddress.ip_address(local[0].split("%")[0]))

    def _is_authorized(self, request: web.Request) -> bool:
        """Return whether the request has the token, if one is configured."""
        if self._token is None:
            return True
        try:
            expected = self._token.read()
        except Misconfigured as e:
            raise web.HTTPServiceUnavailable(text="the daemon cannot read its token (daemon.server.token)\n") from e
        return is_proven(request, expected, self._identity) or hmac.compare_digest(
            _presented_token(request).encode(errors="replace"), expected.encode(errors="replace")
        )


def _presented_token(request: web.Request) -> str:
    """Return the token of a request: its bearer token, or its password."""
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).decode(errors="replace").partition(":")[2]
        except binascii.Error:
            return ""
    return ""


async def set_server_header(_request: web.Request, response: web.StreamResponse) -> None:
    """Remove the version from the Server header."""
    response.headers["Server"] = NAME


def host_of(authority: str) -> str:
    """Return the host in HOST:PORT, without the brackets of an IPv6 address, in lower case."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0].lower()
    return authority.partition(":")[0].lower()
