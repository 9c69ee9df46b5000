"""Karpenter's NodeClaims: each a machine that was asked for, on its way to a node, or on its way out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.list_and_watch import Follower, WatchPath
from scaler.clouds.kubernetes.nodes import labels_of, market_of
from scaler.clouds.kubernetes.objects import text_field
from scaler.clouds.kubernetes.session import Body, Session
from scaler.clouds.response_validation import understood
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Context

PATH: Final = "/apis/karpenter.sh/v1/nodeclaims"
POOL: Final = "karpenter.sh/nodepool"
ZONE: Final = "topology.kubernetes.io/zone"


@dataclass(frozen=True, slots=True)
class NodeClaim:
    """`launched_at` is when its machine was bought; None before. `trouble` is why it is not bought, `since` when."""

    name: str
    pool: str
    node: str
    zone: str
    market: str
    ready: bool
    leaving: bool
    launched_at: float | None
    trouble: str = ""
    since: float = 0.0


class NodeClaims(Follower):
    """All NodeClaims of the cluster."""

    def __init__(self, session: Session) -> None:
        self._of: defaultdict[str, dict[str, NodeClaim]] = defaultdict(dict)
        self._pools: dict[str, str] = {}
        self._found: set[str] = set()
        super().__init__(session, "nodeclaims")

    def of(self, pool: str) -> list[NodeClaim]:
        """Return the NodeClaims of a NodePool."""
        return list(self._of.get(pool, {}).values())

    async def where(self) -> WatchPath:
        return WatchPath("nodeclaims", PATH)

    def begin(self) -> None:
        self._found = set()

    def found(self, item: Body, at: float) -> None:
        self._found.add(self._keep(parse(item, at)))

    def end(self) -> None:
        for name in self._pools.keys() - self._found:
            self._forget(name)

    def changed(self, change: str, item: Body, at: float) -> None:
        claim = parse(item, at)
        if change == "DELETED":
            self._forget(claim.name)
        else:
            self._keep(claim)

    def _keep(self, claim: NodeClaim) -> str:
        self._forget(claim.name)
        self._of[claim.pool][claim.name] = claim
        self._pools[claim.name] = claim.pool
        return claim.name

    def _forget(self, name: str) -> None:
        pool = self._pools.pop(name, None)
        if pool is not None:
            del self._of[pool][name]


def parse(body: Mapping[str, Any], at: float) -> NodeClaim:
    """Parse a NodeClaim. Raises `Unavailable` for one that no API server would send."""
    with understood("a NodeClaim"):
        metadata, status = body["metadata"], body.get("status") or {}
        labels = labels_of(metadata)
        conditions = {c["type"]: c for c in status.get("conditions") or ()}
        launched = conditions.get("Launched", {})
        bought = launched.get("status") == "True"
        trouble = "" if bought else f"{launched.get('reason', '')}: {launched.get('message', '')}".strip(": ")
        since = seconds_of(launched.get("lastTransitionTime"), at)
        waits = launched.get("reason") in {None, "AwaitingReconciliation", "Launched"}
        return NodeClaim(
            name=text_field(metadata, "name"),
            pool=labels.get(POOL, ""),
            node=str(status.get("nodeName") or ""),
            zone=labels.get(ZONE, ""),
            market=market_of(labels),
            ready=conditions.get("Initialized", {}).get("status") == "True",
            leaving=bool(metadata.get("deletionTimestamp")),
            launched_at=since if bought else None,
            trouble="" if waits else trouble,
            since=since,
        )


async def claims(context: Context, session: Session, cluster: KubeCluster) -> NodeClaims:
    """Return the NodeClaims, as all workloads of the cluster share them."""
    return await context.shared(("kube claims", cluster), lambda: aclosing(NodeClaims(session)))
