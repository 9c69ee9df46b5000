"""CapacityBuffer: capacity for further pods, kept free as warm nodes.

Karpenter or the Cluster Autoscaler keeps the nodes. The size of a buffer is `.spec.replicas`. Karpenter reports how
many of them fit on existing nodes; without that report none is ready.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from policies.model import Fresh, PoolName, PoolStatus, Shortfall, WorkloadName
from scaler.clouds.api_channel import CALL_SHARE
from scaler.clouds.kubernetes import custom_resources, objects, permissions
from scaler.clouds.kubernetes import session as kube
from scaler.clouds.kubernetes.actions import buffers
from scaler.clouds.kubernetes.custom_resources import CustomObject, CustomObjects
from scaler.clouds.kubernetes.session import Session
from scaler.clouds.kubernetes.sizes import ScaleObserver
from scaler.clouds.timestamps import seconds_of
from scaler.config.kinds.kubernetes import CAPACITY_BUFFER_GROUP, CapacityBuffer
from scaler.ports import Context, Permit

FITS: Final = "FitsExistingCapacity"
GROWS: Final = "RequiresNewCapacity"
COUNTS: Final = re.compile(r"^(?P<new>\d+)/(?P<all>\d+) virtual pods required new capacity, (?P<failed>\d+) failed$")
"""Karpenter's message for a buffer that does not fit yet."""
HINT: Final = "set spec.replicas (a percentage or limits may be set too)"


async def open_capacity_buffer(
    spec: CapacityBuffer, context: Context, workload: WorkloadName, pool: PoolName
) -> BufferResizer:
    """Open a CapacityBuffer."""
    session = await kube.session(context, spec.cluster)
    timeout_s = CALL_SHARE * context.deadline_s
    path = f"/apis/{CAPACITY_BUFFER_GROUP}/{spec.api_version}/namespaces/{spec.namespace}/capacitybuffers"
    collection = custom_resources.ObjectCollection(f"capacitybuffers in namespace {spec.namespace}", path, "", HINT)
    followed_buffers = await custom_resources.objects(context, session, spec.cluster, collection)
    target = objects.ScaleTarget(objects.ApiGroup(CAPACITY_BUFFER_GROUP), "CapacityBuffer", spec.name)
    sizes = ScaleObserver(target, followed_buffers, None, timeout_s, spec.other_writer_yield_s)
    return BufferResizer(spec, session, sizes, followed_buffers, timeout_s)


class BufferResizer:
    """The actuator's port."""

    def __init__(
        self, spec: CapacityBuffer, session: Session, sizes: ScaleObserver, buffers: CustomObjects, timeout_s: float
    ) -> None:
        self._spec = spec
        self._session = session
        self._sizes = sizes
        self._buffers = buffers
        self._timeout_s = timeout_s

    async def status(self) -> Fresh[PoolStatus]:
        state, other_writer = await self._sizes.read()
        buffer = await self._buffers.get(self._spec.name, self._timeout_s)
        desired = state.desired or 0
        ready, failed, shortfall = provided_replicas(buffer, desired)
        return Fresh(
            PoolStatus(desired, ready, other_writer, state.version, failed=failed, shortfall=shortfall), state.at
        )

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        await self._sizes.write(replicas, observed.desired, observed.version)

    async def permits(self) -> Sequence[Permit]:
        return await permissions.permits(self._session, buffers(self._spec.namespace), self._timeout_s)


def provided_replicas(buffer: CustomObject, desired: int) -> tuple[int, int, Shortfall | None]:
    """Return the replicas with capacity now, those without, and the reason.

    Unreported replicas are not ready.

    Example: 5 replicas and "2/5 virtual pods required new capacity, 1 failed": 5 - 2 - 1 = 2 ready, 1 failed.
    """
    refused, placed = buffer.condition("ReadyForProvisioning"), buffer.condition("Provisioning")
    if refused.get("status") == "False":
        return 0, desired, _shortfall(buffer, refused, f"{refused.get('reason')}: {refused.get('message')}")
    resolved = _resolved(buffer, desired)
    ready, failed = _placed(placed, resolved)
    if resolved < desired and buffer.spec.get("limits") and _is_current(buffer, placed):
        text = f"the buffer's limits allow {resolved} of {desired} replicas"
        return ready, desired - resolved + failed, _shortfall(buffer, placed, text, quota=True)
    return ready, failed, _shortfall(buffer, placed, str(placed["message"])) if failed else None


def _resolved(buffer: CustomObject, desired: int) -> int:
    """Return the number of pods that the buffer was resolved to."""
    resolved = buffer.status.get("replicas")
    return min(desired, max(0, resolved)) if isinstance(resolved, int) and not isinstance(resolved, bool) else 0


def _placed(placed: Mapping[str, Any], resolved: int) -> tuple[int, int]:
    """Return how many of them fit on existing nodes, and how many failed."""
    if placed.get("status") == "True" and placed.get("reason") == FITS:
        return resolved, 0
    counts = COUNTS.match(str(placed.get("message") or ""))
    if placed.get("reason") != GROWS or counts is None:
        return 0, 0
    new, total, failed = (int(counts[name]) for name in ("new", "all", "failed"))
    return max(0, min(resolved, total - new - failed)), min(resolved, failed)


def _is_current(buffer: CustomObject, condition: Mapping[str, Any]) -> bool:
    """Return whether a condition is about the buffer's present generation."""
    return buffer.generation is not None and condition.get("observedGeneration") == buffer.generation


def _shortfall(buffer: CustomObject, condition: Mapping[str, Any], text: str, *, quota: bool = False) -> Shortfall:
    return Shortfall(seconds_of(condition.get("lastTransitionTime"), buffer.at), text, quota)
