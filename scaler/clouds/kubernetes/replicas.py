"""One pool's pods on their nodes: where they are, which will be taken, which were, and which do not come."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from policies.model import Part, Shortfall
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.events import COMES, UNSCHEDULED, KubeEvents, Saying, events
from scaler.clouds.kubernetes.nodes import KubeNode, KubeNodes, nodes
from scaler.clouds.kubernetes.pods import NamespacePods, Pod, pods
from scaler.clouds.kubernetes.selectors import Selector
from scaler.clouds.kubernetes.session import Session
from scaler.ports import Clock, Context

FIRST_S: Final = 1.0
"""How long the first look waits for pods and nodes to be listed."""


@dataclass(frozen=True, slots=True)
class ReplicaDetails:
    """What is known of a pool's replicas beyond its size."""

    parts: tuple[Part, ...] = ()
    doomed: int = 0
    interrupted: int = 0
    failed: int = 0
    short: Shortfall | None = None


@dataclass(frozen=True, slots=True)
class ServingReplica:
    """A replica that served at the last look: its node, and whether its loss would be an interruption."""

    node: str
    spot: bool
    doomed: bool


class ReplicaObserver:
    """Looks at one pool's pods. Without the permission to read nodes or events, what they would tell is not told."""

    def __init__(self, followed: Followed, kind: str, name: str, market: str, unscheduled_s: float) -> None:
        self._clock: Clock = followed.pods.clock
        self._kind = kind
        self._name = name
        self._followed = followed
        self._market = market
        self._unscheduled_s = unscheduled_s
        self._held: dict[str, ServingReplica] = {}
        self._interrupted = 0

    @property
    def pods(self) -> NamespacePods:
        return self._followed.pods

    async def ready(self) -> None:
        """Return when what there is was listed once, or cannot be, or takes too long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(FIRST_S):
                for one in (self._followed.pods, self._followed.nodes, self._followed.events):
                    await one.heard.wait()

    def live(self, selector: Selector) -> list[Pod]:
        """The pods that count as replicas."""
        chosen = self._followed.pods.of(selector).values()
        return [pod for pod in chosen if pod.live and pod.belongs(self._kind, self._name)]

    def look(self, selector: Selector) -> ReplicaDetails:
        """What there is now. While the pods are not known, only what was counted so far."""
        if not self._followed.pods.fresh:
            return ReplicaDetails(interrupted=self._interrupted)
        chosen = self.live(selector)
        serving = {pod.uid: pod for pod in chosen if pod.ready}
        self._count_lost(serving)
        self._held = {uid: self._hold(pod) for uid, pod in serving.items()}
        failing = [(pod, why) for pod in chosen if not pod.ready and (why := self._fails(pod)) is not None]
        return ReplicaDetails(
            parts=self._parts(chosen),
            doomed=sum(held.doomed for uid, held in self._held.items() if not serving[uid].draining),
            interrupted=self._interrupted,
            failed=len(failing),
            short=shortfall(why for _, why in failing),
        )

    # --- what is taken

    def _hold(self, pod: Pod) -> ServingReplica:
        node = self._node(pod)
        return ServingReplica(pod.node, (node.market if node else self._market) == "spot", self.is_doomed(pod))

    def is_doomed(self, pod: Pod) -> bool:
        """Whether a node that the replica stands on will be taken: a group is lost with each of its pods."""
        return any(
            node is not None and self._followed.nodes.taken(node) != ""
            for node in map(self._node, self._followed.pods.group(pod))
        )

    def _count_lost(self, serving: Iterable[str]) -> None:
        """Count what the cloud took since the last look: announced, or with its node. Draining by us is no loss."""
        for uid in self._held.keys() - set(serving):
            held = self._held[uid]
            known = self._followed.nodes.fresh
            if held.spot and (held.doomed or (known and self._followed.nodes.get(held.node) is None)):
                self._interrupted += 1

    def _node(self, pod: Pod) -> KubeNode | None:
        return self._followed.nodes.get(pod.node) if pod.node else None

    # --- where they are, and what does not come

    def _parts(self, chosen: list[Pod]) -> tuple[Part, ...]:
        counts: defaultdict[tuple[str, str], list[int]] = defaultdict(lambda: [0, 0, 0])
        for pod in chosen:
            node = self._node(pod)
            if node is not None and not pod.draining:
                count = counts[node.zone, node.market]
                count[0 if pod.ready else 1] += 1
                count[2] += pod.ready and self.is_doomed(pod)
        return tuple(Part(zone, market, *count) for (zone, market), count in sorted(counts.items()))

    def _fails(self, pod: Pod) -> Saying | None:
        """Why a pod will not come, as the last autoscaler said; the scheduler's word counts when nobody heeds it."""
        if pod.node or not self._followed.events.fresh:
            return None
        for said in self._followed.events.about(pod.uid):
            if said.fails:
                return said
            if said.reason in COMES:
                return None
            if said.reason == UNSCHEDULED and not self._heeded(pod) and self._waits_s(pod) > self._unscheduled_s:
                return said
        return None

    def _heeded(self, pod: Pod) -> bool:
        """Whether an autoscaler has said anything about it."""
        return any(said.fails or said.reason in COMES for said in self._followed.events.about(pod.uid))

    def _waits_s(self, pod: Pod) -> float:
        return self._clock.now() - pod.made_at


def shortfall(reasons: Iterable[Saying]) -> Shortfall | None:
    """The newest of what was said. One that is repeated while nothing is tried anew is one saying."""
    told = [(said.at if said.reason == "FailedScaleUp" else said.since, said) for said in reasons]
    if not told:
        return None
    at, said = max(told, key=lambda one: one[0])
    return Shortfall(at, f"{said.reason}: {said.text}", said.quota)


@dataclass(frozen=True, slots=True)
class Followed:
    """The three collections that tell of replicas."""

    pods: NamespacePods
    nodes: KubeNodes
    events: KubeEvents


async def followed(context: Context, session: Session, cluster: KubeCluster, namespace: str) -> Followed:
    """The watches of one namespace that all workloads share."""
    return Followed(
        await pods(context, session, cluster, namespace),
        await nodes(context, session, cluster),
        await events(context, session, cluster, namespace, "Pod"),
    )
