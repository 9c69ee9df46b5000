"""Notices of the instance that this daemon runs on, from its metadata server (IMDSv2).

It suits a daemon on the node of its engine: it is free, and reports no other instance. Pools of many instances need
EventBridge's queue.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import aiohttp

from scaler.clouds.backoff import Backoff
from scaler.clouds.http_answers import decode_json, http_errors, read_body
from scaler.clouds.interruptions import InterruptionNotice, Kind, NoticeBoard
from scaler.clouds.response_validation import one_line
from scaler.clouds.singleflight import running
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Clock, Permit, PortError, Unavailable

if TYPE_CHECKING:
    from scaler.ports import Context

POLL_S: Final = 1.0
"""Time between polls: a notice is read within two seconds, and the server is on this machine. Seconds."""
RESPONSE_S: Final = 1.0
TOKEN_S: Final = 21_600
"""Lifetime of a token, the maximum that the server grants. Seconds."""
RENEW_S: Final = 10_800.0
MAX_PAUSE_S: Final = 10.0
"""Maximum pause after failures: there may be no metadata server, or its hop limit keeps containers out. Seconds."""
MAX_BODY: Final = 2**16
"""Bytes of a response, which has up to some hundred."""
SESSION_PATH: Final = "/latest/api/token"
INSTANCE: Final = "/latest/meta-data/instance-id"
ACTION: Final = "/latest/meta-data/spot/instance-action"
REBALANCE: Final = "/latest/meta-data/events/recommendations/rebalance"


class AwsMetadataServer:
    """Reader of this instance's metadata server."""

    def __init__(self, url: str, http: aiohttp.ClientSession, board: NoticeBoard, clock: Clock) -> None:
        self._url = url
        self._http = http
        self._board = board
        self._clock = clock
        self._token = ""
        self._renew_at = float("-inf")
        self._instance = ""
        self.error = ""

    def failed_permit(self) -> Permit | None:
        """Return the error of the metadata server as a permit; None while it responds."""
        return Permit("instance metadata", granted=False, detail=self.error) if self.error else None

    async def run(self) -> None:
        """Read the metadata server once a second, without end."""
        backoff = Backoff(POLL_S, MAX_PAUSE_S, MAX_PAUSE_S)
        while True:
            try:
                await self._poll()
                self.error = ""
                backoff.succeeded()
                await asyncio.sleep(POLL_S)
            except PortError as e:
                self.error = str(e)
                self._renew_at = float("-inf")
                await asyncio.sleep(backoff.pause_after_s(e))

    async def _poll(self) -> None:
        if not 0 < self._renew_at - self._clock.now() <= RENEW_S:
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_S)}
            self._token = await self._send("PUT", SESSION_PATH, headers) or ""
            self._renew_at = self._clock.now() + RENEW_S
            self._instance = await self._get(INSTANCE) or ""
        if not self._instance:
            raise Unavailable(f"{self._url}: the metadata service returned no instance ID")
        action, rebalance = await asyncio.gather(self._get(ACTION), self._get(REBALANCE))
        if action is not None and _parse_action(action).get("action") in {"terminate", "stop", "hibernate"}:
            self._pin("interruption", seconds_of(_parse_action(action).get("time"), None))
        elif rebalance is not None:
            self._pin("rebalance", None)

    def _pin(self, kind: Kind, takes_at: float | None) -> None:
        self._board.pin(InterruptionNotice(self._instance, kind, self._clock.now(), takes_at, "instance metadata"))

    async def _get(self, path: str) -> str | None:
        """Return the text at a path; None for a 404, as while nothing is announced."""
        return await self._send("GET", path, {"X-aws-ec2-metadata-token": self._token})

    async def _send(self, method: str, path: str, headers: Mapping[str, str]) -> str | None:
        """Return the response's text; None for a 404. Raises port errors."""
        what = f"{method} {self._url}{path}"
        with http_errors(what):
            async with self._http.request(method, self._url + path, headers=headers, allow_redirects=False) as response:
                content = await read_body(what, response, MAX_BODY)
            if response.status == 404:
                return None
            if response.status != 200:
                raise Unavailable(f"{what}: HTTP {response.status}: {one_line(content)}")
            return content.decode().strip()


def _parse_action(action: str) -> Mapping[str, Any]:
    """Parse an announced action. Raises `Unavailable` where it is not an object."""
    parsed = decode_json("instance metadata: the action", action)
    if not isinstance(parsed, dict):
        raise Unavailable(f"instance metadata: malformed response: action {one_line(action)!r} is not an object")
    return parsed


async def listen(context: Context, url: str, board: NoticeBoard) -> AwsMetadataServer:
    """Return the running reader of the metadata server that all pools share."""

    @asynccontextmanager
    async def opening() -> AsyncIterator[AwsMetadataServer]:
        timeout = aiohttp.ClientTimeout(total=RESPONSE_S)
        async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as http:
            server = AwsMetadataServer(url, http, board, context.clock)
            async with running(context.tasks, "aws metadata", server):
                yield server

    return await context.shared(("aws-metadata", url), opening)
