"""Kubernetes objects: a Deployment with its pods on nodes, and events about them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from tests.servers.kube_fake import FakeKube

Object = dict[str, Any]


async def put_deployment(fake: FakeKube, name: str, replicas: int, market: str = "spot", **more: Any) -> None:
    """Create a Deployment with ready pods, each on its own node: pod `llm-0` on `node-0`, and so on."""
    labels = {"app": name}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}}
    status = {"replicas": replicas, "readyReplicas": replicas}
    for number in range(replicas):
        await fake.put("nodes", f"node-{number}", node(zone=f"us-{'ab'[number % 2]}", market=market))
        await fake.put("pods", f"{name}-{number}", ready_pod(name, f"node-{number}", **more))
    await fake.put("deployments", name, {"spec": spec, "status": status})


def node(zone: str, market: str = "spot", machine: str = "") -> Object:
    labels = {"topology.kubernetes.io/zone": zone, "karpenter.sh/capacity-type": market}
    return {"metadata": {"labels": labels}, "spec": {"providerID": f"aws:///{zone}/{machine}" if machine else ""}}


def ready_pod(app: str, on: str, labels: Object | None = None, address: str = "127.0.0.1") -> Object:
    conditions = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}]
    return {
        "metadata": {"labels": {"app": app, **(labels or {})}},
        "spec": {"nodeName": on},
        "status": {"phase": "Running", "podIP": address, "conditions": conditions},
    }


def waiting_pod(app: str) -> Object:
    """Return an unschedulable pod."""
    condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
    return {"metadata": {"labels": {"app": app}}, "status": {"phase": "Pending", "conditions": [condition]}}


def event(of: Object, reason: str, text: str, by: str = "cluster-autoscaler", at: str = "") -> Object:
    """Return an event about a pod, now or at a time."""
    at = at or datetime.now(UTC).isoformat(timespec="seconds")
    return {
        "involvedObject": {"kind": of.get("kind", "Pod"), "name": of["metadata"]["name"], "uid": of["metadata"]["uid"]},
        "reason": reason,
        "message": text,
        "source": {"component": by},
        "firstTimestamp": at,
        "lastTimestamp": at,
    }


def claim(pool: str, on: str, zone: str, market: str = "spot") -> Object:
    """Return a NodeClaim of Karpenter whose node serves."""
    labels = {
        "karpenter.sh/nodepool": pool,
        "karpenter.sh/capacity-type": market,
        "topology.kubernetes.io/zone": zone,
    }
    done = {"status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
    conditions = [{"type": kind, **done} for kind in ("Launched", "Registered", "Initialized", "Ready")]
    return {"metadata": {"labels": labels}, "status": {"nodeName": on, "conditions": conditions}}
