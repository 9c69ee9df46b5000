"""Notices of the machine that the daemon runs on, from its metadata server.

They announce preemption and host maintenance.
"""

from __future__ import annotations

import asyncio
from typing import Final

import aiohttp

from scaler.clouds.http_answers import http_errors, read_body
from scaler.clouds.interruptions import InterruptionNotice, NoticeBoard
from scaler.clouds.rest import session
from scaler.ports import Clock, Context, PortError, Unavailable

FLAVOR: Final = {"Metadata-Flavor": "Google"}
WATCHED_VALUES: Final = {"preempted": {"TRUE"}, "maintenance-event": {"TERMINATE_ON_HOST_MAINTENANCE"}}
"""Watched keys, each with the values that announce an interruption."""
INTERRUPTED_AFTER_S: Final = {"preempted": 30.0, "maintenance-event": 3600.0}
"""Time from the notice to the interruption: maintenance of GPU machines is announced an hour ahead. Seconds."""
WAIT_S: Final = 60.0
"""Time that one request waits for a change. Seconds."""
MAX_BODY: Final = 2**16
"""Bytes of a response: a word, or a path."""
PAUSE_S: Final = 2.0
"""Pause after a failure. Seconds."""


class GcpMetadataServer:
    """The metadata server of one machine."""

    def __init__(self, http: aiohttp.ClientSession, url: str, clock: Clock, board: NoticeBoard) -> None:
        self._http = http
        self._url = f"{url.rstrip('/')}/computeMetadata/v1"
        self._clock = clock
        self._board = board

    async def watch(self) -> None:
        """Watch the announcements for this machine without end."""
        name = await self._read_name()
        async with asyncio.TaskGroup() as group:  # a failed task ends the others: all restart together
            for key in WATCHED_VALUES:
                group.create_task(self._follow(key, name))

    async def _read_name(self) -> str:
        """Return the machine's path; retry until the server responds."""
        while True:
            try:
                project, _ = await self._request("project/project-id", {})
                zone, _ = await self._request("instance/zone", {})
                name, _ = await self._request("instance/name", {})
            except PortError:
                await asyncio.sleep(PAUSE_S)
                continue
            return f"projects/{project}/zones/{zone.rsplit('/', 1)[-1]}/instances/{name}"

    async def _follow(self, key: str, machine: str) -> None:
        """Pin the notices of `key`; the server responds when its value changes or the wait is over."""
        query: dict[str, str] = {}
        while True:
            try:
                value, etag = await self._request(f"instance/{key}", query)
            except PortError:
                await asyncio.sleep(PAUSE_S)
                query = {}
                continue
            now = self._clock.now()
            if value in WATCHED_VALUES[key]:
                self._board.pin(
                    InterruptionNotice(machine, "interruption", now, now + INTERRUPTED_AFTER_S[key], source=key)
                )
            query = {"wait_for_change": "true", "last_etag": etag, "timeout_sec": f"{WAIT_S:.0f}"}

    async def _request(self, path: str, query: dict[str, str]) -> tuple[str, str]:
        """Return a value and its ETag. Raises port errors."""
        timeout = aiohttp.ClientTimeout(total=2 * WAIT_S if query else 5.0)
        url = f"{self._url}/{path}"
        with http_errors(url):
            async with self._http.get(
                url, params=query, headers=FLAVOR, timeout=timeout, allow_redirects=False
            ) as response:
                content = await read_body(url, response, MAX_BODY)
            if response.status != 200 or response.headers.get("Metadata-Flavor") != "Google":
                raise Unavailable(f"{url}: not a metadata server (HTTP {response.status})")
            return content.decode().strip(), response.headers.get("ETag", "")


async def watcher(context: Context, url: str, board: NoticeBoard) -> GcpMetadataServer:
    """Return the reader of the metadata server at `url`; its `watch` must run as a task."""
    return GcpMetadataServer(await session(context), url, context.clock, board)
