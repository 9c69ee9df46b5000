"""Scheduled Events: Azure's notices of what will happen to a machine and the others of its set.

The metadata service of each machine (169.254.169.254) reports them to the machines of its set. Where the daemon runs
elsewhere, a relay on each node forwards them (docs/azure.md), which is polled under every machine's host name. No event
is ever acknowledged: that would start it at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterator, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final
from weakref import WeakKeyDictionary

import aiohttp

from scaler.clouds.api_budget import Api
from scaler.clouds.api_channel import Channel
from scaler.clouds.azure.errors import validated
from scaler.clouds.http_answers import http_errors, read_body, read_json
from scaler.clouds.interruptions import Kind, Notice, NoticeBoard, board
from scaler.clouds.rest import session
from scaler.clouds.singleflight import running
from scaler.ports import Clock, Context, PortError, Unavailable

API: Final = Api("azure/scheduled_events", per_s=2.0, burst=5)
"""Calls of one machine. Azure advises one a second."""
POLL_S: Final = 1.0
"""A spot machine has 30 s from the notice, at best."""
ANSWER_S: Final = 1.5
"""For one answer. The very first may take Azure two minutes: it is asked again until then."""
MAX_BODY: Final = 2**20
"""Bytes of one document: an event has some hundred, and a scale set up to a thousand machines."""
HOST: Final = "{host}"
KINDS: Final[Mapping[str, Kind]] = {
    "Preempt": "interruption",
    "Terminate": "interruption",
    "Redeploy": "rebalance",
    "Reboot": "rebalance",
}
"""By what becomes of the machine: gone, or away for some minutes. A Freeze is over within seconds: no notice."""


class ScheduledEventsListener:
    """Poller of one address, or of one a machine, once a second, that pins the notices."""

    def __init__(self, url: str, http: aiohttp.ClientSession, context: Context, pinned: NoticeBoard) -> None:
        self._url = url
        self._http = http
        self._context = context
        self._clock: Clock = context.clock
        self._board = pinned
        self._hosts: WeakKeyDictionary[object, frozenset[str]] = WeakKeyDictionary()
        self._channels: dict[str, Channel] = {}
        self._standing: dict[str, Mapping[str, frozenset[str]]] = {}

    def watch(self, who: object, hosts: Collection[str]) -> None:
        """Poll the machines that a pool has now, for as long as the pool `who` exists."""
        self._hosts[who] = frozenset(hosts)

    async def run(self) -> None:
        """Poll once a second, without end."""
        while True:
            await asyncio.gather(*(self._poll(url) for url in self._urls()))
            await asyncio.sleep(POLL_S)

    def _urls(self) -> list[str]:
        if HOST not in self._url:
            return [self._url]
        urls = [self._url.replace(HOST, host) for host in sorted(frozenset().union(*self._hosts.values()))]
        for gone in self._channels.keys() - set(urls):
            del self._channels[gone]
            self._standing.pop(gone, None)
        return urls

    async def _poll(self, url: str) -> None:
        channel = self._channels.get(url) or Channel(self._context, API, url)
        self._channels[url] = channel
        try:
            document = await channel.call("scheduledevents", lambda: self._get(url), deadline_s=ANSWER_S)
            await self._take(url, document)
        except PortError:  # counted by the channel; what was pinned stands
            return

    async def _get(self, url: str) -> dict[str, Any]:
        what = f"scheduled events at {url}"
        with http_errors(what):
            async with self._http.get(
                url, params={"api-version": "2020-07-01"}, headers={"Metadata": "true"}, allow_redirects=False
            ) as answer:
                content = await read_body(what, answer, MAX_BODY)
        found = await read_json(what, content) if answer.status == 200 else None
        if not isinstance(found, dict) or not isinstance(found.get("Events"), list):
            raise Unavailable(f"{what}: no document (HTTP {answer.status})")
        return found

    @validated
    async def _take(self, url: str, document: Mapping[str, Any]) -> None:
        self._read(url, document)

    def _read(self, url: str, document: Mapping[str, Any]) -> None:
        now = self._clock.now()
        standing: dict[str, frozenset[str]] = {}
        for event in document["Events"]:
            for notice in notices(event, now):
                self._board.pin(notice)
            if isinstance(event, Mapping):
                machines = frozenset(_machines(event))
                waits = event.get("EventStatus") == "Scheduled"
                standing[str(event.get("EventId"))] = machines if waits else frozenset()
        for event_id, machines in self._standing.get(url, {}).items():
            if event_id not in standing:  # taken back before it began
                for machine in machines:
                    self._board.unpin(machine)
        self._standing[url] = standing


def notices(event: object, now: float) -> Iterator[Notice]:
    """Yield a notice for each machine that an event will take.

    Deletions by a person, or this daemon, are no interruptions.
    """
    if not isinstance(event, Mapping):
        return
    said, by = str(event.get("EventType")), str(event.get("EventSource") or "Platform")
    kind = KINDS.get(said)
    if kind is None or (said != "Preempt" and by == "User"):
        return
    for machine in _machines(event):
        yield Notice(machine, kind, now, _not_before(event.get("NotBefore")), f"scheduled event {said}")


def _machines(event: Mapping[str, Any]) -> list[str]:
    resources = event.get("Resources")
    return [str(r).lower() for r in resources] if isinstance(resources, list) else []


def _not_before(text: object) -> float | None:
    try:
        return parsedate_to_datetime(str(text)).timestamp() if text else None
    except (LookupError, OverflowError, TypeError, ValueError):
        return None


async def listener(context: Context, url: str) -> ScheduledEventsListener:
    """Return the listener that all pools with this address share.

    Its notices wake the caller's workload.
    """
    pinned = await board(context)
    http = await session(context)

    polling = ScheduledEventsListener(url, http, context, pinned)
    return await context.shared(("azure-events", url), lambda: running(context.tasks, "azure events", polling))
