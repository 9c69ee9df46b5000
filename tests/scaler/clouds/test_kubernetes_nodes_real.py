"""Nodes, events and quotas of a real API server in pools' statuses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from policies.model import PoolName, PoolPart, WorkloadName
from scaler.actuators.kubernetes import KubernetesResizer, open_kubernetes
from scaler.clock import SystemClock
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.config.kinds.kubernetes import Kubernetes
from scaler.shared_resources import AdapterContext, Resources
from tests.contracts.actuator import NOTICE_S, settled
from tests.factories import DEADLINE_S
from tests.patience import PATIENCE_S, patience, requested
from tests.servers.control_plane import why_not
from tests.servers.kube_real import KubeNamespace, kube_namespace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is one"),
]
NODE = "/api/v1/nodes/gpu-0"


@pytest.fixture
async def place() -> AsyncIterator[KubeNamespace]:
    """Create a namespace, and a node for its pods."""
    async with kube_namespace() as opened:
        labels = {"topology.kubernetes.io/zone": "us-a", "karpenter.sh/capacity-type": "spot"}
        body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "gpu-0", "labels": labels}}
        await opened.call("POST", "/api/v1/nodes", body)
        try:
            yield opened
        finally:
            await opened.call("DELETE", NODE)


@pytest.fixture
async def context() -> AsyncIterator[AdapterContext]:
    async with Resources() as resources:
        yield AdapterContext(resources, SystemClock(), DEADLINE_S)


@pytest.fixture
async def pool(place: KubeNamespace, context: AdapterContext) -> KubernetesResizer:
    cluster = KubeCluster(kubeconfig=str(place.kubeconfig))
    spec = Kubernetes(name="llm", namespace=place.namespace, cluster=cluster)
    return await open_kubernetes(spec, context, WorkloadName("chat"), PoolName("gpus"))


async def test_taint_is_a_notice_within_two_seconds_until_it_is_removed(
    place: KubeNamespace, pool: KubernetesResizer, context: AdapterContext
) -> None:
    await settled(pool, lambda s: s.parts == (PoolPart("us-a", "spot", 2),))
    wakeup = asyncio.create_task(requested(context.wakeup))
    taint = {"key": "aws-node-termination-handler/spot-itn", "effect": "NoSchedule"}
    await place.call("PATCH", NODE, {"spec": {"taints": [taint]}})
    async with patience(NOTICE_S):
        await wakeup
        status = await settled(pool, lambda s: s.interruption_pending == 2)
    assert status.parts == (PoolPart("us-a", "spot", 2, interruption_pending=2),)
    await place.call("PATCH", NODE, {"spec": {"taints": None}})
    assert (await settled(pool, lambda s: s.interruption_pending == 0)).interrupted == 0


async def test_scale_up_event_of_a_pod_is_a_shortfall(place: KubeNamespace, pool: KubernetesResizer) -> None:
    await settled(pool, lambda s: s.ready == 2)
    pod = await unschedulable_pod(place)
    about = {"kind": "Pod", "name": pod["metadata"]["name"], "uid": pod["metadata"]["uid"]}
    at = "2026-01-01T00:00:00Z"
    event = {
        "metadata": {"name": "late"},
        "involvedObject": {**about, "namespace": place.namespace},
        "reason": "NotTriggerScaleUp",
        "message": "pod didn't trigger scale-up: 2 max node group size reached",
        "source": {"component": "cluster-autoscaler"},
        "type": "Normal",
        "firstTimestamp": at,
        "lastTimestamp": at,
    }
    await place.call("POST", place.path("events", api="api/v1"), event)
    status = await settled(pool, lambda s: s.shortfall is not None)
    assert status.shortfall is not None
    assert (status.failed, status.shortfall.quota, status.shortfall.at) == (1, True, 1767225600.0)


async def test_pods_beyond_a_resource_quota_are_failed(place: KubeNamespace, pool: KubernetesResizer) -> None:
    await settled(pool, lambda s: s.ready == 2)
    quotas = place.path("resourcequotas", api="api/v1")
    await place.call("POST", quotas, {"metadata": {"name": "gpus"}, "spec": {"hard": {"pods": "2"}}})
    counted = {"status": {"hard": {"pods": "2"}, "used": {"pods": "2"}}}
    await place.call("PATCH", f"{quotas}/gpus/status", counted)
    await pool.resize(4, (await pool.status()).value)
    status = await settled(pool, lambda s: s.failed == 2)
    assert status.shortfall is not None
    assert (status.pending, status.shortfall.quota) == (0, True)
    assert "exceeded quota: gpus" in status.shortfall.reason


async def unschedulable_pod(place: KubeNamespace) -> dict[str, Any]:
    """A pod with the Deployment's labels that cannot be scheduled."""
    place.nodes.stopping = True  # otherwise it would bind the pod
    await asyncio.sleep(0.2)
    await place.set_size(3)
    path = place.path("pods", api="api/v1")
    async with asyncio.timeout(PATIENCE_S):
        while True:
            pods: list[dict[str, Any]] = (await place.call("GET", path))["items"]
            if unscheduled := [pod for pod in pods if "nodeName" not in pod["spec"]]:
                return unscheduled[0]
            await asyncio.sleep(0.05)
