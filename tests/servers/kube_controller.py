"""kube-controller-manager on the fake API server: creates and removes pods of Deployments and StatefulSets.

Pods are removed in the order of Kubernetes' `ActivePodsWithRanks`: not ready before ready, then by deletion cost, then
the youngest; a StatefulSet's by their ordinal.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from tests.servers.kube_fake import FakeKube, Object
from tests.servers.kube_objects import ready_pod

COST = "controller.kubernetes.io/pod-deletion-cost"
POLL_S = 0.01


class Controllers:
    """Keeps the pods of one object at its size. `removed` are the removed ones, in order."""

    def __init__(self, fake: FakeKube, plural: str, name: str) -> None:
        self.removed: list[str] = []
        self.running = True
        self.labels: dict[str, str] = {}
        self.addressed = False
        """Whether created pods serve at once, at the address of their number."""
        self._fake = fake
        self._plural = plural
        self._name = name
        self._made = 100

    async def run(self) -> None:
        while True:
            if self.running:
                await self.sync()
            await asyncio.sleep(POLL_S)

    async def sync(self) -> None:
        size = self._fake.get(self._plural, self._name)["spec"]["replicas"]
        pods = self._fake.all("pods")
        for pod in self._ranked(pods)[: max(0, len(pods) - size)]:
            self.removed.append(pod["metadata"]["name"])
            await self._fake.delete("pods", pod["metadata"]["name"])
        for _ in range(size - len(pods)):
            self._made += 1
            await self._fake.put("nodes", f"node-{self._made}", {})
            address = f"127.0.0.{self._made}" if self.addressed else ""
            body = ready_pod(self._name, f"node-{self._made}", labels=self.labels, address=address)
            await self._fake.put("pods", f"{self._name}-{self._made}", body)
        pods = self._fake.all("pods")
        status = {"replicas": len(pods), "readyReplicas": sum(map(is_ready, pods))}
        if self._fake.get(self._plural, self._name)["status"] != status:
            await self._fake.put(self._plural, self._name, {"status": status})

    def _ranked(self, pods: list[Object]) -> list[Object]:
        if self._plural == "statefulsets":
            return sorted(pods, key=lambda pod: -int(pod["metadata"]["name"].rpartition("-")[2]))
        return sorted(
            pods,
            key=lambda pod: (
                is_ready(pod),
                int(pod["metadata"].get("annotations", {}).get(COST, "0")),
                -int(pod["metadata"]["name"].rpartition("-")[2]),
            ),
        )


def is_ready(pod: Object) -> bool:
    return any(c["type"] == "Ready" and c["status"] == "True" for c in pod["status"].get("conditions", ()))


@asynccontextmanager
async def controllers(fake: FakeKube, plural: str, name: str) -> AsyncIterator[Controllers]:
    opened = Controllers(fake, plural, name)
    task = asyncio.create_task(opened.run())
    try:
        yield opened
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
