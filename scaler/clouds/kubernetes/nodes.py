"""The nodes of a cluster, with zone, market and interruption notices.

One watch serves all workloads.

A notice from a node's taints, conditions or deletion is pinned under the names of the node and of its machine. Notices
that other sources pinned for the machine count for the node.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Final

from scaler.clouds.interruptions import InterruptionNotice, Kind, NoticeBoard, board
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.list_and_watch import Follower, WatchPath
from scaler.clouds.kubernetes.objects import text_field
from scaler.clouds.kubernetes.session import Body, Session
from scaler.clouds.response_validation import unavailable_if_malformed
from scaler.ports import Context

TAINTS: Final[Mapping[str, Kind]] = {
    "aws-node-termination-handler/spot-itn": "interruption",
    "aws-node-termination-handler/asg-lifecycle-termination": "interruption",
    "aws-node-termination-handler/scheduled-maintenance": "interruption",
    "aws-node-termination-handler/rebalance-recommendation": "rebalance",
    "cloud.google.com/impending-node-termination": "interruption",
    "karpenter.sh/disrupted": "interruption",
    "karpenter.sh/disruption": "interruption",
    "node.kubernetes.io/out-of-service": "interruption",
    "node.cloudprovider.kubernetes.io/shutdown": "interruption",
    "remediator.kubernetes.azure.com/unschedulable": "interruption",
    "remediator.aks.microsoft.com/unschedulable": "interruption",
    "ToBeDeletedByClusterAutoscaler": "interruption",
}
"""Taints of nodes that will be removed. `kubernetes.azure.com/scalesetpriority` is not among them: every spot node of
AKS has it; nor is `DeletionCandidateOfClusterAutoscaler`: most candidates stay."""
VM_EVENTS: Final = ("Preempt", "Terminate", "Redeploy")
"""Events in AKS's node condition `VMEventScheduled` that delete the machine; a freeze or a reboot does not."""
ZONES: Final = ("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone")
MARKETS: Final[Mapping[str, Mapping[str, str]]] = {
    "karpenter.sh/capacity-type": {"spot": "spot", "on-demand": "on_demand", "reserved": "reserved"},
    "eks.amazonaws.com/capacityType": {"SPOT": "spot", "ON_DEMAND": "on_demand", "CAPACITY_BLOCK": "reserved"},
    "cloud.google.com/gke-spot": {"true": "spot"},
    "cloud.google.com/gke-preemptible": {"true": "spot"},
    "cloud.google.com/gke-provisioning": {"spot": "spot", "preemptible": "spot", "standard": "on_demand"},
    "kubernetes.azure.com/scalesetpriority": {"spot": "spot", "regular": "on_demand"},
}
"""A node's market by its labels."""


