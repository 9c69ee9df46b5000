"""The pods of a namespace, by whom they serve: one watch for all workloads there."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.list_and_watch import Follower, WatchPath
from scaler.clouds.kubernetes.objects import newer, text_field
from scaler.clouds.kubernetes.selectors import Selector
from scaler.clouds.kubernetes.session import Body, Session
from scaler.clouds.response_validation import understood
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Context

COST: Final = "controller.kubernetes.io/pod-deletion-cost"
DRAINING: Final = "forescale.io/draining-since"
GROUP: Final = "leaderworkerset.sigs.k8s.io/group-key"
"""Pods of one replica of a LeaderWorkerSet have this label in common."""
NOBODY: Final = ("", "")
KEPT: Final = (COST, DRAINING)
"""Annotations that are kept."""


@dataclass(frozen=True, slots=True)
class Pod:
    """What is kept of a pod. `made_at` is when it was made, seconds since the Unix epoch."""

    name: str
    uid: str
    node: str
    address: str
    phase: str
    ready: bool
    leaving: bool
    made_at: float
    version: str = ""
    owner: tuple[str, str] = ("", "")
    """Kind and name of what controls it."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    def belongs(self, kind: str, name: str) -> bool:
        """Return whether it may be a pod of that object, and not one whose labels happen to fit."""
        owner, of = self.owner
        if kind == "Deployment" and owner:
            return owner == "ReplicaSet" and of.rpartition("-")[0] == name
        if kind in {"StatefulSet", "ReplicaSet"} and owner:
            return (owner, of) == (kind, name)
        return True

    @property
    def draining(self) -> bool:
        return DRAINING in self.annotations

    @property
    def live(self) -> bool:
        """Whether it counts as a replica: neither ended nor terminating."""
        return not self.leaving and self.phase not in {"Succeeded", "Failed"}


class NamespacePods(Follower):
    """All pods of one namespace. Each selector that was asked for once is kept up to date."""

    def __init__(self, session: Session, namespace: str) -> None:
        self.namespace = namespace
        self._pods: dict[str, Pod] = {}
        self._found: set[str] = set()
        self._chosen: dict[Selector, dict[str, Pod]] = {}
        self._by_key: defaultdict[tuple[str, str] | None, list[Selector]] = defaultdict(list)
        self._groups: defaultdict[str, set[str]] = defaultdict(set)
        self._values: dict[str, defaultdict[str, set[str]]] = {}
        """The pods by the value of each label that selectors look at: thousands of workloads are told apart by one."""
        super().__init__(session, f"pods in {namespace}")

    def of(self, selector: Selector) -> Mapping[str, Pod]:
        """Return the pods that a selector selects, by name."""
        if selector not in self._chosen:
            names = self._having(*selector.key) if selector.key else self._pods.keys()
            chosen = {name: self._pods[name] for name in names if selector.matches(self._pods[name].labels)}
            self._chosen[selector] = chosen
            self._by_key[selector.key].append(selector)
        return self._chosen[selector]

    def _having(self, label: str, value: str) -> set[str]:
        """Return the pods with a label's value."""
        if label not in self._values:
            self._values[label] = defaultdict(set)
            for name, pod in self._pods.items():
                if label in pod.labels:
                    self._values[label][pod.labels[label]].add(name)
        return self._values[label].get(value, set())

    def group(self, pod: Pod) -> list[Pod]:
        """Return all pods of a pod's replica: itself, or its group."""
        members = self._groups.get(pod.labels.get(GROUP, ""), ())
        return [self._pods[name] for name in members] or [pod]

    def learn(self, item: Body) -> None:
        """Take the answer of a write; the watch reports it a moment later."""
        self.changed("MODIFIED", item, self._clock.now())

    async def where(self) -> WatchPath:
        return WatchPath(f"pods in namespace {self.namespace}", f"/api/v1/namespaces/{self.namespace}/pods")

    def begin(self) -> None:
        self._found = set()

    def found(self, item: Body, at: float) -> None:
        pod = parse(item, at)
        self._found.add(pod.name)
        self._keep(pod)

    def end(self) -> None:
        for name in self._pods.keys() - self._found:
            self._forget(name)

    def changed(self, change: str, item: Body, at: float) -> None:
        pod = parse(item, at)
        present = self._pods.get(pod.name)
        if change == "DELETED":
            self._forget(pod.name)
        elif present is None or present.uid != pod.uid or newer(pod.version, present.version):
            self._keep(pod)

    def _keep(self, pod: Pod) -> None:
        self._forget(pod.name)
        self._pods[pod.name] = pod
        if group := pod.labels.get(GROUP):
            self._groups[group].add(pod.name)
        for label, values in self._values.items():
            if label in pod.labels:
                values[pod.labels[label]].add(pod.name)
        for selector in self._candidates(pod):
            if selector.matches(pod.labels):
                self._chosen[selector][pod.name] = pod

    def _forget(self, name: str) -> None:
        pod = self._pods.pop(name, None)
        if pod is None:
            return
        if group := pod.labels.get(GROUP):
            self._groups[group].discard(name)
            if not self._groups[group]:
                del self._groups[group]
        for label, values in self._values.items():
            if label in pod.labels:
                values[pod.labels[label]].discard(name)
                if not values[pod.labels[label]]:
                    del values[pod.labels[label]]
        for selector in self._candidates(pod):
            self._chosen[selector].pop(name, None)

    def _candidates(self, pod: Pod) -> list[Selector]:
        """Return the selectors that may select a pod.

        Those found by one of its labels, and those with no such key.
        """
        found = list(self._by_key.get(None, ()))
        for label in pod.labels.items():
            found += self._by_key.get(label, ())
        return found


def parse(body: Mapping[str, Any], at: float) -> Pod:
    """Parse a pod. Raises `Unavailable` for one that no API server would send."""
    with understood("a pod"):
        metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
        annotations = metadata.get("annotations") or {}
        return Pod(
            name=text_field(metadata, "name"),
            uid=text_field(metadata, "uid"),
            node=sys.intern(str(spec.get("nodeName") or "")),
            address=str(status.get("podIP") or ""),
            phase=str(status.get("phase") or ""),
            ready=any(c["type"] == "Ready" and c["status"] == "True" for c in status.get("conditions") or ()),
            leaving=bool(metadata.get("deletionTimestamp")),
            made_at=seconds_of(metadata.get("creationTimestamp"), at),
            version=str(metadata.get("resourceVersion") or ""),
            owner=next(
                ((o["kind"], o["name"]) for o in metadata.get("ownerReferences") or () if o.get("controller")), NOBODY
            ),
            labels={sys.intern(k): sys.intern(v) for k, v in (metadata.get("labels") or {}).items()},
            annotations={key: annotations[key] for key in KEPT if key in annotations},
        )


async def pods(context: Context, session: Session, cluster: KubeCluster, namespace: str) -> NamespacePods:
    """Return the pods of a namespace, as all workloads there share them."""
    return await context.shared(("kube pods", cluster, namespace), lambda: aclosing(NamespacePods(session, namespace)))
