"""Scheduled Events: Azure's notices for a machine and the other machines of its set.

Each machine's metadata service (169.254.169.254) reports them. Where the daemon runs elsewhere, a relay on each node
forwards them (docs/how-to/azure.md), and the daemon polls it under every machine's host name. No event is ever
acknowledged: that would start it at once.
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
from scaler.clouds.interruptions import InterruptionNotice, Kind, NoticeBoard, board
from scaler.clouds.rest import session
from scaler.clouds.singleflight import running
from scaler.ports import Clock, Context, PortError, Unavailable

API: Final = Api("azure/scheduled_events", per_s=2.0, burst=5, is_divided=False)
"""Rate limit for one machine. Azure recommends one call a second."""
POLL_S: Final = 1.0
"""Time between polls: a spot machine goes at most 30 s after its notice. Seconds."""
RESPONSE_S: Final = 1.5
"""Time limit of one response. The very first may take Azure two minutes: it is polled until then. Seconds."""
MAX_BODY: Final = 2**20
"""Bytes of one document: an event has some hundred, a scale set up to a thousand machines."""
HOST: Final = "{host}"
KINDS: Final[Mapping[str, Kind]] = {
    "Preempt": "interruption",
    "Terminate": "interruption",
    "Redeploy": "rebalance",
    "Reboot": "rebalance",
}
"""Kind of notice by event type: the machine is deleted, or away for some minutes. A Freeze ends within seconds."""


class ScheduledEventsListener:
    """Polls one URL, or one per machine, once a second and pins the notices."""

    def __init__(self, url: str, http: aiohttp.ClientSession, context: Context, notice_board: NoticeBoard) -> None:
        self._url = url
        self._http = http
        self._context = context
        self._clock: Clock = context.clock
        self._board = notice_board
        self._hosts: WeakKeyDictionary[object, frozenset[str]] = WeakKeyDictionary()
        self._channels: dict[str, Channel] = {}
        self._scheduled: dict[str, Mapping[str, frozenset[str]]] = {}

    def watch(self, pool: object, hosts: Collection[str]) -> None:
        """Poll the `hosts` that a pool has now, as long as the object `pool` exists."""
        self._hosts[pool] = frozenset(hosts)

    async def run(self) -> None:
        """Poll once a second, without end."""
        while True:
            await asyncio.gather(*(self._poll(url) for url in self._urls()))
            await asyncio.sleep(POLL_S)

    def _urls(self) -> list[str]:
        if HOST not in self._url:
            return [self._url]
        urls = [self._url.replace(HOST, host) for host in sorted(frozenset().union(*self._hosts.values()))]
        for url in self._channels.keys() - set(urls):
            del self._channels[url]
            self._scheduled.pop(url, None)
        return urls

    async def _poll(self, url: str) -> None:
        channel = self._channels.get(url) or Channel(self._context, API, url)
        self._channels[url] = channel
        try:
            document = await channel.call("scheduledevents", lambda: self._get(url), deadline_s=RESPONSE_S)
            await self._pin_events(url, document)
        except PortError:  # the channel counts it; pinned notices stay
            return

    async def _get(self, url: str) -> dict[str, Any]:
        what = f"scheduled events at {url}"
        with http_errors(what):
            async with self._http.get(
                url, params={"api-version": "2020-07-01"}, headers={"Metadata": "true"}, allow_redirects=False
            ) as response:
                content = await read_body(what, response, MAX_BODY)
        document = await read_json(what, content) if response.status == 200 else None
        if not isinstance(document, dict) or not isinstance(document.get("Events"), list):
            raise Unavailable(f"{what}: the response is not a document of events (HTTP {response.status})")
        return document

    @validated
    async def _pin_events(self, url: str, document: Mapping[str, Any]) -> None:
        now = self._clock.now()
        scheduled: dict[str, frozenset[str]] = {}
        for event in document["Events"]:
            for notice in notices(event, now):
                self._board.pin(notice)
            if isinstance(event, Mapping):
                machines = frozenset(_machines(event))
                is_scheduled = event.get("EventStatus") == "Scheduled"
                scheduled[str(event.get("EventId"))] = machines if is_scheduled else frozenset()
        for event_id, machines in self._scheduled.get(url, {}).items():
            if event_id not in scheduled:  # cancelled before it began
                for machine in machines:
                    self._board.unpin(machine)
        self._scheduled[url] = scheduled


def notices(event: object, now: float) -> Iterator[InterruptionNotice]:
    """Yield a notice for each machine that an event interrupts.

    Deletions by a person or this daemon yield none.
    """
    if not isinstance(event, Mapping):
        return
    event_type, source = str(event.get("EventType")), str(event.get("EventSource") or "Platform")
    kind = KINDS.get(event_type)
    if kind is None or (event_type != "Preempt" and source == "User"):
        return
    for machine in _machines(event):
        yield InterruptionNotice(
            machine, kind, now, _not_before(event.get("NotBefore")), f"scheduled event {event_type}"
        )


def _machines(event: Mapping[str, Any]) -> list[str]:
    resources = event.get("Resources")
    return [str(r).lower() for r in resources] if isinstance(resources, list) else []


def _not_before(text: object) -> float | None:
    try:
        return parsedate_to_datetime(str(text)).timestamp() if text else None
    except (LookupError, OverflowError, TypeError, ValueError):
        return None


async def listener(context: Context, url: str) -> ScheduledEventsListener:
    """Return the running listener that all pools with this URL share.

    Its notices wake the caller's workload.
    """
    notice_board = await board(context)
    http = await session(context)

    poller = ScheduledEventsListener(url, http, context, notice_board)
    return await context.shared(("azure-events", url), lambda: running(context.tasks, "azure events", poller))
