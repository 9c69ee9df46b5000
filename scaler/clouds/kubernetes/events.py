"""Events of schedulers and autoscalers about pods and Karpenter's NodeClaims: capacity comes, or it does not."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.list_and_watch import Follower, WatchPath
from scaler.clouds.kubernetes.session import Body, Session
from scaler.clouds.response_validation import understood
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Context

COMES: Final = frozenset({"TriggeredScaleUp", "Nominated"})
"""An autoscaler has bought, or found, a node for the pod."""
FAILS: Final = frozenset({"FailedScaleUp", "NotTriggerScaleUp", "InsufficientCapacityError"})
"""An autoscaler says that none comes."""
UNSCHEDULED: Final = "FailedScheduling"
"""The scheduler's says that nothing fits now, by which an autoscaler learns of the pod; Karpenter's own is final."""
RELEVANT_REASONS: Final = COMES | FAILS | {UNSCHEDULED}
QUOTA: Final = ("quota", "limit", "max node group size", "max cluster", "vcpulimitexceeded", "maxspotinstancecount")
"""Words for a limit that heals slowly: an account's quota, a NodePool's or a node group's maximum."""
BACKOFF: Final = ("in backoff", "out of resources", "stockout", "insufficientinstancecapacity", "unfulfillable")
"""Words for a lack of capacity. Where both are said, it is both: one of them will heal."""


@dataclass(frozen=True, slots=True)
class ObjectEvent:
    """The last of one kind of events about an object. `since` is its first time, `at` its last."""

    reason: str
    text: str
    by: str
    since: float
    at: float

    @property
    def fails(self) -> bool:
        """Whether an autoscaler reports that no node comes."""
        return self.reason in FAILS or (self.reason == UNSCHEDULED and "karpenter" in self.by)

    @property
    def quota(self) -> bool:
        """Whether only a limit stands in the way."""
        said = self.text.lower()
        return any(word in said for word in QUOTA) and not any(word in said for word in BACKOFF)


class KubeEvents(Follower):
    """The events about objects of one kind in a namespace, of those only what is `RELEVANT_REASONS`."""

    def __init__(self, session: Session, namespace: str, kind: str) -> None:
        self._namespace = namespace
        self._kind = kind
        self._events: dict[str, dict[str, tuple[str, ObjectEvent]]] = {}
        """By the object's uid: by the event's name its object's name and what it says."""
        self._owners: dict[str, str] = {}
        self._found: set[str] = set()
        super().__init__(session, f"events about {kind}s in {namespace}")

    def about(self, uid: str) -> list[ObjectEvent]:
        """Return the events about an object, the last first."""
        return sorted((s for _, s in self._events.get(uid, {}).values()), key=lambda s: s.at, reverse=True)

    def about_names(self, start: str) -> list[ObjectEvent]:
        """Return the events about objects whose names begin so, the last first."""
        said = [s for of in self._events.values() for name, s in of.values() if name.startswith(start)]
        return sorted(said, key=lambda s: s.at, reverse=True)

    async def where(self) -> WatchPath:
        query = {"fieldSelector": f"involvedObject.kind={self._kind}"}
        return WatchPath(
            f"events in namespace {self._namespace}", f"/api/v1/namespaces/{self._namespace}/events", query
        )

    def begin(self) -> None:
        self._found = set()

    def found(self, item: Body, at: float) -> None:
        self._found.add(parse_subject(item).event)
        self._keep(item, at)

    def end(self) -> None:
        for event in self._owners.keys() - self._found:
            self._forget(event)

    def changed(self, change: str, item: Body, at: float) -> None:
        if change == "DELETED":
            self._forget(parse_subject(item).event)
        else:
            self._keep(item, at)

    def _keep(self, item: Mapping[str, Any], at: float) -> None:
        about = parse_subject(item)
        if about.kind == self._kind and about.reason in RELEVANT_REASONS:
            self._events.setdefault(about.uid, {})[about.event] = (about.name, parse_object_event(item, at))
            self._owners[about.event] = about.uid

    def _forget(self, event: str) -> None:
        uid = self._owners.pop(event, None)
        if uid is not None:
            del self._events[uid][event]
            if not self._events[uid]:
                del self._events[uid]


@dataclass(frozen=True, slots=True)
class Subject:
    """What an event is called, and what it is about."""

    event: str
    kind: str
    name: str
    uid: str
    reason: str


def parse_subject(item: Mapping[str, Any]) -> Subject:
    """Return what an event is about. Raises `Unavailable` for one that no API server would send."""
    with understood("an event"):
        of = item["involvedObject"]
        return Subject(
            str(item["metadata"]["name"]),
            str(of.get("kind")),
            str(of.get("name")),
            str(of.get("uid")),
            str(item.get("reason")),
        )


def parse_object_event(item: Mapping[str, Any], at: float) -> ObjectEvent:
    """Parse an event of the old kind or the new, whose times stand in different places.

    Raises `Unavailable`.
    """
    with understood("an event"):
        made = seconds_of(item["metadata"].get("creationTimestamp"), at)
        first = seconds_of(item.get("firstTimestamp") or item.get("eventTime"), made)
        last = seconds_of((item.get("series") or {}).get("lastObservedTime") or item.get("lastTimestamp"), first)
        by = item.get("reportingComponent") or (item.get("source") or {}).get("component") or ""
        return ObjectEvent(str(item["reason"]), str(item.get("message") or ""), str(by), first, last)


async def events(context: Context, session: Session, cluster: KubeCluster, namespace: str, kind: str) -> KubeEvents:
    """Return the events about objects of a kind in a namespace, which all workloads there share."""
    return await context.shared(
        ("kube events", cluster, namespace, kind), lambda: aclosing(KubeEvents(session, namespace, kind))
    )
