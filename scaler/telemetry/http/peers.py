"""Requests to the other daemons of an installation: each answers for all workloads.

Each daemon publishes its URL in its member lease. A request to a peer carries no token. It carries a proof that its
sender has the token, for this peer, path and minute, so that an address that is no peer learns nothing that it could
use elsewhere. A daemon answers such a request with what it runs itself, and never forwards it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

import aiohttp
from aiohttp import web
from yarl import URL

from policies.model import WorkloadName
from scaler.clock import SystemClock, lease_clock_s
from scaler.clouds.http_answers import http_errors, read_body, read_json
from scaler.config.secret import Secret
from scaler.leases.protocol import RELEASED
from scaler.leases.shard_leases import ShardLeases
from scaler.ports import Misconfigured, Unavailable

PEER_S: Final = 2.0
"""Time limit of a request to a peer. Seconds."""
MAX_BODY: Final = 16 * 2**20
"""Bytes of a response: the list of 10,000 workloads has some 10 MB."""
MAX_SKEW_S: Final = 60.0
"""Maximum difference between the clocks of two daemons, and so the lifetime of a proof. Seconds."""
PEER: Final = "X-Forescale-Peer"
"""Header of a request by a peer: the time, and the proof where the daemons have a token."""
PLACEHOLDER: Final = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}")


def own_url(template: str) -> str:
    """Return the URL of this daemon, with environment variables in place of ``{NAME}``.

    Raises `Misconfigured`.
    """
    missing = [name for name in PLACEHOLDER.findall(template) if not os.environ.get(name)]
    if missing:
        raise Misconfigured(f"daemon.ha.peer_url: the environment variable {missing[0]} is not set")
    url = PLACEHOLDER.sub(lambda match: os.environ[match[1]], template)
    try:
        parsed = URL(url)
    except ValueError as e:
        raise Misconfigured(f"daemon.ha.peer_url: {url} is no URL: {e}") from e
    return str(parsed.origin())


def is_of_peer(request: web.Request) -> bool:
    """Return whether a peer sent a request, which is then answered without another peer."""
    return PEER in request.headers


def proof(token: str, receiver: str, path: str, at: str) -> str:
    """Return the proof that the sender of a request has the token."""
    signed = "\n".join(("forescale-peer", receiver, path, at))
    return hmac.new(token.encode(errors="replace"), signed.encode(), hashlib.sha256).hexdigest()


def is_proven(request: web.Request, token: str, receiver: str) -> bool:
    """Return whether a request to the daemon `receiver` is by a peer that has the token."""
    at, _, given = request.headers.get(PEER, "").partition(" ")
    if not receiver or not re.fullmatch(r"[0-9]{1,12}", at) or abs(SystemClock().now() - int(at)) > MAX_SKEW_S:
        return False
    expected = proof(token, receiver, request.path_qs, at)
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())


class Peers:
    """The other daemons of an installation."""

    def __init__(
        self,
        leases: ShardLeases,
        token: Secret | None,
        http: aiohttp.ClientSession,
        now: Callable[[], float] = lease_clock_s,
        limit_s: float = PEER_S,
    ) -> None:
        self.leases = leases
        self._token = token
        self._http = http
        self._now = now
        self._limit = aiohttp.ClientTimeout(total=limit_s)

    def urls(self) -> Mapping[str, str]:
        """Return the URL of each other live daemon.

        It is empty where the daemon published none that can be one of a peer.
        """
        urls = self.leases.peer_urls(self._now())
        return {peer: url if self._is_like_own(url) else "" for peer, url in urls.items()}

    def _is_like_own(self, url: str) -> bool:
        """Return whether a URL differs from this daemon's in its host only."""
        try:
            own, other = URL(self.leases.url), URL(url)
            return other.host is not None and other == own.with_host(other.host)
        except ValueError:
            return False

    def holder(self, workload: WorkloadName) -> str:
        """Return the other daemon that holds a workload's shard; empty where there is none."""
        shard = self.leases.map.shards.get(workload)
        holder = RELEASED if shard is None else self.leases.shards[shard].holder(self._now())
        return "" if holder == self.leases.identity else holder

    def workloads_of(self, peer: str) -> list[WorkloadName]:
        """Return the workloads whose shards a peer holds."""
        return [name for name in self.leases.map.shards if self.holder(name) == peer]

    async def get(self, peer: str, path: str) -> dict[str, Any]:
        """Return the object that a peer responds with. Raises `Unavailable` that names the peer."""
        what = f"daemon {peer}"
        url = self.urls().get(peer, "")
        if not url:
            raise Unavailable(f"{what} has not published its URL: set daemon.ha.peer_url, the same in all daemons")
        address = URL(url + path, encoded=True)
        at = f"{SystemClock().now():.0f}"
        value = at if self._token is None else f"{at} {proof(self._token.read(), peer, address.raw_path_qs, at)}"
        with http_errors(what):
            async with self._http.get(
                address, headers={PEER: value}, timeout=self._limit, allow_redirects=False
            ) as response:
                content, status = await read_body(what, response, MAX_BODY), response.status
        if status != 200:
            raise Unavailable(f"{what}: HTTP {status}")
        body = await read_json(what, content)
        if not isinstance(body, dict):
            raise Unavailable(f"{what}: malformed response: not an object")
        return body
