"""Karpenter on the fake API server: static NodePools and a CapacityBuffer; launches, replacements, removals.

Its steps and messages are those of Karpenter 1.14: a NodeClaim whose launch failed is deleted with an event; an
interrupted one is deleted, its node tainted, and a replacement requested at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from tests.servers.kube_fake import FakeKube, Object
from tests.servers.kube_objects import claim, event, node

POLL_S = 0.05
LEAVES_S = 0.4
"""Time from a claim's deletion to its empty node's end. Seconds."""
RETRY_S = 1.0
"""Time from a failed launch to the next. Seconds."""


@dataclass(slots=True)
class StaticPool:
    """A NodePool in one zone. `exhausted`: the cloud has no capacity for it."""

    zone: str
    market: str
    boot_s: float
    exhausted: bool = False
    failed_at: float = float("-inf")
    claims: dict[str, float] = field(default_factory=dict)
    """Time at which each claim's node is ready."""
    leaving: dict[str, float] = field(default_factory=dict)
    """Time at which each claim is gone."""


class Karpenter:
    """Controls the NodePools that were added to it, and one buffer."""

    def __init__(self, fake: FakeKube) -> None:
        self.pools: dict[str, StaticPool] = {}
        self.room = 0
        """Warm nodes of the buffer now."""
        self.serves = ""
        self.refill_s = 2.0
        self._fake = fake
        self._made = 0
        self._refilled_at = float("-inf")

    async def add(self, name: str, pool: StaticPool) -> None:
        """Add a NodePool of size 0."""
        self.pools[name] = pool
        await self._fake.put("nodepools", name, {"spec": {"replicas": 0}})

    async def keep_room(self, name: str, serves: str, replicas: int) -> None:
        """Add a provided buffer whose nodes one pool uses."""
        self.serves, self.room = serves, replicas
        await self._fake.put("capacitybuffers", name, {"spec": {"replicas": replicas}})
        await self._report_room(name)

    async def run(self) -> None:
        while True:
            now = asyncio.get_running_loop().time()
            for name, pool in self.pools.items():
                await self._step(name, pool, now)
            for buffer in self._fake.all("capacitybuffers"):
                await self._keep(buffer, now)
            await asyncio.sleep(POLL_S)

    async def interrupt(self, name: str, after_s: float) -> None:
        """Announce the interruption of one of a pool's nodes, and interrupt it after a while."""
        pool = self.pools[name]
        chosen = next(c for c, ready in pool.claims.items() if ready == 0 and c not in pool.leaving)
        await self._leave(pool, chosen, asyncio.get_running_loop().time() + after_s)

    # --- one pool

    async def _step(self, name: str, pool: StaticPool, now: float) -> None:
        for gone in [c for c, at in pool.leaving.items() if now >= at]:
            await self._fake.delete("nodeclaims", gone)
            await self._fake.delete("nodes", f"node-{gone}")
            del pool.leaving[gone], pool.claims[gone]
        staying = [c for c in pool.claims if c not in pool.leaving]
        replicas = self._fake.get("nodepools", name)["spec"]["replicas"]
        for surplus in staying[replicas:]:
            await self._leave(pool, surplus, now + LEAVES_S)
        for _ in range(replicas - len(staying)):
            await self._launch(name, pool, now)
        for arriving in [c for c, at in pool.claims.items() if at and now >= at]:
            pool.claims[arriving] = 0.0
            await self._fake.put("nodes", f"node-{arriving}", node(pool.zone, pool.market))
            await self._fake.put("nodeclaims", arriving, self._claim(name, pool, arriving, ready=True))

    async def _launch(self, name: str, pool: StaticPool, now: float) -> None:
        if pool.exhausted:
            if now - pool.failed_at >= RETRY_S:
                pool.failed_at = now
                await self._refuse(name)
            return
        self._made += 1
        claim = f"{name}-{self._made:05d}"
        warm = name == self.serves and self.room > 0
        self.room -= warm
        pool.claims[claim] = now + (0.2 if warm else pool.boot_s)
        await self._fake.put("nodeclaims", claim, self._claim(name, pool, claim, ready=False))

    async def _refuse(self, name: str) -> None:
        self._made += 1
        of = {"kind": "NodeClaim", "metadata": {"name": f"{name}-{self._made:05d}", "uid": f"gone-{self._made}"}}
        text = "creating instance, insufficient capacity, with fleet error(s), InsufficientInstanceCapacity: none here"
        failure = event(of, "InsufficientCapacityError", f"NodeClaim event: {text}", by="karpenter")
        await self._fake.put("events", f"ice-{self._made}", failure)

    async def _leave(self, pool: StaticPool, name: str, at: float) -> None:
        pool.leaving[name] = at
        deleted = {"metadata": {"deletionTimestamp": datetime.now(UTC).isoformat(timespec="seconds")}}
        await self._fake.put("nodeclaims", name, deleted)
        taint = {"key": "karpenter.sh/disrupted", "effect": "NoSchedule"}
        await self._fake.put("nodes", f"node-{name}", {"spec": {"taints": [taint]}})

    def _claim(self, name: str, pool: StaticPool, claim_name: str, *, ready: bool) -> Object:
        body = claim(name, f"node-{claim_name}", pool.zone, pool.market)
        now = datetime.now(UTC).isoformat(timespec="seconds")
        conditions = body["status"]["conditions"]
        for condition in conditions:
            condition["lastTransitionTime"] = now
        body["status"]["conditions"] = conditions if ready else conditions[:1]
        return body

    # --- the buffer

    async def _keep(self, buffer: Object, now: float) -> None:
        name, replicas = buffer["metadata"]["name"], buffer["spec"]["replicas"]
        if self.room >= replicas:
            self.room, self._refilled_at = replicas, now
        elif now - self._refilled_at >= self.refill_s:
            self.room, self._refilled_at = self.room + 1, now
        await self._report_room(name)

    async def _report_room(self, name: str) -> None:
        buffer = self._fake.get("capacitybuffers", name)
        replicas = buffer["spec"]["replicas"]
        text = f"{replicas - self.room}/{replicas} virtual pods required new capacity, 0 failed"
        fits = {"status": "True", "reason": "FitsExistingCapacity", "message": f"All {replicas} virtual pods fit"}
        grows = {"status": "False", "reason": "RequiresNewCapacity", "message": text}
        condition = {"type": "Provisioning", **(fits if self.room >= replicas else grows)}
        status = {"replicas": replicas, "conditions": [condition]}
        if buffer["status"] != status:
            await self._fake.put("capacitybuffers", name, {"status": status})


@asynccontextmanager
async def karpenter(fake: FakeKube) -> AsyncIterator[Karpenter]:
    karpenter_fake = Karpenter(fake)
    task = asyncio.create_task(karpenter_fake.run())
    try:
        yield karpenter_fake
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
