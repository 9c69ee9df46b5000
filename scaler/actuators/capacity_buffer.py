"""CapacityBuffer: room for so many more pods, which Karpenter or the Cluster Autoscaler keeps free as warm nodes.

Its size is `.spec.replicas`. Karpenter tells how many of them fit on nodes that are there; of a buffer of which that is
not told, none is ready.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, Final

from policies.model import Fresh, PoolName, PoolStatus, Shortfall, WorkloadName
from policies.model.field_metadata import FieldMetadata
from policies.model.spec import NAME, Pool, Target
from scaler.clouds.kubernetes.cluster import KubeCluster, object_target
from scaler.ports import Context, Misconfigured, Permit

if TYPE_CHECKING:
    from scaler.clouds.kubernetes.custom_resources import CustomObject, Objects
    from scaler.clouds.kubernetes.session import Session
    from scaler.clouds.kubernetes.sizes import ScaleObserver

CALL_SHARE: Final = 0.8
"""The share of a turn's deadline that one call may take, so that its error, which names the call, comes first."""
FITS: Final = "FitsExistingCapacity"
GROWS: Final = "RequiresNewCapacity"
COUNTS: Final = re.compile(r"^(?P<new>\d+)/(?P<all>\d+) virtual pods required new capacity, (?P<failed>\d+) failed$")
"""Karpenter's words for a buffer that does not fit yet."""
GROUP: Final = "autoscaling.x-k8s.io"
HINT: Final = "give it spec.replicas (a percentage or limits may stand beside it)"


@dataclass(frozen=True, kw_only=True)
class CapacityBuffer(Pool):
    """The pods that a CapacityBuffer keeps room for; tier must be warm_node."""

    name: Annotated[str, FieldMetadata("Name of the CapacityBuffer.", pattern=NAME, example="llama-chat-room")]
    namespace: Annotated[str, FieldMetadata("Its namespace.", pattern=NAME)] = "default"
    api_version: Annotated[
        str,
        FieldMetadata("Version of its API; v1alpha1 before Karpenter 1.14.", pattern=r"^v1((alpha|beta)[0-9]+)?$"),
    ] = "v1beta1"
    cluster: Annotated[KubeCluster, FieldMetadata("Cluster.")] = field(default_factory=KubeCluster)
    other_writer_yield_s: Annotated[
        float,
        FieldMetadata("How long the size is left alone after somebody else changed it. Seconds.", ge=0, le=86400),
    ] = 600.0

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        group = f"{GROUP}/{self.api_version}"
        return (object_target(self.cluster, group, "CapacityBuffer", self.namespace, self.name),)

    async def open(self, context: Context, workload: WorkloadName, pool: PoolName) -> BufferResizer:
        if self.tier != "warm_node":
            hint = "give it tier: warm_node, and in serves the pool whose pods it keeps room for"
            raise Misconfigured(f"{pool}: tier is {self.tier}, but what a buffer holds is empty: {hint}")
        from scaler.clouds.kubernetes import custom_resources, objects  # noqa: PLC0415 - no SDK until needed
        from scaler.clouds.kubernetes import session as kube  # noqa: PLC0415 - no SDK until needed
        from scaler.clouds.kubernetes import sizes as kube_sizes  # noqa: PLC0415 - no SDK until needed

        session = await kube.session(context, self.cluster)
        timeout_s = CALL_SHARE * context.deadline_s
        root = f"/apis/{GROUP}/{self.api_version}/namespaces/{self.namespace}/capacitybuffers"
        collected = custom_resources.ObjectCollection(f"capacitybuffers in namespace {self.namespace}", root, "", HINT)
        buffers = await custom_resources.objects(context, session, self.cluster, collected)
        target = objects.ScaleTarget(objects.ApiGroup(GROUP), "CapacityBuffer", self.name)
        sizes = kube_sizes.ScaleObserver(target, buffers, None, timeout_s, self.other_writer_yield_s)
        return BufferResizer(self, session, sizes, buffers, timeout_s)


class BufferResizer:
    """The actuator's port."""

    def __init__(
        self, spec: CapacityBuffer, session: Session, sizes: ScaleObserver, buffers: Objects, timeout_s: float
    ) -> None:
        self._spec = spec
        self._session = session
        self._sizes = sizes
        self._buffers = buffers
        self._timeout_s = timeout_s

    async def status(self) -> Fresh[PoolStatus]:
        state, foreign = await self._sizes.read()
        buffer = await self._buffers.get(self._spec.name, self._timeout_s)
        desired = state.desired or 0
        ready, failed, short = provided_replicas(buffer, desired)
        return Fresh(PoolStatus(desired, ready, foreign, state.version, failed=failed, shortfall=short), state.at)

    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        await self._sizes.write(replicas, seen.desired, seen.version)

    async def permits(self) -> Sequence[Permit]:
        from scaler.clouds.kubernetes import permissions  # noqa: PLC0415 - no SDK until needed
        from scaler.clouds.kubernetes.actions import buffers  # noqa: PLC0415 - no SDK until needed

        return await permissions.permits(self._session, buffers(self._spec.namespace), self._timeout_s)


def provided_replicas(buffer: CustomObject, desired: int) -> tuple[int, int, Shortfall | None]:
    """For how many there is room now, for how many none comes, and why. What is not told is not ready."""
    refused, placed = buffer.condition("ReadyForProvisioning"), buffer.condition("Provisioning")
    if refused.get("status") == "False":
        return 0, desired, _shortfall(buffer, refused, f"{refused.get('reason')}: {refused.get('message')}")
    held = _held(buffer, desired)
    ready, failed = _placed(placed, held)
    if held < desired and buffer.spec.get("limits") and _is_followed(buffer, placed):
        text = f"the buffer's own limits leave room for {held} of {desired}"
        return ready, desired - held + failed, _shortfall(buffer, placed, text, quota=True)
    return ready, failed, _shortfall(buffer, placed, str(placed["message"])) if failed else None


def _held(buffer: CustomObject, desired: int) -> int:
    """How many pods it was resolved to."""
    held = buffer.status.get("replicas")
    return min(desired, max(0, held)) if isinstance(held, int) and not isinstance(held, bool) else 0


def _placed(placed: Mapping[str, Any], held: int) -> tuple[int, int]:
    """How many of them fit on nodes that are there, and for how many no node comes."""
    if placed.get("status") == "True" and placed.get("reason") == FITS:
        return held, 0
    counts = COUNTS.match(str(placed.get("message") or ""))
    if placed.get("reason") != GROWS or counts is None:
        return 0, 0
    new, total, failed = (int(counts[name]) for name in ("new", "all", "failed"))
    return max(0, min(held, total - new - failed)), min(held, failed)


def _is_followed(buffer: CustomObject, condition: Mapping[str, Any]) -> bool:
    """Whether a condition speaks of the buffer as it is now."""
    return buffer.generation is not None and condition.get("observedGeneration") == buffer.generation


def _shortfall(buffer: CustomObject, condition: Mapping[str, Any], text: str, *, quota: bool = False) -> Shortfall:
    from scaler.clouds.timestamps import seconds_of  # noqa: PLC0415 - with the rest of the cluster's modules

    return Shortfall(seconds_of(condition.get("lastTransitionTime"), buffer.at), text, quota)
