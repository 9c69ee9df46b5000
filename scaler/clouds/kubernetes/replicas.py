"""One pool's pods on their nodes: by zone and market, interruptions, and pods that do not come."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from policies.model import Part, Shortfall
from scaler.clouds.interruptions import InterruptionTracker
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.events import COMES, UNSCHEDULED, KubeEvents, ObjectEvent, events
from scaler.clouds.kubernetes.nodes import KubeNode, KubeNodes, nodes
from scaler.clouds.kubernetes.pods import NamespacePods, Pod, pods
from scaler.clouds.kubernetes.selectors import Selector
from scaler.clouds.kubernetes.session import Session
from scaler.clouds.parts import sum_parts
from scaler.ports import Clock, Context

FIRST_S: Final = 1.0
"""How long the first look waits for pods and nodes to be listed."""


@dataclass(frozen=True, slots=True)
class ReplicaDetails:
    """A pool's replicas beyond their number."""

    parts: tuple[Part, ...] = ()
    interruption_pending: int = 0
    interrupted: int = 0
    failed: int = 0
    shortfall: Shortfall | None = None


class ReplicaObserver:
    """Looks at one pool's pods. Without the permission to read nodes or events, what they would tell is not told."""

    def __init__(self, followed: Followed, kind: str, name: str, market: str, unscheduled_s: float) -> None:
        self._clock: Clock = followed.pods.clock
        self._kind = kind
        self._name = name
        self._followed = followed
        self._market = market
        self._unscheduled_s = unscheduled_s
        self._nodes: dict[str, str] = {}
        """The node of each replica that served at the last look, by the pod's uid."""
        self._interruptions = InterruptionTracker(followed.nodes.notices)

    @property
    def pods(self) -> NamespacePods:
        return self._followed.pods

    async def wait_until_listed(self) -> None:
        """Wait until the pods, nodes and events were listed once, or cannot be, at most `FIRST_S`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_S):
                for one in (self._followed.pods, self._followed.nodes, self._followed.events):
                    await one.listed.wait()

    def live(self, selector: Selector) -> list[Pod]:
        """Return the pods that count as replicas."""
        chosen = self._followed.pods.of(selector).values()
        return [pod for pod in chosen if pod.live and pod.belongs(self._kind, self._name)]

    def observe(self, selector: Selector) -> ReplicaDetails:
        """Return what there is now; while the pods are not known, only the interruptions so far."""
        if not self._followed.pods.fresh:
            return ReplicaDetails(interrupted=self._interruptions.interrupted)
        chosen = self.live(selector)
        serving = {pod.uid: pod for pod in chosen if pod.ready}
        self._observe(serving)
        failing = [(pod, why) for pod in chosen if not pod.ready and (why := self._failure(pod)) is not None]
        return ReplicaDetails(
            parts=self._parts(chosen),
            interruption_pending=sum(not serving[uid].draining for uid in self._interruptions.noticed),
            interrupted=self._interruptions.interrupted,
            failed=len(failing),
            shortfall=shortfall(why for _, why in failing),
        )

    # --- what is taken

    def is_interruption_pending(self, pod: Pod) -> bool:
        """Return whether a node of the replica will be interrupted.

        A group is lost with each of its pods.
        """
        return any(
            node is not None and self._followed.nodes.interruption_reason(node) != ""
            for node in map(self._node, self._followed.pods.group(pod))
        )

    def _observe(self, serving: Mapping[str, Pod]) -> None:
        """Count the spot replicas interrupted since the last look.

        Announced, or gone with their node.

        A replica that this process drained is no interruption.
        """
        nodes = self._followed.nodes

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
        return self._followed.nodes.get(pod.node) if pod.node else None

    # --- where they are, and what does not come

    def _parts(self, chosen: list[Pod]) -> tuple[Part, ...]:
        placed = ((pod, self._node(pod)) for pod in chosen if not pod.draining)
        return sum_parts(
            Part(
                node.zone,
                node.market,
                int(pod.ready),
                int(not pod.ready),
                int(pod.ready and self.is_interruption_pending(pod)),
            )
            for pod, node in placed
            if node is not None
        )

    def _failure(self, pod: Pod) -> ObjectEvent | None:
        """Return why a pod will not come, by the last autoscaler.

        By the scheduler where no autoscaler reacts.
        """
        if pod.node or not self._followed.events.fresh:
            return None
        for said in self._followed.events.about(pod.uid):
            if said.fails:
                return said
            if said.reason in COMES:
                return None
            if (
                said.reason == UNSCHEDULED
                and not self._has_autoscaler_event(pod)
                and self._waits_s(pod) > self._unscheduled_s
            ):
                return said
        return None

    def _has_autoscaler_event(self, pod: Pod) -> bool:
        """Return whether an autoscaler reported anything about the pod."""
        return any(said.fails or said.reason in COMES for said in self._followed.events.about(pod.uid))

    def _waits_s(self, pod: Pod) -> float:
        return self._clock.now() - pod.made_at


def shortfall(reasons: Iterable[ObjectEvent]) -> Shortfall | None:
    """Return the newest reason as a shortfall.

    One that is repeated while nothing is tried anew keeps its time.
    """
    dated = [(said.at if said.reason == "FailedScaleUp" else said.since, said) for said in reasons]
    if not dated:
        return None
    at, said = max(dated, key=lambda one: one[0])
    return Shortfall(at, f"{said.reason}: {said.text}", said.quota)


@dataclass(frozen=True, slots=True)
class Followed:
    """The three collections that tell of replicas."""

    pods: NamespacePods
    nodes: KubeNodes
    events: KubeEvents


async def followed(context: Context, session: Session, cluster: KubeCluster, namespace: str) -> Followed:
    """Return the watches of one namespace that all workloads share."""
    return Followed(
        await pods(context, session, cluster, namespace),
        await nodes(context, session, cluster),
        await events(context, session, cluster, namespace, "Pod"),
    )
