"""Karpenter: the nodes of a NodePool with a fixed size (static capacity), by its scale subresource.

Karpenter buys and replaces the machines; its NodeClaims tell how far each is, the events about them what the cloud has
not, and the nodes' taints which will be taken. A dynamic NodePool has no size: Karpenter sizes it by pending pods.
"""

from __future__ import annotations

import contextlib
from asyncio import timeout
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from policies.model import Fresh, Part, PoolName, PoolStatus, Shortfall, WorkloadName
from scaler.clouds.interruptions import InterruptionTracker
from scaler.clouds.kubernetes import custom_resources, node_claims, objects, permissions
from scaler.clouds.kubernetes import events as kube_events
from scaler.clouds.kubernetes import nodes as kube_nodes
from scaler.clouds.kubernetes import session as kube
from scaler.clouds.kubernetes.actions import karpenter
from scaler.clouds.kubernetes.custom_resources import CustomObject, Objects
from scaler.clouds.kubernetes.events import KubeEvents
from scaler.clouds.kubernetes.node_claims import NodeClaim, NodeClaims
from scaler.clouds.kubernetes.nodes import KubeNodes
from scaler.clouds.kubernetes.session import Session
from scaler.clouds.kubernetes.sizes import ScaleObserver
from scaler.clouds.parts import sum_parts
from scaler.config.kinds.kubernetes import KarpenterNodePool
from scaler.ports import Context, Permit, Unavailable

CALL_SHARE: Final = 0.8
"""The share of a turn's deadline that one call may take, so that its error, which names the call, comes first."""
FIRST_S: Final = 1.0
"""How long the first look waits for what is followed to be listed."""
SKEW_S: Final = 30.0
"""By how much the API server's clock may lag behind ours."""
PATH: Final = "/apis/karpenter.sh/v1/nodepools"
HINT: Final = (
    "make a NodePool with spec.replicas (Karpenter's gate StaticCapacity; it cannot be added to one that is there)"
)
EVENTS_IN: Final = "default"
"""The namespace of events about objects that have none."""


@dataclass(frozen=True, slots=True)
class NodePoolObservers:
    """What is followed."""

    pools: Objects
    claims: NodeClaims
    nodes: KubeNodes
    events: KubeEvents


async def open_karpenter_node_pool(
    spec: KarpenterNodePool, context: Context, workload: WorkloadName, pool: PoolName
) -> KarpenterResizer:
    """Open a static NodePool. Raises `Misconfigured`."""
    session = await kube.session(context, spec.cluster)
    timeout_s = CALL_SHARE * context.deadline_s
    collected = custom_resources.ObjectCollection("nodepools", PATH, "scale", HINT)
    pools = await custom_resources.objects(context, session, spec.cluster, collected)
    target = objects.ScaleTarget(objects.ApiGroup("karpenter.sh"), "NodePool", spec.name)
    told = NodePoolObservers(
        pools,
        await node_claims.claims(context, session, spec.cluster),
        await kube_nodes.nodes(context, session, spec.cluster),
        await kube_events.events(context, session, spec.cluster, EVENTS_IN, "NodeClaim"),
    )
    sizes = ScaleObserver(target, pools, None, timeout_s, spec.other_writer_yield_s)
    return KarpenterResizer(spec.name, session, sizes, told, timeout_s)


