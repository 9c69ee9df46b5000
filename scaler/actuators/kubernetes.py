"""Kubernetes: the size of anything with a scale subresource: Deployment, StatefulSet, LeaderWorkerSet, custom resource.

Sizes are read from one watch that all workloads of a namespace share, and written through the scale subresource under
the condition that the object is still the one that was seen. Whoever else sizes it is named, and left alone for a
while: an HPA, a KEDA ScaledObject, or somebody whose change was noticed. Its pods, their nodes and the events about
them tell where the replicas are, which of them will be taken, and which do not come.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from policies.model import Fresh, PoolName, PoolStatus, Shortfall, WorkloadName
from scaler.clouds.engines import load
from scaler.clouds.kubernetes import objects, other_autoscalers, permissions, replicas
from scaler.clouds.kubernetes import session as kube
from scaler.clouds.kubernetes import watch as kube_watch
from scaler.clouds.kubernetes.actions import following, sizing
from scaler.clouds.kubernetes.drainer import Drainer
from scaler.clouds.kubernetes.objects import ScalableState
from scaler.clouds.kubernetes.permissions import Action
from scaler.clouds.kubernetes.pods import Pod
from scaler.clouds.kubernetes.replicas import ReplicaDetails, ReplicaObserver
from scaler.clouds.kubernetes.session import Session
from scaler.clouds.kubernetes.sizes import ScaleObserver
from scaler.clouds.kubernetes.watch import SharedWatch
from scaler.config.kinds.kubernetes import Kubernetes
from scaler.ports import Context, Misconfigured, Permit, Unavailable

CALL_SHARE: Final = 0.8
"""The share of a turn's deadline that one call may take, so that its error, which names the call, comes first."""
DRAIN_SHARE: Final = 0.25
"""The share of it that each step of a drain may take: loads are read, pods are marked, then the size is written."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What one pool is watched and written with."""

    session: Session
    watch: SharedWatch
    sizes: ScaleObserver
    looks: ReplicaObserver | None
    drainer: Drainer | None


async def open_kubernetes(
    spec: Kubernetes, context: Context, workload: WorkloadName, pool: PoolName
) -> KubernetesResizer:
    """Open an object with a scale subresource. Raises `Misconfigured`."""
    session = await kube.session(context, spec.cluster)
    timeout_s = CALL_SHARE * context.deadline_s
    names = (spec.api_version, spec.object_kind, spec.namespace)
    watch = await kube_watch.watch(context, session, spec.cluster, *names)
    writers = await other_autoscalers.writers(context, session, spec.cluster, spec.namespace)
    target = objects.ScaleTarget(objects.group_of(spec.api_version), spec.object_kind, spec.name)
    sizes = ScaleObserver(target, watch, writers, timeout_s, spec.other_writer_yield_s)
    looks = await _looks(spec, context, session)
    drainer = await _drainer(spec, context, session, looks)
    return KubernetesResizer(spec, timeout_s, Tools(session, watch, sizes, looks, drainer))


async def _looks(spec: Kubernetes, context: Context, session: Session) -> ReplicaObserver | None:
    if not spec.watch_pods:
        return None
    followed = await replicas.followed(context, session, spec.cluster, spec.namespace)
    return ReplicaObserver(followed, spec.object_kind, spec.name, spec.market, spec.unscheduled_s)


async def _drainer(
    spec: Kubernetes, context: Context, session: Session, looks: ReplicaObserver | None
) -> Drainer | None:
    if spec.drain is None or looks is None:
        return None
    step_s = context.deadline_s * DRAIN_SHARE
    loads = await load.loads(context, ("pods", spec.cluster), spec.drain.access, spec.drain.preset, step_s)
    return Drainer(spec.drain, session, looks.pods, loads, spec.object_kind)


