"""Writes Kubernetes Events about resizes on the resized objects.

Repeated events are one event with a series, and each object has a budget of new events. Writing is a background task:
no tick waits for it, and a refusal is logged once.
"""

from __future__ import annotations

import asyncio
import socket
from collections import OrderedDict
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, TypeVar

from scaler.clock import iso_time
from scaler.clouds.kubernetes import session as kube
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.objects import MANAGER, ScalableKind, discover
from scaler.clouds.kubernetes.session import Body, Session, accepted_body
from scaler.kubernetes_events import Regarding, WorkloadEvent
from scaler.ports import Context, Misconfigured, PortError
from scaler.telemetry.log import log

KeyT = TypeVar("KeyT")
T = TypeVar("T")
CALL_S: Final = 10.0
"""Time limit of one call. Seconds."""
MAX_PENDING: Final = 1000
"""Maximum number of different notices that wait for the API server; the oldest ones are dropped."""
SERIES_S: Final = 600.0
"""A notice repeated within this time continues the series of its event. Seconds."""
UPDATE_S: Final = 30.0
"""Minimum time between two writes of one series. Seconds."""
BURST: Final = 25
"""Events that an object may get at once, as client-go's spam filter allows."""
REFILL_S: Final = 60.0
"""Time after which an object may get one more event. Seconds."""
MUTED_S: Final = 600.0
"""Pause after a refusal in a namespace: an operator may grant the permission meanwhile. Seconds."""
UID_S: Final = 300.0
"""Maximum age of an object's UID, which a recreated object replaces. Seconds."""
MAX_NOTE_BYTES: Final = 1024
"""Maximum length of a note, by the API server's validation. Bytes."""
MAX_OBJECTS: Final = 10_000
"""Maximum number of objects with a remembered budget and UID."""


@dataclass(slots=True)
class EventSeries:
    """An event that was written, and how often its notice has been repeated."""

    path: str
    count: int
    last_s: float
    written_s: float
    written_count: int = 1


@dataclass(slots=True)
class EventTarget:
    """The UID of an object, and the number of events that it may still get."""

    tokens: float
    refilled_s: float
    uid: str = ""
    uid_s: float = float("-inf")

    def take(self, now: float) -> bool:
        """Take one event from the budget. Return whether there was one."""
        self.tokens = min(BURST, self.tokens + max(0.0, now - self.refilled_s) / REFILL_S)
        self.refilled_s = now
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True


