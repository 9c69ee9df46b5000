"""Nodes for a control plane: binds pods, makes them ready after a cold start, removes deleted ones.

If more pods are ready than allowed, the readiness probe of the others fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

import aiohttp

from tests.servers.control_plane import ADMIN, ControlPlane

POLL_S: Final = 0.05
GONE: Final = frozenset({404, 409})
"""Statuses for a pod that was removed, or bound, meanwhile."""


class Kubelet:
    """Keeps at most `ready` pods of a namespace ready; None: all of them."""

    def __init__(self, http: aiohttp.ClientSession, namespace: str, ready: int | None, cold_start_s: float) -> None:
        self.ready = ready
        self.stopping = False
        self._http = http
        self._pods = f"/api/v1/namespaces/{namespace}/pods"
        self._cold_start_s = cold_start_s
        self._bound_at: dict[str, float] = {}

    async def run(self) -> None:
        """Update the pods until `stopping`."""
        while not self.stopping:
            with contextlib.suppress(aiohttp.ClientError, TimeoutError):  # the control plane may be down for a while
                await self._sync()
            await asyncio.sleep(POLL_S)

    async def _sync(self) -> None:
        async with self._http.get(self._pods) as answer:
            pods: list[dict[str, Any]] = (await answer.json())["items"]
        free = len(pods) if self.ready is None else self.ready - sum(map(is_ready, pods))
        for pod in pods:
            name = pod["metadata"]["name"]
            if "deletionTimestamp" in pod["metadata"]:
                await self._call("DELETE", f"{self._pods}/{name}?gracePeriodSeconds=0")
            elif "nodeName" not in pod["spec"]:
                await self._bind(name)
            elif not is_ready(pod) and free > 0 and self._warm(name):
                free -= 1
                await self._call("PATCH", f"{self._pods}/{name}/status", serving())
            elif is_ready(pod) and free < 0:
                free += 1
                await self._call("PATCH", f"{self._pods}/{name}/status", failing())

    def _warm(self, name: str) -> bool:
        return asyncio.get_running_loop().time() - self._bound_at.get(name, float("-inf")) >= self._cold_start_s

    async def _bind(self, name: str) -> None:
        target = {"apiVersion": "v1", "kind": "Node", "name": "gpu-0"}
        body = {"apiVersion": "v1", "kind": "Binding", "metadata": {"name": name}, "target": target}
        await self._call("POST", f"{self._pods}/{name}/binding", body, "application/json")
        self._bound_at[name] = asyncio.get_running_loop().time()

    async def _call(
        self, method: str, path: str, body: object = None, kind: str = "application/merge-patch+json"
    ) -> None:
        async with self._http.request(method, path, json=body, headers={"Content-Type": kind}) as answer:
            assert answer.status < 300 or answer.status in GONE, await answer.text()


def is_ready(pod: dict[str, Any]) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


def serving() -> dict[str, Any]:
    """Return the status of a pod whose container serves."""
    now = datetime.now(UTC).isoformat()
    container = {"name": "c", "ready": True, "restartCount": 0, "image": "vllm", "imageID": "x"}
    return {
        "status": {
            "phase": "Running",
            "startTime": now,
            "conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": now}],
            "containerStatuses": [{**container, "started": True, "state": {"running": {"startedAt": now}}}],
        }
    }


def failing() -> dict[str, Any]:
    """Return the status of a pod whose container runs and whose readiness probe fails."""
    status = serving()
    reason = {"status": "False", "reason": "ContainersNotReady", "message": "containers with unready status: [c]"}
    status["status"]["conditions"][0] |= reason
    status["status"]["containerStatuses"][0]["ready"] = False
    return status


@asynccontextmanager
async def kubelet(
    plane: ControlPlane, namespace: str, ready: int | None = None, cold_start_s: float = 0.0
) -> AsyncIterator[Kubelet]:
    """Run nodes for one namespace."""
    trust = ssl.create_default_context(cafile=str(plane.certificate))
    headers = {"Authorization": f"Bearer {ADMIN}"}
    connector = aiohttp.TCPConnector(ssl=trust)
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(plane.url, headers=headers, connector=connector, timeout=timeout) as http:
        nodes = Kubelet(http, namespace, ready, cold_start_s)
        task = asyncio.create_task(nodes.run())
        try:
            yield nodes
        finally:
            nodes.stopping = True  # a call that is cancelled while it connects leaves its socket open
            await task