class KubernetesResizer:
    """The actuator's port."""

    def __init__(self, spec: Kubernetes, timeout_s: float, tools: Tools) -> None:
        self._spec = spec
        self._timeout_s = timeout_s
        self._session = tools.session
        self._watch = tools.watch
        self._sizes = tools.sizes
        self._looks = tools.looks
        self._drainer = tools.drainer
        self._size = 0
        self._going: Sequence[Pod] | None = None
        """The pods on their way out, as they were known last; None before that."""

    async def status(self) -> Fresh[PoolStatus]:
        state, foreign = await self._sizes.read()
        if self._looks is not None:
            await self._looks.wait_until_listed()
        self._size = size_of(state)
        going = self._on_their_way(state)
        serving = (state.ready or 0) - sum(pod.ready for pod in going)
        seen = self._seen(state)
        failed, short = missing_permission(state, seen)
        status = PoolStatus(
            self._size - len(going),
            max(0, serving),
            foreign,
            state.version,
            interruption_pending=min(seen.interruption_pending if seen else 0, max(0, serving)),
            interrupted=seen.interrupted if seen else 0,
            failed=failed,
            shortfall=short,
            parts=seen.parts if seen else (),
        )
        return Fresh(status, state.at)

    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        if self._drainer is None or self._looks is None:
            await self._sizes.write(replicas, seen.desired, seen.version)
            return
        state = await self._watch.state(self._spec.name, self._timeout_s)
        if not self._looks.pods.fresh and replicas > seen.desired:
            await self._sizes.write(replicas + len(self._going or ()), self._size, seen.version)
            return
        live, size = self._live(state), self._size
        if replicas >= size:
            await self._drainer.restore(self._drainer.draining(live, size))
        else:
            replicas = await self._drainer.step(live, size, replicas, self._looks.is_interruption_pending)
        if replicas != size:
            await self._sizes.write(replicas, size, seen.version)

    def unfinished(self) -> bool:
        """Whether pods are on their way out, and want to be looked after until they are gone."""
        return bool(self._going)

    async def permits(self) -> Sequence[Permit]:
        return await permissions.permits(self._session, await self._actions(), self._timeout_s)

    async def _actions(self) -> list[Action]:
        kind = await self._watch.kind(self._timeout_s)
        actions = sizing(kind, self._spec.namespace)
        if self._looks is not None:
            actions += following(self._spec.namespace, drain=self._drainer is not None)
        return actions

    # --- what is known of the pods

    def _on_their_way(self, state: ScalableState) -> Sequence[Pod]:
        """Those that drain; while pods are not known, as they were known last: growth must not wait for them."""
        if self._drainer is None or self._looks is None:
            return ()
        if self._looks.pods.fresh or self._going is None:
            self._going = self._drainer.draining(self._live(state), self._size)
        return self._going

    def _live(self, state: ScalableState) -> list[Pod]:
        """The pods that count as replicas. Raises `Unavailable` where they are not known."""
        if self._looks is None or state.selector is None:
            raise Unavailable(f"{self._spec.name}: its pods cannot be told, and drain needs to know them")
        drain, pods = self._spec.drain, self._looks.pods
        if drain is not None and state.selector.names(drain.routing_label):
            hint = "its controller would replace a pod without it; choose a label that only the Service selects by"
            raise Misconfigured(f"{self._spec.name}: its own selector names {drain.routing_label}: {hint}")
        if not pods.fresh:
            raise Unavailable(f"{self._spec.name}: its pods are not known now: {pods.error or 'not yet listed'}")
        return self._looks.live(state.selector)

    def _seen(self, state: ScalableState) -> ReplicaDetails | None:
        if self._looks is None or state.selector is None:
            return None
        return self._looks.observe(state.selector)


def size_of(state: ScalableState) -> int:
    """The size asked for: told of every state that the watch gives out."""
    assert state.desired is not None  # noqa: S101 - an invariant of `SharedWatch.state`
    return state.desired


def missing_permission(state: ScalableState, seen: ReplicaDetails | None) -> tuple[int, Shortfall | None]:
    """How many do not come, and why: pods that were refused, and those that no node is found for."""
    failed, short = (seen.failed, seen.shortfall) if seen else (0, None)
    if state.refusal is not None:
        text = state.refusal.text
        return failed + state.refusal.pods, Shortfall(state.refusal.at, text, quota="exceeded quota" in text)
    return failed, short
