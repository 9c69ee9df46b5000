"""CapacityBuffer: room for so many more pods, which Karpenter or the Cluster Autoscaler keeps free as warm nodes.

Its size is `.spec.replicas`. Karpenter tells how many of them fit on nodes that are there; of a buffer of which that is
not told, none is ready.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from policies.model import Fresh, PoolName, PoolStatus, Shortfall, WorkloadName
from scaler.clouds.kubernetes import custom_resources, objects, permissions
from scaler.clouds.kubernetes import session as kube
from scaler.clouds.kubernetes.actions import buffers
from scaler.clouds.kubernetes.custom_resources import CustomObject, Objects
from scaler.clouds.kubernetes.session import Session
from scaler.clouds.kubernetes.sizes import ScaleObserver
from scaler.clouds.timestamps import seconds_of
from scaler.config.kinds.kubernetes import CAPACITY_BUFFER_GROUP, CapacityBuffer
from scaler.ports import Context, Misconfigured, Permit

CALL_SHARE: Final = 0.8
"""The share of a turn's deadline that one call may take, so that its error, which names the call, comes first."""
FITS: Final = "FitsExistingCapacity"
GROWS: Final = "RequiresNewCapacity"
COUNTS: Final = re.compile(r"^(?P<new>\d+)/(?P<all>\d+) virtual pods required new capacity, (?P<failed>\d+) failed$")
"""Karpenter's words for a buffer that does not fit yet."""
HINT: Final = "give it spec.replicas (a percentage or limits may stand beside it)"


async def open_capacity_buffer(
    spec: CapacityBuffer, context: Context, workload: WorkloadName, pool: PoolName
) -> BufferResizer:
    """Open a CapacityBuffer. Raises `Misconfigured`."""
    if spec.tier != "warm_node":
        hint = "give it tier: warm_node, and in serves the pool whose pods it keeps room for"
        raise Misconfigured(f"{pool}: tier is {spec.tier}, but what a buffer holds is empty: {hint}")
    session = await kube.session(context, spec.cluster)
    timeout_s = CALL_SHARE * context.deadline_s
    root = f"/apis/{CAPACITY_BUFFER_GROUP}/{spec.api_version}/namespaces/{spec.namespace}/capacitybuffers"
    collected = custom_resources.ObjectCollection(f"capacitybuffers in namespace {spec.namespace}", root, "", HINT)
    found = await custom_resources.objects(context, session, spec.cluster, collected)
    target = objects.ScaleTarget(objects.ApiGroup(CAPACITY_BUFFER_GROUP), "CapacityBuffer", spec.name)
    sizes = ScaleObserver(target, found, None, timeout_s, spec.other_writer_yield_s)
    return BufferResizer(spec, session, sizes, found, timeout_s)


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
    return Shortfall(seconds_of(condition.get("lastTransitionTime"), buffer.at), text, quota)