@dataclass(frozen=True, slots=True)
class KubeNode:
    """A node. `leaving_reason` is the cluster's reason for its removal; empty while it stays."""

    name: str
    machine: str
    zone: str
    market: str
    leaving_reason: str = ""
    notice_kind: Kind = "interruption"
    pool: str = ""
    ready: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names that notices use for it."""
        return (self.name, self.machine) if self.machine and self.machine != self.name else (self.name,)


class KubeNodes(Follower):
    """All nodes of the cluster."""

    def __init__(self, session: Session, notices: NoticeBoard) -> None:
        self.notices = notices
        self._nodes: dict[str, KubeNode] = {}
        self._listed: set[str] = set()
        super().__init__(session, "nodes")

    def get(self, name: str) -> KubeNode | None:
        return self._nodes.get(name)

    def of_pool(self, pool: str) -> list[KubeNode]:
        """Return the nodes of a Karpenter NodePool."""
        return [node for node in self._nodes.values() if node.pool == pool]

    def interruption_reason(self, node: KubeNode) -> str:
        """Return why a node will be interrupted; empty without a notice."""
        if node.leaving_reason:
            return node.leaving_reason
        notice = next(iter(self.notices.notices_for(node.names).values()), None)
        return (notice.source or notice.kind) if notice else ""

    async def watch_path(self) -> WatchPath:
        return WatchPath("nodes", "/api/v1/nodes")

    def begin_list(self) -> None:
        self._listed = set()

    def add_listed(self, item: Body, at: float) -> None:
        node = parse(item)
        self._listed.add(node.name)
        self._store(node, at)

    def end_list(self) -> None:
        for name in self._nodes.keys() - self._listed:
            self._remove(name)

    def apply_change(self, change: str, item: Body, at: float) -> None:
        node = parse(item)
        if change == "DELETED":
            self._remove(node.name)
        else:
            self._store(node, at)

    def _store(self, node: KubeNode, at: float) -> None:
        before = self._nodes.get(node.name)
        self._nodes[node.name] = node
        for name in node.names:
            if node.leaving_reason:
                self.notices.pin(InterruptionNotice(name, node.notice_kind, at, source=node.leaving_reason))
            elif before is not None and before.leaving_reason:
                self.notices.unpin(name)

    def _remove(self, name: str) -> None:
        node = self._nodes.pop(name, None)
        for notice_name in node.names if node else (name,):
            self.notices.unpin(notice_name)


def parse(body: Mapping[str, Any]) -> KubeNode:
    """Parse a node. Raises `Unavailable` for a malformed one."""
    with unavailable_if_malformed("a node"):
        metadata, spec, status = body["metadata"], body.get("spec") or {}, body.get("status") or {}
        labels = labels_of(metadata)
        conditions = {c["type"]: c for c in status.get("conditions") or ()}
        leaving_reason, notice_kind = _leaving_reason(metadata, spec.get("taints") or (), conditions)
        return KubeNode(
            name=text_field(metadata, "name"),
            machine=machine_of(str(spec.get("providerID") or "")),
            zone=next((labels[label] for label in ZONES if label in labels), ""),
            market=market_of(labels),
            leaving_reason=leaving_reason,
            notice_kind=notice_kind,
            pool=labels.get("karpenter.sh/nodepool", ""),
            ready=conditions.get("Ready", {}).get("status") == "True",
        )


def _leaving_reason(metadata: Mapping[str, Any], taints: Any, conditions: Mapping[str, Any]) -> tuple[str, Kind]:
    """Return why a node will be removed, and the kind of notice."""
    kinds = {taint["key"]: TAINTS[taint["key"]] for taint in taints if taint["key"] in TAINTS}
    for key, kind in sorted(kinds.items(), key=lambda item: item[1] != "interruption"):
        return f"taint {key}", kind
    if metadata.get("deletionTimestamp"):
        return "the node is being deleted", "interruption"
    event = conditions.get("VMEventScheduled", {})
    text = f"{event.get('reason', '')} {event.get('message', '')}"
    if event.get("status") == "True" and any(word in text for word in VM_EVENTS):
        return f"condition VMEventScheduled: {text.strip()}", "interruption"
    return "", "interruption"


def labels_of(metadata: Mapping[str, Any]) -> Mapping[str, str]:
    """Return an object's labels. Raises `TypeError` for a value that is not text."""
    labels: Mapping[str, str] = metadata.get("labels") or {}
    for label, value in labels.items():
        if not isinstance(value, str):
            raise TypeError(f"label {label} is {value!r}")
    return labels


def market_of(labels: Mapping[str, str]) -> str:
    """Return a node's market by the clouds' labels; on demand without one of them."""
    for label, markets in MARKETS.items():
        if market := markets.get(labels.get(label, "")):
            return market
    return "on_demand"


def machine_of(provider_id: str) -> str:
    """Return the cloud's name of a node's machine.

    It is an EC2 id, a Google VM's name, or an Azure resource id. Example: `aws:///us-east-1a/i-0abc` gives `i-0abc`.
    """
    cloud, _, path = provider_id.partition("://")
    return path.lower() if cloud == "azure" else path.rpartition("/")[2]


async def nodes(context: Context, session: Session, cluster: KubeCluster) -> KubeNodes:
    """Return the nodes that all workloads of the cluster share.

    Their notices wake the caller's workload.
    """
    notices = await board(context)

    return await context.shared(("kube nodes", cluster), lambda: aclosing(KubeNodes(session, notices)))
