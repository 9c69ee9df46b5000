"""One pool's pods on their nodes.

The module reports their zones and markets, their interruptions, and pods without capacity.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from policies.model import PoolPart, Shortfall
from scaler.clouds.interruptions import InterruptionTracker
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.events import CAPACITY_FOUND, UNSCHEDULED, KubeEvents, ObjectEvent, events
from scaler.clouds.kubernetes.list_and_watch import wait_until_listed
from scaler.clouds.kubernetes.nodes import KubeNode, KubeNodes, nodes
from scaler.clouds.kubernetes.pods import NamespacePods, Pod, pods
from scaler.clouds.kubernetes.selectors import Selector
from scaler.clouds.kubernetes.session import Session
from scaler.clouds.parts import sum_parts
from scaler.ports import Clock, Context


@dataclass(frozen=True, slots=True)
class ReplicaDetails:
    """Details of a pool's replicas."""

    parts: tuple[PoolPart, ...] = ()
    interruption_pending: int = 0
    interrupted: int = 0
    failed: int = 0
    shortfall: Shortfall | None = None


class ReplicaObserver:
    """Observes one pool's pods.

    Without permission to read nodes or events, their details are omitted.
    """

    def __init__(self, watched: WatchedCollections, kind: str, name: str, market: str, unscheduled_s: float) -> None:
        self._clock: Clock = watched.pods.clock
        self._kind = kind
        self._name = name
        self._watched = watched
        self._market = market
        self._unscheduled_s = unscheduled_s
        self._nodes: dict[str, str] = {}
        """Node of each replica that served at the last observation, by the pod's uid."""
        self._interruptions = InterruptionTracker(watched.nodes.notices)

    @property
    def pods(self) -> NamespacePods:
        return self._watched.pods

    async def wait_until_listed(self) -> None:
        """Wait until pods, nodes and events were listed once or failed, for a short time."""
        await wait_until_listed(self._watched.pods, self._watched.nodes, self._watched.events)

    def live(self, selector: Selector) -> list[Pod]:
        """Return the pods that count as replicas."""
        pods = self._watched.pods.select(selector).values()
        return [pod for pod in pods if pod.live and pod.belongs(self._kind, self._name)]

    def observe(self, selector: Selector) -> ReplicaDetails:
        """Return the present details; while the pods are unknown, only the interruptions so far."""
        if not self._watched.pods.fresh:
            return ReplicaDetails(interrupted=self._interruptions.interrupted)
        pods = self.live(selector)
        serving = {pod.uid: pod for pod in pods if pod.ready}
        self._count_interruptions(serving)
        failing = [(pod, event) for pod in pods if not pod.ready and (event := self._failure(pod)) is not None]
        return ReplicaDetails(
            parts=self._parts(pods),
            interruption_pending=sum(not serving[uid].draining for uid in self._interruptions.noticed),
            interrupted=self._interruptions.interrupted,
            failed=len(failing),
            shortfall=shortfall(event for _, event in failing),
        )

    # --- interruptions

    def is_interruption_pending(self, pod: Pod) -> bool:
        """Return whether a node of the replica will be interrupted.

        A group fails with any of its pods.
        """
        return any(
            node is not None and self._watched.nodes.interruption_reason(node) != ""
            for node in map(self._node, self._watched.pods.group(pod))
        )

    def _count_interruptions(self, serving: Mapping[str, Pod]) -> None:
        """Count the spot replicas interrupted since the last observation.

        They were announced, or are gone together with their node. A replica that this process drained is not an
        interruption.
        """
        nodes = self._watched.nodes

        def was_interrupted(uid: str, noticed: bool) -> bool:
            return noticed or (nodes.fresh and nodes.get(self._nodes[uid]) is None)

        noticed = {uid for uid, pod in serving.items() if self.is_interruption_pending(pod)}
        self._interruptions.track(
            {uid: int(self._is_spot(pod)) for uid, pod in serving.items()}, noticed, was_interrupted
        )
        self._nodes = {uid: pod.node for uid, pod in serving.items()}

    def _is_spot(self, pod: Pod) -> bool:
        node = self._node(pod)
        return (node.market if node else self._market) == "spot"

    def _node(self, pod: Pod) -> KubeNode | None:
        return self._watched.nodes.get(pod.node) if pod.node else None

    # --- placement and missing capacity

    def _parts(self, pods: list[Pod]) -> tuple[PoolPart, ...]:
        placed = ((pod, self._node(pod)) for pod in pods if not pod.draining)
        return sum_parts(
            PoolPart(
                node.zone,
                node.market,
                int(pod.ready),
                int(not pod.ready),
                int(pod.ready and pod.uid in self._interruptions.noticed),
            )
            for pod, node in placed
            if node is not None
        )

    def _failure(self, pod: Pod) -> ObjectEvent | None:
        """Return the event why a pod will not start.

        It is the autoscalers' latest event, or the scheduler's where none reacted.
        """
        if pod.node or not self._watched.events.fresh:
            return None
        for event in self._watched.events.about(pod.uid):
            if event.fails:
                return event
            if event.reason in CAPACITY_FOUND:
                return None
            if (
                event.reason == UNSCHEDULED
                and not self._has_autoscaler_event(pod)
                and self._age_s(pod) > self._unscheduled_s
            ):
                return event
        return None

    def _has_autoscaler_event(self, pod: Pod) -> bool:
        """Return whether an autoscaler reported on the pod."""
        return any(event.fails or event.reason in CAPACITY_FOUND for event in self._watched.events.about(pod.uid))

    def _age_s(self, pod: Pod) -> float:
        return self._clock.now() - pod.created_at


def shortfall(reasons: Iterable[ObjectEvent]) -> Shortfall | None:
    """Return the newest event as a shortfall.

    A repeated event keeps its first time unless it was a new attempt.
    """
    dated = [(event.at if event.reason == "FailedScaleUp" else event.since, event) for event in reasons]
    if not dated:
        return None
    at, event = max(dated, key=lambda item: item[0])
    return Shortfall(at, f"{event.reason}: {event.text}", event.quota)


@dataclass(frozen=True, slots=True)
class WatchedCollections:
    """The watched pods, nodes and events of one namespace."""

    pods: NamespacePods
    nodes: KubeNodes
    events: KubeEvents


async def watched(context: Context, session: Session, cluster: KubeCluster, namespace: str) -> WatchedCollections:
    """Return the collections of one namespace that all workloads share."""
    return WatchedCollections(
        await pods(context, session, cluster, namespace),
        await nodes(context, session, cluster),
        await events(context, session, cluster, namespace, "Pod"),
    )
