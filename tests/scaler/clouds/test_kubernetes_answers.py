"""A malformed response of a Kubernetes API server never makes a pool smaller than it is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.config.kinds.kubernetes import CapacityBuffer, KarpenterNodePool, Kubernetes
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.servers.kube_fake import FakeKube, kube_fake, write_kubeconfig
from tests.servers.kube_objects import claim, event, node, put_deployment
from tests.servers.spoiling import GONE, Ahead, Lane, Mangle, same_pool_or_fair, spoil_everything

STRANGE: Final[tuple[Any, ...]] = (GONE, None, {}, 10**30)
ABOUT = {
    "deployment": "/apis/apps/",
    "service": "/apis/serving.example.com/",
    "karpenter": "/apis/karpenter.sh/",
    "buffer": "/apis/autoscaling.x-k8s.io/",
}


class Edited:
    """The fake API server with spoiled responses."""

    def __init__(self, fake: FakeKube) -> None:
        self._fake = fake

    @property
    def mangle(self) -> Mangle | None:
        return self._fake.edit

    @mangle.setter
    def mangle(self, mangle: Mangle | None) -> None:
        self._fake.edit = mangle


def status_of(spec: Any, clock: Ahead) -> Callable[[], Awaitable[Any]]:
    """Return the status of a newly opened pool, without earlier knowledge."""

    async def ask() -> Any:
        async with Resources() as resources:
            pool = await open_pool(
                spec, AdapterContext(resources, clock, DEADLINE_S), WorkloadName("chat"), PoolName("pool")
            )
            return (await pool.status()).value

    return ask


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["deployment", "service", "karpenter", "buffer"])
async def test_malformed_response_never_reports_a_smaller_pool(kind: str, tmp_path: Path) -> None:
    async with kube_fake() as fake:
        cluster = KubeCluster(kubeconfig=str(write_kubeconfig(tmp_path / "kubeconfig", fake.port)))
        specs = {
            "deployment": Kubernetes(name="llm", cluster=cluster, watch_pods=False),
            "service": Kubernetes(
                api_version="serving.example.com/v1beta1",
                object_kind="Engine",
                name="llm",
                cluster=cluster,
                watch_pods=False,
            ),
            "karpenter": KarpenterNodePool(name="spot", cluster=cluster),
            "buffer": CapacityBuffer(name="room", tier="warm_node", cluster=cluster),
        }
        await put_deployment(fake, "llm", 2)
        await fake.put("engines", "llm", {"spec": {"predictor": {"min": 2}}, "status": {"replicas": 2}})
        await fake.put("nodepools", "spot", {"spec": {"replicas": 2, "limits": {"nodes": "5"}}})
        for number in range(2):
            await fake.put("nodes", f"node-{number}", node("us-a"))
            await fake.put("nodeclaims", f"spot-{number}", claim("spot", f"node-{number}", "us-a"))
        placed = {"type": "Provisioning", "status": "True", "reason": "FitsExistingCapacity"}
        await fake.put("capacitybuffers", "room", {"spec": {"replicas": 2}})
        await fake.put("capacitybuffers", "room", {"status": {"replicas": 2, "conditions": [placed]}})
        await fake.put("events", "said", event({"metadata": {"name": "x", "uid": "x"}}, "FailedScaleUp", "none"))
        clock = Ahead()
        optional = frozenset({"replicas"} if kind == "service" else ())  # a scale omits a count of 0
        lane = Lane(Edited(fake), status_of(specs[kind], clock), clock, same_pool_or_fair, optional)
        assert await spoil_everything(lane, strange=STRANGE, only=ABOUT[kind]) > 80  # 100 or more
