"""Writes the status of custom resources in the background: only when it changed, and at a limited rate."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from scaler.clouds.kubernetes import session as kube
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.objects import MANAGER
from scaler.clouds.kubernetes.session import Body, Session, accepted_body
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
RETRY_S: Final = 10.0
"""Pause after a failed write. Seconds."""


@dataclass(slots=True)
class Pending:
    """The status of one object that is to be stored, the one that is stored, and when it was written last."""

    desired: Mapping[str, Any]
    stored: Mapping[str, Any]
    not_before_s: float = float("-inf")


class StatusWriter:
    """Writes the status of the objects of one cluster."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._clock = session.clock
        self._objects: dict[Origin, Pending] = {}
        self._refused = ""
        self._task = session.tasks.start("status of workloads", self._run)

    async def aclose(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def put(self, origin: Origin, desired: Mapping[str, Any], stored: Mapping[str, Any]) -> None:
        """Set the status that an object is to have; `stored` is the one that the API server showed last."""
        pending = self._objects.setdefault(origin, Pending(desired, stored))
        if desired.get("conditions") != pending.desired.get("conditions"):
            pending.not_before_s = float("-inf")
        pending.desired = desired

    def forget(self, origin: Origin) -> None:
        """Stop writing the status of an object."""
        self._objects.pop(origin, None)

    async def _run(self) -> None:
        while True:
            now, pause_s = self._clock.now(), PAUSE_S
            for origin, pending in list(self._objects.items()):
                patch = merge_patch(pending.stored, pending.desired)
                if patch and now >= pending.not_before_s:
                    pause_s = await self._write(origin, pending, patch)
                    break
            await asyncio.sleep(pause_s)

    async def _write(self, origin: Origin, pending: Pending, patch: Body) -> float:
        """Write one status; return the pause before the next write. Seconds."""
        desired = pending.desired
        what = f"patch {PLURAL}/status {origin.name} in namespace {origin.namespace}"
        path = f"/apis/{API_VERSION}/namespaces/{origin.namespace}/{PLURAL}/{origin.name}/status"
        pending.not_before_s = self._clock.now() + MIN_S
        self._objects[origin] = self._objects.pop(origin)  # the next write is another object's
        try:
            request = {"query": {"fieldManager": MANAGER}, "body": {"status": patch}}
            response = await self._session.request(what, "PATCH", path, CALL_S, **request)
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
            return RETRY_S
        pending.stored = desired
        return PAUSE_S


async def open_status_writer(context: Context, cluster: KubeCluster) -> StatusWriter:
    """Return the cluster's writer. Raises `Misconfigured`."""
    session = await kube.session(context, cluster)
    return await context.shared(("workload status", cluster), lambda: aclosing(StatusWriter(session)))
