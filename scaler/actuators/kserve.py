"""KServe: the replicas of an InferenceService or LLMInferenceService.

KServe runs them in a child, a Deployment or LeaderWorkerSet. The size is written where KServe reads it: in the object
itself if that has a size, else through the child's scale subresource. The child gives the ready replicas, as for the
kind `kubernetes`, and KServe's status the reasons of failed starts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from policies.model import Fresh, PoolName, PoolStatus, WorkloadName
from scaler.clouds.api_channel import CALL_SHARE
from scaler.clouds.kubernetes import actions, custom_resources, kserve, objects, other_autoscalers, permissions
from scaler.clouds.kubernetes import pool_status as pods_status
from scaler.clouds.kubernetes import session as kube
from scaler.clouds.kubernetes import watch as kube_watch
from scaler.clouds.kubernetes.custom_resources import CustomObject, CustomObjects, ObjectCollection
from scaler.clouds.kubernetes.kserve import Component, ParentSizes
from scaler.clouds.kubernetes.other_autoscalers import Writers
from scaler.clouds.kubernetes.replicas import ReplicaObserver
from scaler.clouds.kubernetes.session import Session
from scaler.clouds.kubernetes.sizes import ScaleObserver, SizedObjects, requested_size
from scaler.clouds.kubernetes.watch import SharedWatch
from scaler.config.kinds.kserve import KServe
from scaler.ports import Context, Misconfigured, Permit


async def open_kserve(spec: KServe, context: Context, workload: WorkloadName, pool: PoolName) -> KServeResizer:
    """Open an InferenceService or LLMInferenceService. Raises `Misconfigured`."""
    session = await kube.session(context, spec.cluster)
    plural = f"{spec.object_kind.lower()}s"
    path = f"/apis/{spec.api_version}/namespaces/{spec.namespace}/{plural}"
    collection = ObjectCollection(f"{plural} in namespace {spec.namespace}", path, "", "")
    parents = await custom_resources.objects(context, session, spec.cluster, collection)
    writers = await other_autoscalers.writers(context, session, spec.cluster, spec.namespace)
    return KServeResizer(spec, context, KServeClients(session, collection, parents, writers))


@dataclass(frozen=True, slots=True)
class KServeClients:
    """The clients of one pool that do not depend on its child."""

    session: Session
    collection: ObjectCollection
    parents: CustomObjects
    writers: Writers


@dataclass(frozen=True, slots=True)
class ChildPool:
    """The clients of the child that runs a component's replicas."""

    component: Component
    watch: SharedWatch
    sizes: ScaleObserver
    observer: ReplicaObserver | None


class KServeResizer:
    """The actuator's port."""

    def __init__(self, spec: KServe, context: Context, clients: KServeClients) -> None:
        self._spec = spec
        self._context = context
        self._timeout_s = CALL_SHARE * context.deadline_s
        self._clients = clients
        self._child: ChildPool | None = None

    async def status(self) -> Fresh[PoolStatus]:
        parent, component = await self._read()
        if component.stopped:
            return Fresh(PoolStatus(0, 0, component.refusal), self._clients.parents.confirmed_since(parent))
        child = await self._child_pool(component)
        try:
            state, other_writer = await child.sizes.read()
        except Misconfigured as e:
            raise Misconfigured("; ".join(filter(None, (str(e), kserve.reason_not_ready(parent))))) from e
        if child.observer is not None:
            await child.observer.wait_until_listed()
        status = pods_status.status_of(state, requested_size(state), state.ready or 0, child.observer)
        status = replace(status, other_writer=component.refusal or other_writer)
        return Fresh(await self._with_failure(status, parent, child), state.at)

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        _, component = await self._read()
        if component.refusal:
            raise Misconfigured(self._refused(component))
        child = await self._child_pool(component)
        await child.sizes.write(replicas, observed.desired, observed.version)

    async def scale_out_refusals(self) -> Sequence[str]:
        _, component = await self._read()
        return [self._refused(component)] if component.refusal else []

    async def permits(self) -> Sequence[Permit]:
        plural, namespace = self._clients.collection.plural, self._spec.namespace
        permits = await permissions.permits(self._clients.session, actions.kserve(plural, namespace), self._timeout_s)
        if not all(permit.granted for permit in permits):
            return permits  # the other actions depend on the object
        _, component = await self._read()
        kind = await (await self._child_pool(component)).watch.kind(self._timeout_s)
        sets_size = bool(component.size_fields)
        needed = actions.kserve_sizing(plural, namespace, kind) if sets_size else actions.sizing(kind, namespace)
        if self._spec.watch_pods:
            needed += actions.following(namespace)
        return permits + await permissions.permits(self._clients.session, needed, self._timeout_s)

    def _refused(self, component: Component) -> str:
        return f"{self._spec.object_kind} {self._spec.name}: {component.refusal}"

    async def _read(self) -> tuple[CustomObject, Component]:
        """Return the object and its replicas. Raises port errors."""
        parent = await self._clients.parents.get(self._spec.name, self._timeout_s)
        return parent, kserve.component_of(self._spec, parent)

    async def _with_failure(self, status: PoolStatus, parent: CustomObject, child: ChildPool) -> PoolStatus:
        """Return the status with KServe's report on missing replicas, unless pods explain them."""
        if status.pending == 0 or status.shortfall is not None:
            return status
        present = requested_size(await child.watch.state(child.component.child.name, self._timeout_s))
        missing, shortfall = kserve.missing_replicas(parent, status.pending, max(0, status.desired - present))
        return replace(status, failed=status.failed + missing, shortfall=shortfall)

    async def _child_pool(self, component: Component) -> ChildPool:
        """Return the clients of the present child.

        They are replaced where KServe runs the replicas in another child, or takes the size from elsewhere.
        """
        component = replace(component, refusal="")
        if self._child is None or self._child.component != component:
            self._child = await self._open_child(component)
        return self._child

    async def _open_child(self, component: Component) -> ChildPool:
        spec, context, session, child = self._spec, self._context, self._clients.session, component.child
        names = (child.api_version, child.kind, spec.namespace)
        watch = await kube_watch.watch(context, session, spec.cluster, *names)
        sized: SizedObjects = watch
        if component.size_fields:
            sized = ParentSizes(self._clients.parents, spec.name, component.size_fields, watch)
        target = objects.ScaleTarget(objects.group_of(child.api_version), child.kind, child.name)
        sizes = ScaleObserver(target, sized, self._clients.writers, self._timeout_s, spec.other_writer_yield_s)
        observer = await pods_status.open_replica_observer(spec, child.kind, child.name, context, session)
        return ChildPool(component, watch, sizes, observer)
