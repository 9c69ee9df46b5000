"""The pods of a namespace, by selector, in one watch for all workloads there."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, Final

from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.list_and_watch import Follower, WatchPath
from scaler.clouds.kubernetes.objects import is_newer, text_field
from scaler.clouds.kubernetes.selectors import Selector
from scaler.clouds.kubernetes.session import Body, Session
from scaler.clouds.response_validation import unavailable_if_malformed
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Context

COST: Final = "controller.kubernetes.io/pod-deletion-cost"
DRAINING: Final = "forescale.io/draining-since"
GROUP: Final = "leaderworkerset.sigs.k8s.io/group-key"
"""Label that the pods of one LeaderWorkerSet replica share."""
NO_OWNER: Final = ("", "")
ANNOTATIONS: Final = (COST, DRAINING)
"""Annotations that are kept of a pod."""


@dataclass(frozen=True, slots=True)
class Pod:
    """The fields that are kept of a pod. `created_at` is in seconds since the Unix epoch."""

    name: str
    uid: str
    node: str
    address: str
    phase: str
    ready: bool
    leaving: bool
    created_at: float
    version: str = ""
    owner: tuple[str, str] = ("", "")
    """Kind and name of its controller."""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)

    def belongs(self, kind: str, name: str) -> bool:
        """Return whether its controller may be that object, rather than only its labels matching."""
        owner_kind, owner_name = self.owner
        if kind == "Deployment" and owner_kind:
            return owner_kind == "ReplicaSet" and owner_name.rpartition("-")[0] == name
        if kind in {"StatefulSet", "ReplicaSet"} and owner_kind:
            return (owner_kind, owner_name) == (kind, name)
        return True

    @property
    def draining(self) -> bool:
        return DRAINING in self.annotations

    @property
    def live(self) -> bool:
        """Whether it counts as a replica: neither ended nor terminating."""
        return not self.leaving and self.phase not in {"Succeeded", "Failed"}


class NamespacePods(Follower):
    """All pods of one namespace.

    It holds an up-to-date index for each selector that was requested once.
    """

    def __init__(self, session: Session, namespace: str) -> None:
        self.namespace = namespace
        self._pods: dict[str, Pod] = {}
        self._listed: set[str] = set()
        self._by_selector: dict[Selector, dict[str, Pod]] = {}
        self._selectors_by_key: defaultdict[tuple[str, str] | None, list[Selector]] = defaultdict(list)
        self._groups: defaultdict[str, set[str]] = defaultdict(set)
        self._by_label: dict[str, defaultdict[str, set[str]]] = {}
        """Pod names by value of each label in a selector's key, which distinguishes thousands of workloads."""
        super().__init__(session, f"pods in {namespace}")

    def select(self, selector: Selector) -> Mapping[str, Pod]:
        """Return the pods that match a selector, by name."""
        if selector not in self._by_selector:
            names = self._with_label(*selector.key) if selector.key else self._pods.keys()
            pods = {name: self._pods[name] for name in names if selector.matches(self._pods[name].labels)}
            self._by_selector[selector] = pods
            self._selectors_by_key[selector.key].append(selector)
        return self._by_selector[selector]

    def _with_label(self, label: str, value: str) -> set[str]:
        """Return the names of the pods with a label's value."""
        if label not in self._by_label:
            self._by_label[label] = defaultdict(set)
            for name, pod in self._pods.items():
                if label in pod.labels:
                    self._by_label[label][pod.labels[label]].add(name)
        return self._by_label[label].get(value, set())

    def group(self, pod: Pod) -> list[Pod]:
        """Return all pods of a pod's replica: the pod itself, or its group."""
        members = self._groups.get(pod.labels.get(GROUP, ""), ())
        return [self._pods[name] for name in members] or [pod]

    def apply_response(self, item: Body) -> None:
        """Apply the response of a write; the watch reports it later."""
        self.apply_change("MODIFIED", item, self._clock.now())

    async def watch_path(self) -> WatchPath:
        return WatchPath(f"pods in namespace {self.namespace}", f"/api/v1/namespaces/{self.namespace}/pods")

    def begin_list(self) -> None:
        self._listed = set()

    def add_listed(self, item: Body, at: float) -> None:
        pod = parse(item, at)
        self._listed.add(pod.name)
        self._store(pod)

    def end_list(self) -> None:
        for name in self._pods.keys() - self._listed:
            self._remove(name)

    def apply_change(self, change: str, item: Body, at: float) -> None:
        pod = parse(item, at)
        present = self._pods.get(pod.name)
        if change == "DELETED":
            self._remove(pod.name)
        elif present is None or present.uid != pod.uid or is_newer(pod.version, present.version):
            self._store(pod)

    def _store(self, pod: Pod) -> None:
        self._remove(pod.name)
        self._pods[pod.name] = pod
        if group := pod.labels.get(GROUP):
            self._groups[group].add(pod.name)
        for label, values in self._by_label.items():
            if label in pod.labels:
                values[pod.labels[label]].add(pod.name)
        for selector in self._candidates(pod):
            if selector.matches(pod.labels):
                self._by_selector[selector][pod.name] = pod

    def _remove(self, name: str) -> None:
        pod = self._pods.pop(name, None)
        if pod is None:
            return
        if group := pod.labels.get(GROUP):
            self._groups[group].discard(name)
            if not self._groups[group]:
                del self._groups[group]
        for label, values in self._by_label.items():
            if label in pod.labels:
                values[pod.labels[label]].discard(name)
                if not values[pod.labels[label]]:
                    del values[pod.labels[label]]
        for selector in self._candidates(pod):
            self._by_selector[selector].pop(name, None)

    def _candidates(self, pod: Pod) -> list[Selector]:
        """Return the selectors that may match a pod.

        They are those with one of its labels as key, and those without a key.
        """
        selectors = list(self._selectors_by_key.get(None, ()))
        for label in pod.labels.items():
            selectors += self._selectors_by_key.get(label, ())
        return selectors


def parse(body: Mapping[str, Any], at: float) -> Pod:
    """Parse a pod. Raises `Unavailable` for a malformed one."""
    with unavailable_if_malformed("a pod"):
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
            created_at=seconds_of(metadata.get("creationTimestamp"), at),
            version=str(metadata.get("resourceVersion") or ""),
            owner=next(
                ((o["kind"], o["name"]) for o in metadata.get("ownerReferences") or () if o.get("controller")), NO_OWNER
            ),
            labels={sys.intern(k): sys.intern(v) for k, v in (metadata.get("labels") or {}).items()},
            annotations={key: annotations[key] for key in ANNOTATIONS if key in annotations},
        )


async def pods(context: Context, session: Session, cluster: KubeCluster, namespace: str) -> NamespacePods:
    """Return the pods of a namespace that all workloads there share."""
    return await context.shared(("kube pods", cluster, namespace), lambda: aclosing(NamespacePods(session, namespace)))
