"""Writes the changed status of custom resources in the background, at a limited rate."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from scaler.clouds.kubernetes import session as kube
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.objects import MANAGER
from scaler.clouds.kubernetes.session import Session, accepted_body
from scaler.config.custom_resource import API_VERSION, PLURAL
from scaler.config.definition import Origin
from scaler.ports import Context, Misconfigured, PortError
from scaler.telemetry.log import log
from scaler.workload_status import merge_patch

CALL_S: Final = 10.0
"""Time limit of one write. Seconds."""
MIN_S: Final = 10.0
"""Minimum time between two writes of one object whose conditions are the same. Seconds."""
PAUSE_S: Final = 0.1
"""Pause between two writes: 1,000 objects that change all the time are each written every 100 s. Seconds."""
NOT_DUE_S: Final = 1.0
"""Pause while all changed objects were written less than `MIN_S` ago. Seconds."""
RETRY_S: Final = 10.0
"""Pause after a failed write. Seconds."""


@dataclass(slots=True)
class Pending:
    """The desired and the stored status of one object, and the time of its next write."""

    desired: Mapping[str, Any]
    stored: Mapping[str, Any]
    not_before_s: float = float("-inf")


class StatusWriter:
    """Writes the status of the objects of one cluster."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._clock = session.clock
        self._objects: dict[Origin, Pending] = {}
        self._changed: dict[Origin, None] = {}
        self._wake = asyncio.Event()
        self._refused = ""
        self._task = session.tasks.start("status of workloads", self._run)

    async def aclose(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def put(self, origin: Origin, desired: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
        """Set the desired status of an object.

        `stored` is the status that the API server showed last.
        """
        pending = self._objects.setdefault(origin, Pending(desired, stored))
        if desired.get("conditions") != pending.desired.get("conditions"):
            pending.not_before_s = float("-inf")
        pending.desired = desired
        self._changed[origin] = None
        self._wake.set()

    def forget(self, origin: Origin) -> None:
        """Stop writing the status of an object."""
        self._objects.pop(origin, None)
        self._changed.pop(origin, None)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            now = self._clock.now()
            origin = next((o for o in self._changed if now >= self._objects[o].not_before_s), None)
            if origin is not None:
                del self._changed[origin]
                await asyncio.sleep(await self._write(origin, self._objects[origin]))
            elif self._changed:
                await asyncio.sleep(NOT_DUE_S)
            else:
                self._wake.clear()

    async def _write(self, origin: Origin, pending: Pending) -> float:
        """Write one status if it changed; return the pause before the next write. Seconds."""
        desired = pending.desired
        patch = merge_patch(pending.stored, desired)
        if not patch:
            return 0.0
        what = f"patch {PLURAL}/status {origin.name} in namespace {origin.namespace}"
        path = f"/apis/{API_VERSION}/namespaces/{origin.namespace}/{PLURAL}/{origin.name}/status"
        pending.not_before_s = self._clock.now() + MIN_S
        try:
            query = {"fieldManager": MANAGER}
            response = await self._session.request(what, "PATCH", path, CALL_S, query=query, body={"status": patch})
            if response.status == 404:
                self.forget(origin)
                return PAUSE_S
            accepted_body(what, response)
        except PortError as e:
            if isinstance(e, Misconfigured) and str(e) != self._refused:
                log.warning(
                    "workload status", error=str(e), remedy="ticks continue; the status of workloads is not updated"
                )
                self._refused = str(e)
            if origin in self._objects:
                self._changed[origin] = None
            return RETRY_S
        pending.stored = desired
        return PAUSE_S


async def open_status_writer(context: Context, cluster: KubeCluster) -> StatusWriter:
    """Return the cluster's writer. Raises `Misconfigured`."""
    session = await kube.session(context, cluster)
    return await context.shared(("workload status", cluster), lambda: aclosing(StatusWriter(session)))
