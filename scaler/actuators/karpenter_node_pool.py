"""Karpenter: the nodes of a NodePool with a fixed size (static capacity).

Its scale subresource sets the size. Karpenter launches and replaces the machines. Its NodeClaims show each machine's
progress, their events show missing capacity, and the nodes' taints show pending interruptions. A dynamic NodePool has
no size: Karpenter sizes it by pending pods.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from policies.model import Fresh, PoolName, PoolPart, PoolStatus, Shortfall, WorkloadName
from scaler.clouds.api_channel import CALL_SHARE
from scaler.clouds.interruptions import InterruptionTracker
from scaler.clouds.kubernetes import custom_resources, node_claims, objects, permissions
from scaler.clouds.kubernetes import events as kube_events
from scaler.clouds.kubernetes import nodes as kube_nodes
from scaler.clouds.kubernetes import session as kube
from scaler.clouds.kubernetes.actions import karpenter
from scaler.clouds.kubernetes.custom_resources import CustomObject, CustomObjects
from scaler.clouds.kubernetes.events import KubeEvents
from scaler.clouds.kubernetes.list_and_watch import wait_until_listed
from scaler.clouds.kubernetes.node_claims import NodeClaim, NodeClaims
from scaler.clouds.kubernetes.nodes import KubeNodes
from scaler.clouds.kubernetes.session import Session
from scaler.clouds.kubernetes.sizes import ScaleObserver
from scaler.clouds.parts import sum_parts
from scaler.config.kinds.kubernetes import KarpenterNodePool
from scaler.ports import Context, Permit, Unavailable

SKEW_S: Final = 30.0
"""Tolerated lag of the API server's clock. Seconds."""
PATH: Final = "/apis/karpenter.sh/v1/nodepools"
HINT: Final = (
    "create a NodePool with spec.replicas (Karpenter feature gate StaticCapacity; an existing NodePool cannot change)"
)
EVENT_NAMESPACE: Final = "default"
"""Namespace of events about cluster-scoped objects."""


@dataclass(frozen=True, slots=True)
class NodePoolObservers:
    """The watched collections of a NodePool."""

    pools: CustomObjects
    claims: NodeClaims
    nodes: KubeNodes
    events: KubeEvents


async def open_karpenter_node_pool(
    spec: KarpenterNodePool, context: Context, workload: WorkloadName, pool: PoolName
) -> KarpenterResizer:
    """Open a static NodePool. Raises `Misconfigured`."""
    session = await kube.session(context, spec.cluster)
    timeout_s = CALL_SHARE * context.deadline_s
    collection = custom_resources.ObjectCollection("nodepools", PATH, "scale", HINT)
    pools = await custom_resources.objects(context, session, spec.cluster, collection)
    target = objects.ScaleTarget(objects.ApiGroup("karpenter.sh"), "NodePool", spec.name)
    observers = NodePoolObservers(
        pools,
        await node_claims.claims(context, session, spec.cluster),
        await kube_nodes.nodes(context, session, spec.cluster),
        await kube_events.events(context, session, spec.cluster, EVENT_NAMESPACE, "NodeClaim"),
    )
    sizes = ScaleObserver(target, pools, None, timeout_s, spec.other_writer_yield_s)
    return KarpenterResizer(spec.name, session, sizes, observers, timeout_s)