class EventWriter:
    """Writes notices to one cluster."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._clock = session.clock
        self._pending: OrderedDict[WorkloadEvent, int] = OrderedDict()
        self._series: OrderedDict[WorkloadEvent, EventSeries] = OrderedDict()
        self._targets: OrderedDict[Regarding, EventTarget] = OrderedDict()
        self._kinds: dict[tuple[str, str], ScalableKind] = {}
        self._muted_until: dict[str, float] = {}
        self._wake = asyncio.Event()
        self._task = session.tasks.start("kubernetes events", self._run)

    async def aclose(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def put(self, notice: WorkloadEvent) -> None:
        """Queue a notice. It never waits."""
        self._pending[notice] = self._pending.pop(notice, 0) + 1
        if len(self._pending) > MAX_PENDING:
            self._pending.popitem(last=False)
        self._wake.set()

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._pending:
                notice, count = self._pending.popitem(last=False)
                if self._clock.now() >= self._muted_until.get(notice.regarding.namespace, 0.0):
                    await self._write(notice, count)

    async def _write(self, notice: WorkloadEvent, count: int) -> None:
        namespace = notice.regarding.namespace
        try:
            await self._write_event(notice, count)
        except PortError as e:
            if not isinstance(e, Misconfigured):
                return  # the API server is away: the journal has the reason too
            remedy = "grant create and patch on events.events.k8s.io, or set daemon.kubernetes_events to false"
            if namespace not in self._muted_until:
                log.warning("kubernetes events", namespace=namespace, error=str(e), remedy=remedy)
            self._muted_until[namespace] = self._clock.now() + MUTED_S

    async def _write_event(self, notice: WorkloadEvent, count: int) -> None:
        """Create an event, or count the repetition of a recent one. Raises port errors."""
        now = self._clock.now()
        series = self._series.get(notice)
        if series is not None and abs(now - series.last_s) <= SERIES_S:
            series.count, series.last_s = series.count + count, now
            if now - series.written_s < UPDATE_S and series.written_count > 1:
                return
            if await self._continue(series, now):
                return
        target = remembered(self._targets, notice.regarding, EventTarget(BURST, now))
        if not target.take(now):
            return
        if abs(now - target.uid_s) > UID_S:
            target.uid, target.uid_s = await self._uid(notice.regarding), now
        if not target.uid:
            return
        body = event(notice, target.uid, now)
        path = f"/apis/events.k8s.io/v1/namespaces/{notice.regarding.namespace}/events"
        what = f"create events in namespace {notice.regarding.namespace}"
        await self._session.call(what, "POST", path, CALL_S, query={"fieldManager": MANAGER}, body=body)
        self._series.pop(notice, None)
        written = EventSeries(f"{path}/{body['metadata']['name']}", count, now, now)
        remembered(self._series, notice, written)

    async def _continue(self, series: EventSeries, now: float) -> bool:
        """Write the count of a series. Return whether its event still exists."""
        body = {"series": {"count": series.count, "lastObservedTime": micro_time(now)}}
        response = await self._session.request("patch events", "PATCH", series.path, CALL_S, body=body)
        if response.status == 404:  # events expire, by default after an hour
            return False
        accepted_body("patch events", response)
        series.written_s, series.written_count = now, series.count
        return True

    async def _uid(self, regarding: Regarding) -> str:
        """Return the UID of an object; empty without the object.

        `kubectl describe` finds the object's events by it.
        """
        key = (regarding.api_version, regarding.kind)
        if key not in self._kinds:
            self._kinds[key] = await discover(self._session, *key, CALL_S, sized=False)
        kind = self._kinds[key]
        what = f"get {kind.plural} {regarding.name}{kind.within(regarding.namespace)}"
        response = await self._session.request(what, "GET", kind.path(regarding.namespace, regarding.name), CALL_S)
        if response.status == 404:
            return ""
        metadata = accepted_body(what, response).get("metadata")
        return str(metadata.get("uid") or "") if isinstance(metadata, dict) else ""


def remembered(entries: OrderedDict[KeyT, T], key: KeyT, default: T) -> T:
    """Return the entry of a key, or else the default. The oldest of too many entries is dropped."""
    value = entries.setdefault(key, default)
    entries.move_to_end(key)
    if len(entries) > MAX_OBJECTS:
        entries.popitem(last=False)
    return value


def event(notice: WorkloadEvent, uid: str, now: float) -> Body:
    """Return the body of a new event."""
    regarding = notice.regarding
    reference = {
        "apiVersion": regarding.api_version,
        "kind": regarding.kind,
        "namespace": regarding.namespace,
        "name": regarding.name,
        "uid": uid,
    }
    return {
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": f"{regarding.name[:230]}.{int(now * 1e6):x}", "namespace": regarding.namespace},
        "eventTime": micro_time(now),
        "reportingController": "forescale.io/forescale",
        "reportingInstance": socket.gethostname()[:128] or "forescale",
        "action": "Scale",
        "reason": notice.reason,
        "regarding": reference,
        "note": notice.note.encode()[:MAX_NOTE_BYTES].decode(errors="ignore"),
        "type": "Warning" if notice.warning else "Normal",
    }


def micro_time(at: float) -> str:
    """Return a time with microseconds, as Kubernetes' MicroTime."""
    return f"{iso_time(at)[:19]}.{int(at % 1 * 1e6):06d}Z"


async def open_writer(context: Context, cluster: KubeCluster) -> EventWriter:
    """Return the cluster's writer. Raises `Misconfigured`."""
    session = await kube.session(context, cluster)
    return await context.shared(("kube events", cluster), lambda: aclosing(EventWriter(session)))
