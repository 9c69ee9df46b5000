"""Kubernetes: any object with a scale subresource.

It may be a Deployment, StatefulSet, LeaderWorkerSet or custom resource.

Sizes are read from one watch that all workloads of a namespace share, and written through the scale subresource if the
object is still the observed one. Another writer is reported, and its size left alone for a while: an HPA, a KEDA
ScaledObject, or an unknown writer whose change was detected. Pods, their nodes and events give the replicas' zones,
pending interruptions, and missing capacity.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from policies.model import Fresh, PoolName, PoolStatus, WorkloadName
from scaler.clouds.api_channel import CALL_SHARE
from scaler.clouds.engines import load
from scaler.clouds.kubernetes import objects, other_autoscalers, permissions, pool_status
from scaler.clouds.kubernetes import session as kube
from scaler.clouds.kubernetes import watch as kube_watch
from scaler.clouds.kubernetes.actions import following, sizing
from scaler.clouds.kubernetes.drainer import Drainer
from scaler.clouds.kubernetes.objects import ScalableState
from scaler.clouds.kubernetes.permissions import Action
from scaler.clouds.kubernetes.pods import Pod
from scaler.clouds.kubernetes.replicas import ReplicaObserver
from scaler.clouds.kubernetes.session import Session
from scaler.clouds.kubernetes.sizes import ScaleObserver, requested_size
from scaler.clouds.kubernetes.watch import SharedWatch
from scaler.config.kinds.kubernetes import Kubernetes
from scaler.ports import Context, Misconfigured, Permit, Unavailable

DRAIN_SHARE: Final = 0.25
"""Share of a tick's deadline for each step of a drain: read loads, mark pods, write the size."""


@dataclass(frozen=True, slots=True)
class PoolClients:
    """The clients of one pool."""

    session: Session
    watch: SharedWatch
    sizes: ScaleObserver
    replica_observer: ReplicaObserver | None
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
    replica_observer = await pool_status.open_replica_observer(spec, spec.object_kind, spec.name, context, session)
    drainer = await _open_drainer(spec, context, session, replica_observer)
    return KubernetesResizer(spec, timeout_s, PoolClients(session, watch, sizes, replica_observer, drainer))


async def _open_drainer(
    spec: Kubernetes, context: Context, session: Session, replica_observer: ReplicaObserver | None
) -> Drainer | None:
    if spec.drain is None or replica_observer is None:
        return None
    step_s = context.deadline_s * DRAIN_SHARE
    loads = await load.loads(context, ("pods", spec.cluster), spec.drain.access, spec.drain.preset, step_s)
    return Drainer(spec.drain, session, replica_observer.pods, loads, spec.object_kind)


class KubernetesResizer:
    """The actuator's port."""

    def __init__(self, spec: Kubernetes, timeout_s: float, clients: PoolClients) -> None:
        self._spec = spec
        self._timeout_s = timeout_s
        self._session = clients.session
        self._watch = clients.watch
        self._sizes = clients.sizes
        self._replica_observer = clients.replica_observer
        self._drainer = clients.drainer
        self._size = 0
        self._draining: Sequence[Pod] | None = None
        """The draining pods at the last observation; None before the first."""

    async def status(self) -> Fresh[PoolStatus]:
        state, other_writer = await self._sizes.read()
        if self._replica_observer is not None:
            await self._replica_observer.wait_until_listed()
        self._size = requested_size(state)
        draining = self._draining_pods(state)
        ready = (state.ready or 0) - sum(pod.ready for pod in draining)
        status = pool_status.status_of(state, self._size - len(draining), max(0, ready), self._replica_observer)
        return Fresh(replace(status, other_writer=other_writer), state.at)

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        if self._drainer is None or self._replica_observer is None:
            await self._sizes.write(replicas, observed.desired, observed.version)
            return
        state = await self._watch.state(self._spec.name, self._timeout_s)
        if not self._replica_observer.pods.fresh and replicas > observed.desired:
            await self._sizes.write(replicas + len(self._draining or ()), self._size, observed.version)
            return
        live, size = self._live(state), self._size
        if replicas >= size:
            await self._drainer.restore(self._drainer.draining(live, size))
        else:
            replicas = await self._drainer.step(live, size, replicas, self._replica_observer.is_interruption_pending)
        if replicas != size:
            await self._sizes.write(replicas, size, observed.version)

    def unfinished(self) -> bool:
        """Return whether pods are draining, so that `resize` must continue."""
        return bool(self._draining)

    async def permits(self) -> Sequence[Permit]:
        return await permissions.permits(self._session, await self._actions(), self._timeout_s)

    async def _actions(self) -> list[Action]:
        kind = await self._watch.kind(self._timeout_s)
        actions = sizing(kind, self._spec.namespace)
        if self._replica_observer is not None:
            actions += following(self._spec.namespace, drain=self._drainer is not None)
        return actions

    # --- pods

    def _draining_pods(self, state: ScalableState) -> Sequence[Pod]:
        """Return the draining pods.

        While pods are unknown, return the last known ones, so that scale-out does not wait.
        """
        if self._drainer is None or self._replica_observer is None:
            return ()
        if self._replica_observer.pods.fresh or self._draining is None:
            self._draining = self._drainer.draining(self._live(state), self._size)
        return self._draining

    def _live(self, state: ScalableState) -> list[Pod]:
        """Return the pods that count as replicas. Raises `Unavailable` while they are unknown."""
        if self._replica_observer is None or state.selector is None:
            raise Unavailable(
                f"{self._spec.name}: its scale subresource has no selector, and drain needs one to find the pods"
            )
        drain, pods = self._spec.drain, self._replica_observer.pods
        if drain is not None and state.selector.names(drain.routing_label):
            hint = "its controller would replace a pod without it; use a label that only the Service's selector has"
            raise Misconfigured(f"{self._spec.name}: its own selector has the label {drain.routing_label}: {hint}")
        if not pods.fresh:
            raise Unavailable(
                f"{self._spec.name}: its pods cannot be listed now: {pods.error or 'the first list is pending'}"
            )
        return self._replica_observer.live(state.selector)