class KarpenterResizer:
    """The actuator's port, with a memory of the ready claims to count interruptions."""

    def __init__(
        self, name: str, session: Session, sizes: ScaleObserver, observers: NodePoolObservers, timeout_s: float
    ) -> None:
        self._name = name
        self._session = session
        self._sizes = sizes
        self._observers = observers
        self._timeout_s = timeout_s
        self._interruptions = InterruptionTracker(observers.nodes.notices)
        self._returned = 0
        """Number of nodes that this process returned and that are not leaving yet."""
        self._missing_since: float | None = None
        """Time since which nodes are missing: earlier events are about an earlier scale-out."""
        self._returned_claims: set[str] = set()

    async def status(self) -> Fresh[PoolStatus]:
        state, other_writer = await self._sizes.read()
        pool = await self._observers.pools.get(self._name, self._timeout_s)
        await wait_until_listed(self._observers.claims, self._observers.nodes, self._observers.events)
        if not self._observers.claims.fresh:
            raise Unavailable(
                f"nodeclaims of {self._name}: {self._observers.claims.error or 'the first list is pending'}"
            )
        claims = self._observers.claims.of_pool(self._name)
        self._match_returned(claims)
        retained = [claim for claim in claims if claim.name not in self._returned_claims]
        ready = [claim for claim in retained if claim.ready]
        self._count_interruptions(claims, ready)
        desired = state.desired or 0
        failed, shortfall = self._missing(pool, desired, retained)
        status = PoolStatus(
            desired,
            len(ready),
            other_writer,
            state.version,
            interruption_pending=sum(map(self._is_interruption_pending, ready)),
            interrupted=self._interruptions.interrupted,
            failed=failed,
            shortfall=shortfall,
            parts=self._parts(retained),
        )
        return Fresh(status, state.at)

    async def resize(self, replicas: int, observed: PoolStatus) -> None:
        await self._sizes.write(replicas, observed.desired, observed.version)
        self._returned = max(0, self._returned + observed.desired - replicas)

    async def permits(self) -> Sequence[Permit]:
        return await permissions.permits(self._session, karpenter(EVENT_NAMESPACE), self._timeout_s)

    # --- interruptions and missing capacity

    def _is_interruption_pending(self, claim: NodeClaim) -> bool:
        node = self._observers.nodes.get(claim.node) if claim.node else None
        return claim.leaving or (node is not None and self._observers.nodes.interruption_reason(node) != "")

    def _match_returned(self, claims: list[NodeClaim]) -> None:
        """Match claims that leave without a notice with the returned nodes.

        Nodes that this process returned match up to their number.
        """
        self._returned_claims &= {claim.name for claim in claims}
        for claim in claims:
            if (
                claim.leaving
                and self._returned
                and claim.name not in {*self._returned_claims, *self._interruptions.noticed}
            ):
                self._returned_claims.add(claim.name)
                self._returned -= 1

    def _count_interruptions(self, claims: list[NodeClaim], ready: list[NodeClaim]) -> None:
        """Count the spot nodes that are gone since the last observation.

        Those that this process returned do not count.
        """
        present = {claim.name for claim in claims}

        def was_interrupted(name: str, noticed: bool) -> bool:
            if name in present:
                return False
            if self._returned and not noticed:
                self._returned -= 1
                return False
            return True

        noticed = {claim.name for claim in ready if self._is_interruption_pending(claim)}
        self._interruptions.track({c.name: int(c.market == "spot") for c in ready}, noticed, was_interrupted)

    def _parts(self, claims: list[NodeClaim]) -> tuple[PoolPart, ...]:
        launched = (claim for claim in claims if claim.ready or claim.launched_at is not None)
        return sum_parts(
            PoolPart(
                c.zone, c.market, int(c.ready), int(not c.ready), int(c.ready and self._is_interruption_pending(c))
            )
            for c in launched
        )

    def _missing(self, pool: CustomObject, desired: int, claims: list[NodeClaim]) -> tuple[int, Shortfall | None]:
        """Return the number of missing nodes and the reason.

        The reason is the NodePool's own limit, or missing cloud capacity.
        """
        launched = [claim for claim in claims if claim.launched_at is not None and not claim.leaving]
        missing = desired - len(launched)
        if missing <= 0:
            self._missing_since = None
            return 0, None
        if self._missing_since is None:
            self._missing_since = self._observers.claims.clock.now()
        limit = nodes_limit(pool)
        if limit is not None and desired > limit:
            at = max((claim.launched_at or 0.0 for claim in launched), default=0.0)
            text = f"NodePool {self._name} allows at most {limit} nodes (spec.limits.nodes)"
            return desired - limit, Shortfall(at, text, quota=True)
        for claim in claims:
            if claim.launch_error:
                return missing, Shortfall(claim.since, claim.launch_error)
        event = (
            next(iter(self._observers.events.about_prefix(f"{self._name}-")), None)
            if self._observers.events.fresh
            else None
        )
        last_launch_s = max((claim.launched_at or 0.0 for claim in launched), default=0.0)
        if event is None or not event.fails or event.at < max(last_launch_s, self._missing_since - SKEW_S):
            return 0, None
        return missing, Shortfall(event.at, f"{event.reason}: {event.text}", event.quota)


def nodes_limit(pool: CustomObject) -> int | None:
    """Return a NodePool's maximum number of nodes; None without a limit."""
    limit = (pool.spec.get("limits") or {}).get("nodes")
    return int(limit) if isinstance(limit, int | str) and str(limit).isdecimal() else None
