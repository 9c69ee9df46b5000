"""The published role for Google Cloud: it is sufficient for all adapters, and has no unused permission."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from policies.model import Fresh, PoolStatus
from scaler.adapters import open_source
from scaler.clouds.gcp.settings import GcpNotices, GcpReservation
from scaler.config.kinds.gcp_managed_pools import CloudRunService, CloudRunWorkerPool, VertexEndpoint
from scaler.config.kinds.gcp_pools import GceMig, GceMigStandby, GkeNodePool, GkeTpuSlices
from scaler.config.kinds.gcp_sources import CloudMonitoring, PubSub
from scaler.ports import Actuator
from tests.contracts.gcp import SINK, exhaust, preempted
from tests.scaler.clouds.gcp_place import (
    CLUSTER,
    ENDPOINT,
    LOCATION,
    ZONES,
    GcpEnvironment,
    gcp_environment,
    read_status,
)
from tests.servers.gcp import PROJECT

FILE = Path(__file__).parents[3] / "config" / "deploy" / "gcp-role.yaml"
ROLE, NOTICES = (set(d["includedPermissions"]) for d in yaml.safe_load_all(FILE.read_text()))
RESERVED = GcpReservation(name="gpus", zone=ZONES[0])
COUNT = "pubsub.googleapis.com/subscription/num_undelivered_messages"
GPU = "kubernetes.io/container/accelerator/duty_cycle"


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[GcpEnvironment]:
    async with gcp_environment(tmp_path) as environment:
        environment.cloud.permit(ROLE | NOTICES)
        for name in (SINK, "prompts"):
            environment.cloud.pubsub.subscribe(f"projects/{PROJECT}/subscriptions/{name}")
        environment.cloud.compute.reserve(PROJECT, ZONES[0], "gpus", 8)
        environment.cloud.vertex.add(ENDPOINT, "7", 2)
        environment.cloud.run.add(f"{LOCATION}/services/vllm", 2, scalingMode="MANUAL", manualInstanceCount=2)
        environment.cloud.run.add(f"{LOCATION}/workerPools/vllm", 2, manualInstanceCount=2)
        yield environment


def pools(env: GcpEnvironment) -> list[Any]:
    """Return one pool of every kind, with all optional reads."""
    project, place = env.cloud.project(), {"cluster": "serving", "location": "us-central1"}
    options: dict[str, Any] = {"market": "spot", "reservation": RESERVED, "notices": GcpNotices(subscription=SINK)}
    shape: dict[str, Any] = {"slice_zone": ZONES[0], "machine_type": "ct5lp-hightpu-4t", "topology": "4x4"}
    settings: dict[str, Any] = {**place, **options}
    return [
        GceMig(project=project, name="vllm", location=ZONES[0], **options),
        GceMigStandby(project=project, name="vllm", location=ZONES[0], tier="warm_node"),
        GkeNodePool(project=project, name="h100", **settings),
        GkeTpuSlices(project=project, name="v5e", **shape, **settings),
        VertexEndpoint(project=project, location="us-central1", endpoint="123", deployed_model="7"),
        CloudRunService(project=project, location="us-central1", name="vllm"),
        CloudRunWorkerPool(project=project, location="us-central1", name="vllm"),
    ]


async def resize_up_and_down(pool: Actuator) -> PoolStatus:
    """Exercise every write, and the reads that follow one."""
    before = await read_status(pool)
    await pool.resize(before.desired + 1, before)
    await pool.resize(before.desired, await read_status(pool, lambda s: s.desired == before.desired + 1))
    return await read_status(pool, lambda s: s.desired == before.desired)


@pytest.mark.slow
async def test_role_is_sufficient_and_has_no_unused_permission(env: GcpEnvironment) -> None:
    mig = env.mig()
    env.cloud.container.add(CLUSTER, "h100", ZONES[:1], nodes_per_zone=1, spot=True)
    env.cloud.container.add(CLUSTER, "v5e-0", ZONES[:1], nodes_per_zone=4, spot=True, topology="4x4")
    for spec in pools(env):
        env.cloud.container.slow = spec.__class__ is GkeNodePool
        pool = await env.pool(spec)
        if env.cloud.container.slow:
            await pool.resize(2, await read_status(pool))
            await read_status(pool)  # follows the operation
            env.cloud.container.slow = False
            env.cloud.container.finish()
            await read_status(pool)
        status = await resize_up_and_down(pool)
        assert status.reserved is not None or not getattr(spec, "reservation", None)
    exhaust(mig, quota=False)
    mig.resize(4)
    pool = await env.pool(pools(env)[0])
    assert (await read_status(pool)).shortfall is not None
    preempted(env.cloud, mig, mig.vms[0])
    assert (await read_status(pool, lambda s: s.interruption_pending == 1)).ready == 2
    env.cloud.monitoring.record(COUNT, 7, env.clock.now(), subscription_id="prompts")
    env.cloud.monitoring.record(GPU, 50, env.clock.now(), namespace_name="llm")
    project = env.cloud.project()
    for source, quantity in (
        (PubSub(project=project, subscription="prompts", by_region=False), "visible"),
        (CloudMonitoring(project=project, preset="gke_gpu"), "utilization"),
    ):
        readings = await (await open_source(source, env.context)).sample()
        assert isinstance(readings[quantity], Fresh)
    called = {*env.cloud.requests, *env.cloud.pubsub.requests}
    assert called == ROLE | NOTICES
    counted = {operation for _, operation, _ in env.context.calls.results}
    assert counted == called, "counted operations have the names of their permissions"


async def test_permissions_listed_by_each_kind_are_granted(env: GcpEnvironment) -> None:
    opened: list[Any] = [await env.pool(spec) for spec in pools(env)]
    opened.append(await open_source(PubSub(project=env.cloud.project(), subscription="prompts"), env.context))
    needed = {p.action for adapter in opened for p in await adapter.permits()}
    assert needed == ROLE | NOTICES


@pytest.mark.slow
@pytest.mark.parametrize("without", sorted(ROLE - {"pubsub.subscriptions.get"}))
async def test_check_reports_each_missing_permission(env: GcpEnvironment, without: str) -> None:
    env.cloud.permit(ROLE - {without})
    denied = set[str]()
    for spec in pools(env):
        pool: Any = await env.pool(spec)
        denied |= {p.action for p in await pool.permits() if p.granted is False and "consume" not in p.action}
    assert denied == {without}
