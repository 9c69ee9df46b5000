"""The metadata server of the machine that the daemon runs on: whether it is preempted, or ended for maintenance."""

from __future__ import annotations

import asyncio
from typing import Final

import aiohttp

from scaler.clouds.http_answers import http_errors, read_body
from scaler.clouds.interruptions import Notice, NoticeBoard
from scaler.clouds.rest import session
from scaler.ports import Clock, Context, PortError, Unavailable

FLAVOR: Final = {"Metadata-Flavor": "Google"}
WATCHED_VALUES: Final = {"preempted": {"TRUE"}, "maintenance-event": {"TERMINATE_ON_HOST_MAINTENANCE"}}
"""What is watched, and the values at which the machine will be taken."""
TAKES_S: Final = {"preempted": 30.0, "maintenance-event": 3600.0}
"""Time from the notice to the interruption: GPU machines are announced maintenance an hour ahead. Seconds."""
WAIT_S: Final = 60.0
"""Time that one request waits for a change. Seconds."""
MAX_BODY: Final = 2**16
"""Bytes of an answer: a word, or a path."""
PAUSE_S: Final = 2.0
"""After a failure."""


class GcpMetadataServer:
    """The metadata server of one machine."""

    def __init__(self, http: aiohttp.ClientSession, url: str, clock: Clock, board: NoticeBoard) -> None:
        self._http = http
        self._url = f"{url.rstrip('/')}/computeMetadata/v1"
        self._clock = clock
        self._board = board

    async def watch(self) -> None:
        """Follow the announcements for this machine, without end."""
        name = await self._read_name()
        async with asyncio.TaskGroup() as group:  # one that fails ends the others: all start again together
            for key in WATCHED_VALUES:
                group.create_task(self._follow(key, name))

    async def _read_name(self) -> str:
        """Return the machine's path; repeat until the server answers."""
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
        """Pin what `key` says; the server answers when it changes, or when the wait is over."""
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
                self._board.pin(Notice(machine, "interruption", now, now + TAKES_S[key], by=key))
            query = {"wait_for_change": "true", "last_etag": etag, "timeout_sec": f"{WAIT_S:.0f}"}

    async def _request(self, path: str, query: dict[str, str]) -> tuple[str, str]:
        """Return a value and its ETag. Raises port errors."""
        timeout = aiohttp.ClientTimeout(total=2 * WAIT_S if query else 5.0)
        url = f"{self._url}/{path}"
        with http_errors(url):
            async with self._http.get(
                url, params=query, headers=FLAVOR, timeout=timeout, allow_redirects=False
            ) as answer:
                content = await read_body(url, answer, MAX_BODY)
            if answer.status != 200 or answer.headers.get("Metadata-Flavor") != "Google":
                raise Unavailable(f"{url}: no metadata server (HTTP {answer.status})")
            return content.decode().strip(), answer.headers.get("ETag", "")


async def watcher(context: Context, url: str, board: NoticeBoard) -> GcpMetadataServer:
    """Return the watcher of the machine whose metadata server is at `url`.

    Run its `watch` as a task.
    """
    return GcpMetadataServer(await session(context), url, context.clock, board)
