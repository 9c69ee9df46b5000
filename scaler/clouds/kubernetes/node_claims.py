"""Karpenter's NodeClaims: each is a requested machine, a node, or a machine being removed."""

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
from scaler.clouds.response_validation import unavailable_if_malformed
from scaler.clouds.timestamps import seconds_of
from scaler.ports import Context

PATH: Final = "/apis/karpenter.sh/v1/nodeclaims"
POOL: Final = "karpenter.sh/nodepool"
ZONE: Final = "topology.kubernetes.io/zone"


@dataclass(frozen=True, slots=True)
class NodeClaim:
    """A NodeClaim.

    `launched_at` is None before the launch; `launch_error` is why it fails. Times in Unix seconds.
    """

    name: str
    pool: str
    node: str
    zone: str
    market: str
    ready: bool
    leaving: bool
    launched_at: float | None
    launch_error: str = ""
    since: float = 0.0


class NodeClaims(Follower):
    """All NodeClaims of the cluster."""

    def __init__(self, session: Session) -> None:
        self._by_pool: defaultdict[str, dict[str, NodeClaim]] = defaultdict(dict)
        self._pools: dict[str, str] = {}
        self._listed: set[str] = set()
        super().__init__(session, "nodeclaims")

    def of_pool(self, pool: str) -> list[NodeClaim]:
        """Return the NodeClaims of a NodePool."""
        return list(self._by_pool.get(pool, {}).values())

    async def watch_path(self) -> WatchPath:
        return WatchPath("nodeclaims", PATH)

    def begin_list(self) -> None:
        self._listed = set()

    def add_listed(self, item: Body, at: float) -> None:
        self._listed.add(self._store(parse(item, at)))

    def end_list(self) -> None:
        for name in self._pools.keys() - self._listed:
            self._remove(name)

    def apply_change(self, change: str, item: Body, at: float) -> None:
        claim = parse(item, at)
        if change == "DELETED":
            self._remove(claim.name)
        else:
            self._store(claim)

    def _store(self, claim: NodeClaim) -> str:
        self._remove(claim.name)
        self._by_pool[claim.pool][claim.name] = claim
        self._pools[claim.name] = claim.pool
        return claim.name

    def _remove(self, name: str) -> None:
        pool = self._pools.pop(name, None)
        if pool is not None:
            del self._by_pool[pool][name]


def parse(body: Mapping[str, Any], at: float) -> NodeClaim:
    """Parse a NodeClaim. Raises `Unavailable` for a malformed one."""
    with unavailable_if_malformed("a NodeClaim"):
        metadata, status = body["metadata"], body.get("status") or {}
        labels = labels_of(metadata)
        conditions = {c["type"]: c for c in status.get("conditions") or ()}
        launched = conditions.get("Launched", {})
        is_launched = launched.get("status") == "True"
        launch_error = "" if is_launched else f"{launched.get('reason', '')}: {launched.get('message', '')}".strip(": ")
        since = seconds_of(launched.get("lastTransitionTime"), at)
        is_waiting = launched.get("reason") in {None, "AwaitingReconciliation", "Launched"}
        return NodeClaim(
            name=text_field(metadata, "name"),
            pool=labels.get(POOL, ""),
            node=str(status.get("nodeName") or ""),
            zone=labels.get(ZONE, ""),
            market=market_of(labels),
            ready=conditions.get("Initialized", {}).get("status") == "True",
            leaving=bool(metadata.get("deletionTimestamp")),
            launched_at=since if is_launched else None,
            launch_error="" if is_waiting else launch_error,
            since=since,
        )


async def claims(context: Context, session: Session, cluster: KubeCluster) -> NodeClaims:
    """Return the NodeClaims that all workloads of the cluster share."""
    return await context.shared(("kube claims", cluster), lambda: aclosing(NodeClaims(session)))