class KarpenterResizer:
    """The actuator's port. Remembers the claims that were ready, to count those that were taken."""

    def __init__(
        self, name: str, session: Session, sizes: ScaleObserver, told: NodePoolObservers, timeout_s: float
    ) -> None:
        self._name = name
        self._session = session
        self._sizes = sizes
        self._told = told
        self._timeout_s = timeout_s
        self._interruptions = InterruptionTracker(told.nodes.notices)
        self._given_up = 0
        """Nodes that we gave back and that have not begun to go."""
        self._lacks_since: float | None = None
        """Since when nodes are lacking: what was said before is of another want."""
        self._ours: set[str] = set()

    async def status(self) -> Fresh[PoolStatus]:
        state, foreign = await self._sizes.read()
        pool = await self._told.pools.get(self._name, self._timeout_s)
        await self._listed()
        if not self._told.claims.fresh:
            raise Unavailable(f"nodeclaims of {self._name}: {self._told.claims.error or 'not yet listed'}")
        claims = self._told.claims.of(self._name)
        self._tell_ours(claims)
        kept = [claim for claim in claims if claim.name not in self._ours]
        ready = [claim for claim in kept if claim.ready]
        self._count_lost(claims, ready)
        desired = state.desired or 0
        failed, short = self._lacking(pool, desired, kept)
        status = PoolStatus(
            desired,
            len(ready),
            foreign,
            state.version,
            interruption_pending=sum(map(self._doomed, ready)),
            interrupted=self._interruptions.interrupted,
            failed=failed,
            shortfall=short,
            parts=self._parts(kept),
        )
        return Fresh(status, state.at)

    async def resize(self, replicas: int, seen: PoolStatus) -> None:
        await self._sizes.write(replicas, seen.desired, seen.version)
        self._given_up = max(0, self._given_up + seen.desired - replicas)

    async def permits(self) -> Sequence[Permit]:
        return await permissions.permits(self._session, karpenter(EVENTS_IN), self._timeout_s)

    async def _listed(self) -> None:
        """Return when what there is was listed once, or cannot be, or takes too long."""
        with contextlib.suppress(TimeoutError):
            async with timeout(FIRST_S):
                for one in (self._told.claims, self._told.nodes, self._told.events):
                    await one.listed.wait()

    # --- which are there, and which go

    def _doomed(self, claim: NodeClaim) -> bool:
        node = self._told.nodes.get(claim.node) if claim.node else None
        return claim.leaving or (node is not None and self._told.nodes.interruption_reason(node) != "")

    def _tell_ours(self, claims: list[NodeClaim]) -> None:
        """Of the claims that have begun to go unannounced, take as many for those we gave back as we gave back."""
        self._ours &= {claim.name for claim in claims}
        for claim in claims:
            if claim.leaving and self._given_up and claim.name not in {*self._ours, *self._interruptions.noticed}:
                self._ours.add(claim.name)
                self._given_up -= 1

    def _count_lost(self, claims: list[NodeClaim], ready: list[NodeClaim]) -> None:
        """Count the spot nodes that are gone since the last look, but for those that this process gave back."""
        left = {claim.name for claim in claims}

        def was_interrupted(name: str, noticed: bool) -> bool:
            if name in left:
                return False
            if self._given_up and not noticed:
                self._given_up -= 1
                return False
            return True

        noticed = {claim.name for claim in ready if self._doomed(claim)}
        self._interruptions.track({c.name: int(c.market == "spot") for c in ready}, noticed, was_interrupted)

    def _parts(self, claims: list[NodeClaim]) -> tuple[Part, ...]:
        bought = (claim for claim in claims if claim.ready or claim.launched_at is not None)
        return sum_parts(
            Part(c.zone, c.market, int(c.ready), int(not c.ready), int(c.ready and self._doomed(c))) for c in bought
        )

    def _lacking(self, pool: CustomObject, desired: int, claims: list[NodeClaim]) -> tuple[int, Shortfall | None]:
        """How many do not come, and why: beyond the NodePool's own limit, or not there in the cloud."""
        bought = [claim for claim in claims if claim.launched_at is not None and not claim.leaving]
        lacking = desired - len(bought)
        if lacking <= 0:
            self._lacks_since = None
            return 0, None
        if self._lacks_since is None:
            self._lacks_since = self._told.claims.clock.now()
        limit = nodes_limit(pool)
        if limit is not None and desired > limit:
            at = max((claim.launched_at or 0.0 for claim in bought), default=0.0)
            text = f"NodePool {self._name} has limits.nodes {limit}"
            return desired - limit, Shortfall(at, text, quota=True)
        for claim in claims:
            if claim.trouble:
                return lacking, Shortfall(claim.since, claim.trouble)
        said = next(iter(self._told.events.about_names(f"{self._name}-")), None) if self._told.events.fresh else None
        last = max((claim.launched_at or 0.0 for claim in bought), default=0.0)
        if said is None or not said.fails or said.at < max(last, self._lacks_since - SKEW_S):
            return 0, None
        return lacking, Shortfall(said.at, f"{said.reason}: {said.text}", said.quota)


def nodes_limit(pool: CustomObject) -> int | None:
    """The most nodes that a NodePool may have; None where that is not limited."""
    limit = (pool.spec.get("limits") or {}).get("nodes")
    return int(limit) if isinstance(limit, int | str) and str(limit).isdecimal() else None
