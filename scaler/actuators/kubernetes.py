"""Kubernetes: the size of anything with a scale subresource: Deployment, StatefulSet, LeaderWorkerSet, custom resource.

Sizes are read from one watch that all workloads of a namespace share, and written through the scale subresource under
the condition that the object is still the one that was seen. Whoever else sizes it is named, and left alone for a
while: an HPA, a KEDA ScaledObject, or somebody whose change was noticed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Final

from policies.model import Fresh, PoolName, PoolStatus, WorkloadName
from policies.rules import Rule
from policies.spec import NAME, Pool
from scaler.clouds.cluster import KubeCluster
from scaler.ports import Clock, Conflict, Context

if TYPE_CHECKING:
    from scaler.clouds.kube_objects import State, Target
    from scaler.clouds.kube_watch import Watch
    from scaler.clouds.kube_writers import Writers

CALL_SHARE: Final = 0.8
"""The share of a turn's deadline that one call may take, so that its error, which names the call, comes first."""
ATTEMPTS: Final = 5
"""Writes tried while only an object's status changes: a rollout touches it several times a second."""


@dataclass(frozen=True, kw_only=True)
class Kubernetes(Pool):
    """The replicas of a Kubernetes object with a scale subresource."""

    api_version: Annotated[
        str,
        Rule("API version of the object.", pattern=r"^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?v[0-9]+((alpha|beta)[0-9]+)?$"),
    ] = "apps/v1"
    object_kind: Annotated[str, Rule("Kind of the object.", pattern=r"^[A-Z][A-Za-z0-9]*$")] = "Deployment"
    name: Annotated[
        str,
        Rule("Name of the object.", pattern=r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$", example="llama-chat"),
    ]
    namespace: Annotated[str, Rule("Namespace of the object; no matter for kinds without one.", pattern=NAME)] = (
        "default"
    )
    cluster: Annotated[KubeCluster, Rule("Cluster.")] = field(default_factory=KubeCluster)
    yield_s: Annotated[
        float,
        Rule("How long the size is left alone after somebody else changed it. Seconds.", ge=0, le=86400),
    ] = 600.0

    async def open(self, context: Context, workload: WorkloadName, pool: PoolName) -> KubernetesResizer:
        from scaler.clouds import kube, kube_objects, kube_watch, kube_writers  # noqa: PLC0415 - no SDK until needed

        session = await kube.session(context, self.cluster)
        names = (self.api_version, self.object_kind, self.namespace)
        watch = await kube_watch.watch(context, session, self.cluster, *names)
        writers = await kube_writers.writers(context, session, self.cluster, self.namespace)
        target = kube_objects.Target(kube_objects.group_of(self.api_version), self.object_kind, self.name)
        return KubernetesResizer(self, context, target, watch, writers)


class KubernetesResizer:
    """The actuator's port. Remembers the size that it last saw, and those that it asked for, to tell other writers."""

    def __init__(self, spec: Kubernetes, context: Context, target: Target, watch: Watch, writers: Writers) -> None:
        self._spec = spec
        self._clock: Clock = context.clock
        self._timeout_s = CALL_SHARE * context.deadline_s
        self._target = target
        self._watch = watch
        self._writers = writers
        self._seen: State | None = None
        self._asked: set[int] = set()
        self._foreign = ""
        self._yields_until = float("-inf")

    async def status(self) -> Fresh[PoolStatus]:
        state = await self._watch.state(self._spec.name, self._timeout_s)
        other = await self._writers.of(self._target, self._timeout_s)
        self._notice(state, named=other is not None)
        foreign = other or (self._foreign if self._clock.now() < self._yields_until else None)
        return Fresh(PoolStatus(size(state), ready(state), foreign, state.version), state.at)

    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        self._asked.add(replicas)
        version = seen.version
        for attempt in range(1, ATTEMPTS + 1):
            try:
                await self._watch.resize(self._spec.name, replicas, version, self._timeout_s)
            except Conflict as e:
                present = await self._watch.state(self._spec.name, self._timeout_s, anew=True)
                if size(present) == replicas:
                    return
                if size(present) not in {seen.desired, *self._asked}:
                    raise Conflict(f"{self._spec.name} was {seen.desired} replicas; {self._who(present)}") from e
                if attempt == ATTEMPTS:
                    raise
                version = present.version  # only its status or its template changed
            else:
                self._asked = {replicas}
                return

    def _notice(self, state: State, *, named: bool) -> None:
        """Take note of a size that we did not ask for. What an autoscaler does that is `named` anyway is no news."""
        if size(state) in self._asked:
            self._asked = {size(state)}
        elif self._seen is not None and size(state) != size(self._seen) and not named:
            self._foreign = self._who(state)
            self._yields_until = self._clock.now() + self._spec.yield_s
        self._seen = state

    def _who(self, state: State) -> str:
        """Who set the present size and when, as far as the object tells: not every API server keeps that."""
        known = state.writer if self._seen is None or state.writer != self._seen.writer else None
        at = known.at if known else datetime.fromtimestamp(state.at, UTC).isoformat(timespec="seconds")
        return f"{known.manager if known else 'somebody'} set {size(state)} at {at}"


def size(state: State) -> int:
    """The size asked for: told of every state that the watch gives out."""
    assert state.desired is not None  # noqa: S101 - an invariant of `Watch.state`
    return state.desired


def ready(state: State) -> int:
    """The replicas that serve: told of every state that the watch gives out."""
    assert state.ready is not None  # noqa: S101 - an invariant of `Watch.state`
    return state.ready
