"""A Kubernetes object that KEDA or an HPA resizes to the published size.

Its replicas are observed as those of the kind `kubernetes`. The size is never written: `scaler.partners` serves the
decided one to the other autoscaler, which applies it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

from policies.model import Fresh, PoolName, PoolStatus, WorkloadName
from scaler.clouds.api_channel import CALL_SHARE
from scaler.clouds.kubernetes import objects, other_autoscalers, permissions, pool_status
from scaler.clouds.kubernetes import session as kube
from scaler.clouds.kubernetes import watch as kube_watch
from scaler.clouds.kubernetes.actions import following, observing
from scaler.clouds.kubernetes.other_autoscalers import Writers
from scaler.clouds.kubernetes.replicas import ReplicaObserver
from scaler.clouds.kubernetes.session import Session
from scaler.clouds.kubernetes.sizes import requested_size
from scaler.clouds.kubernetes.watch import SharedWatch
from scaler.config.kinds.kubernetes import Published
from scaler.ports import Context, Misconfigured, Permit, PortError


async def open_published(spec: Published, context: Context, workload: WorkloadName, pool: PoolName) -> PublishedPool:
    """Open an object that another autoscaler resizes. Raises `Misconfigured`."""
    session = await kube.session(context, spec.cluster)
    names = (spec.api_version, spec.object_kind, spec.namespace)
    watch = await kube_watch.watch(context, session, spec.cluster, *names)
    writers = await other_autoscalers.writers(context, session, spec.cluster, spec.namespace)
    observer = await pool_status.open_replica_observer(spec, spec.object_kind, spec.name, context, session)
    return PublishedPool(spec, CALL_SHARE * context.deadline_s, PublishedClients(session, watch, writers, observer))


@dataclass(frozen=True, slots=True)
class PublishedClients:
    """The clients of one pool."""

    session: Session
    watch: SharedWatch
    writers: Writers
    observer: ReplicaObserver | None


class PublishedPool:
    """The actuator's port, and `Publishing`."""

    def __init__(self, spec: Published, timeout_s: float, clients: PublishedClients) -> None:
        self._spec = spec
        self._timeout_s = timeout_s
        self._session = clients.session
        self._watch = clients.watch
        self._writers = clients.writers
        self._observer = clients.observer
        self._target = objects.ScaleTarget(objects.group_of(spec.api_version), spec.object_kind, spec.name)
        self._partner: str | None = None

    async def status(self) -> Fresh[PoolStatus]:
        state = await self._watch.state(self._spec.name, self._timeout_s)
        with contextlib.suppress(PortError):  # the partner's name is for messages only
            self._partner = await self._writers.autoscaler_of(self._target, self._timeout_s)
        if self._observer is not None:
            await self._observer.wait_until_listed()
        status = pool_status.status_of(state, requested_size(state), state.ready or 0, self._observer)
        return Fresh(status, state.at)

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        """Refuse: the controller publishes the size instead."""
        raise Misconfigured(f"{self._spec.name}: a pool of the kind published is resized by another autoscaler")

    def partner(self) -> str | None:
        return self._partner

    async def permits(self) -> Sequence[Permit]:
        kind = await self._watch.kind(self._timeout_s)
        actions = observing(kind, self._spec.namespace)
        if self._observer is not None:
            actions += following(self._spec.namespace)
        return await permissions.permits(self._session, actions, self._timeout_s)
