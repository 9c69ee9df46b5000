"""Events of schedulers and autoscalers about capacity found or missing.

The events are about pods and Karpenter's NodeClaims.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.list_and_watch import Follower, WatchPath
from scaler.clouds.kubernetes.session import Body, Session
from scaler.clouds.response_validation import unavailable_if_malformed
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Context

CAPACITY_FOUND: Final = frozenset({"TriggeredScaleUp", "Nominated"})
"""Reasons of an autoscaler that launched, or found, a node for the pod."""
CAPACITY_MISSING: Final = frozenset({"FailedScaleUp", "NotTriggerScaleUp", "InsufficientCapacityError"})
"""Reasons of an autoscaler that has no node for the pod."""
UNSCHEDULED: Final = "FailedScheduling"
"""The scheduler's event that no node fits now, which also triggers autoscalers; Karpenter's own event is final."""
RELEVANT_REASONS: Final = CAPACITY_FOUND | CAPACITY_MISSING | {UNSCHEDULED}
QUOTA: Final = ("quota", "limit", "max node group size", "max cluster", "vcpulimitexceeded", "maxspotinstancecount")
"""Words of a lasting limit: an account's quota, or the maximum of a NodePool or node group."""
BACKOFF: Final = ("in backoff", "out of resources", "stockout", "insufficientinstancecapacity", "unfulfillable")
"""Words of a lack of capacity. A message with words of both counts as a lack of capacity."""


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """The latest event of one name about an object.

    `since` is its first time, `at` its last (Unix seconds).
    """

    reason: str
    text: str
    reporter: str
    since: float
    at: float

    @property
    def fails(self) -> bool:
        """Whether an autoscaler reports that no node comes."""
        return self.reason in CAPACITY_MISSING or (self.reason == UNSCHEDULED and "karpenter" in self.reporter)

    @property
    def quota(self) -> bool:
        """Whether only a limit stands in the way."""
        text = self.text.lower()
        return any(word in text for word in QUOTA) and not any(word in text for word in BACKOFF)


class KubeEvents(Follower):
    """The events about objects of one kind in a namespace, with a reason in `RELEVANT_REASONS`."""

    def __init__(self, session: Session, namespace: str, kind: str) -> None:
        self._namespace = namespace
        self._kind = kind
        self._events: dict[str, dict[str, tuple[str, ObjectEvent]]] = {}
        """By the object's uid and the event's name: the object's name and the event."""
        self._uids: dict[str, str] = {}
        self._listed: set[str] = set()
        super().__init__(session, f"events about {kind}s in {namespace}")

    def about(self, uid: str) -> list[ObjectEvent]:
        """Return the events about an object, newest first."""
        return sorted(
            (event for _, event in self._events.get(uid, {}).values()), key=lambda event: event.at, reverse=True
        )

    def about_prefix(self, prefix: str) -> list[ObjectEvent]:
        """Return the events about objects whose names begin with `prefix`, newest first."""
        events = [
            event for by_name in self._events.values() for name, event in by_name.values() if name.startswith(prefix)
        ]
        return sorted(events, key=lambda event: event.at, reverse=True)

    async def watch_path(self) -> WatchPath:
        query = {"fieldSelector": f"involvedObject.kind={self._kind}"}
        return WatchPath(
            f"events in namespace {self._namespace}", f"/api/v1/namespaces/{self._namespace}/events", query
        )

    def begin_list(self) -> None:
        self._listed = set()

    def add_listed(self, item: Body, at: float) -> None:
        self._listed.add(parse_subject(item).event)
        self._store(item, at)

    def end_list(self) -> None:
        for event in self._uids.keys() - self._listed:
            self._forget(event)

    def apply_change(self, change: str, item: Body, at: float) -> None:
        if change == "DELETED":
            self._forget(parse_subject(item).event)
        else:
            self._store(item, at)

    def _store(self, item: Mapping[str, Any], at: float) -> None:
        about = parse_subject(item)
        if about.kind == self._kind and about.reason in RELEVANT_REASONS:
            self._events.setdefault(about.uid, {})[about.event] = (about.name, parse_object_event(item, at))
            self._uids[about.event] = about.uid

    def _forget(self, event: str) -> None:
        uid = self._uids.pop(event, None)
        if uid is not None:
            del self._events[uid][event]
            if not self._events[uid]:
                del self._events[uid]


@dataclass(frozen=True, slots=True)
class Subject:
    """An event's own name and reason, and the object that it is about."""

    event: str
    kind: str
    name: str
    uid: str
    reason: str


def parse_subject(item: Mapping[str, Any]) -> Subject:
    """Parse the subject of an event. Raises `Unavailable` for a malformed one."""
    with unavailable_if_malformed("an event"):
        target = item["involvedObject"]
        return Subject(
            str(item["metadata"]["name"]),
            str(target.get("kind")),
            str(target.get("name")),
            str(target.get("uid")),
            str(item.get("reason")),
        )


def parse_object_event(item: Mapping[str, Any], at: float) -> ObjectEvent:
    """Parse an event of either API version, whose times are in different fields.

    Raises `Unavailable`.
    """
    with unavailable_if_malformed("an event"):
        created = seconds_of(item["metadata"].get("creationTimestamp"), at)
        first = seconds_of(item.get("firstTimestamp") or item.get("eventTime"), created)
        last = seconds_of((item.get("series") or {}).get("lastObservedTime") or item.get("lastTimestamp"), first)
        reporter = item.get("reportingComponent") or (item.get("source") or {}).get("component") or ""
        return ObjectEvent(str(item["reason"]), str(item.get("message") or ""), str(reporter), first, last)


async def events(context: Context, session: Session, cluster: KubeCluster, namespace: str, kind: str) -> KubeEvents:
    """Return the follower of events about a kind in a namespace that all workloads there share."""
    return await context.shared(
        ("kube events", cluster, namespace, kind), lambda: aclosing(KubeEvents(session, namespace, kind))
    )
