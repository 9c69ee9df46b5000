"""A malformed response of Google Cloud gives a true value or a port error, and ends no loop."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from scaler.adapters import open_source
from scaler.clouds.gcp.notices import GcpNoticeListener
from scaler.clouds.gcp.settings import GcpReservation
from scaler.clouds.http_answers import message_of
from scaler.clouds.interruptions import board
from scaler.config.kinds.gcp_managed_pools import CloudRunService, VertexEndpoint
from scaler.config.kinds.gcp_pools import GceMig, GceMigStandby, GkeNodePool, GkeTpuSlices
from scaler.config.kinds.gcp_sources import CloudMonitoring, GcpMetric, PubSub
from tests.scaler.clouds.gcp_place import CLUSTER, ENDPOINT, LOCATION, ZONES, GcpEnvironment, gcp_environment
from tests.servers import gcp_vertex
from tests.servers.gcp import PROJECT
from tests.servers.gcp_compute import STOCKOUT
from tests.servers.spoiling import (
    STRANGE,
    Holds,
    Lane,
    same_pool,
    same_pool_or_fair,
    same_readings,
    spoil_everything,
    spoiled,
    spots,
)

SUBSCRIPTION = f"projects/{PROJECT}/subscriptions/prompts"
BACKLOG = "pubsub.googleapis.com/subscription/num_undelivered_messages_by_region"
AGE = "pubsub.googleapis.com/subscription/oldest_unacked_message_age_by_region"


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[GcpEnvironment]:
    async with gcp_environment(tmp_path, at_once=True) as environment:
        environment.cloud.token_life_s = 10**7
        yield environment


async def statuses(env: GcpEnvironment, spec: Any, holds: Holds = same_pool, *optional: str) -> Lane:
    pool = await env.pool(spec)

    async def read_value() -> Any:
        return (await pool.status()).value

    return Lane(env.cloud, read_value, env.clock, holds, frozenset(optional))


@pytest.mark.slow
async def test_malformed_responses_for_a_group(env: GcpEnvironment) -> None:
    mig = env.mig(location="us-central1")
    mig.autoscaler, mig.vms[0].health = "its-own", "HEALTHY"
    mig.exhausted_zones[ZONES[2]] = STOCKOUT
    mig.resize(3)
    env.cloud.compute.reserve(PROJECT, ZONES[0], "held", 2)
    held = GcpReservation(name="held", zone=ZONES[0])
    spec = GceMig(project=env.cloud.project(), name="vllm", location="us-central1", reservation=held, market="spot")
    assert await spoil_everything(await statuses(env, spec)) > 300


@pytest.mark.slow
async def test_malformed_responses_for_standby_machines(env: GcpEnvironment) -> None:
    mig = env.mig()
    mig.rest("STOPPED", 2)
    mig.boot()
    spec = GceMigStandby(project=env.cloud.project(), name="vllm", location=ZONES[0], tier="warm_node")
    lane = await statuses(env, spec, same_pool_or_fair, "targetStoppedSize")
    assert await spoil_everything(lane) > 200


@pytest.mark.slow
@pytest.mark.parametrize("sized_by", ["size", "bounds"])
async def test_malformed_responses_for_a_node_pool(env: GcpEnvironment, sized_by: Any) -> None:
    scaled = {"enabled": True, "totalMinNodeCount": 2, "totalMaxNodeCount": 9} if sized_by == "bounds" else {}
    pool = env.cloud.container.add(
        CLUSTER, "h100", ZONES[:2], nodes_per_zone=1, spot=True, autoscaling=scaled, status="RUNNING_WITH_ERROR"
    )
    pool.message = "Quota 'NVIDIA_H100_GPUS' exceeded. Limit: 8.0."
    pool.conditions = [{"code": "GCE_STOCKOUT", "message": "no more"}]
    spec = GkeNodePool(
        project=env.cloud.project(),
        cluster="serving",
        location="us-central1",
        name="h100",
        market="spot",
        quantum=2,
        sized_by=sized_by,
    )
    lane = await statuses(env, spec, same_pool_or_fair, "autoscaling", "totalMinNodeCount")
    assert await spoil_everything(lane) > 300


@pytest.mark.slow
async def test_malformed_responses_for_tpu_slices(env: GcpEnvironment) -> None:
    env.cloud.container.add(CLUSTER, "v5e-0", ZONES[:1], nodes_per_zone=4, spot=True, topology="4x4")
    spec = GkeTpuSlices(
        project=env.cloud.project(),
        cluster="serving",
        location="us-central1",
        name="v5e",
        slice_zone=ZONES[0],
        machine_type="ct5lp-hightpu-4t",
        topology="4x4",
        market="spot",
    )
    assert await spoil_everything(await statuses(env, spec, same_pool_or_fair, "nodePools")) > 200


@pytest.mark.slow
async def test_malformed_responses_for_a_deployed_model(env: GcpEnvironment) -> None:
    env.cloud.vertex.add(ENDPOINT, "7", 3, available=2, message=gcp_vertex.STOCKOUT)
    spec = VertexEndpoint(project=env.cloud.project(), location="us-central1", endpoint="123", deployed_model="7")
    assert await spoil_everything(await statuses(env, spec)) > 100


@pytest.mark.slow
async def test_malformed_responses_to_a_mutation_and_its_operations(env: GcpEnvironment) -> None:
    model = env.cloud.vertex.add(ENDPOINT, "7", 2)
    env.cloud.vertex.operation_s = 60.0
    spec = VertexEndpoint(project=env.cloud.project(), location="us-central1", endpoint="123", deployed_model="7")

    async def grow() -> None:
        pool = await env.pool(spec)
        env.cloud.vertex.fails = None
        try:
            await pool.resize(5, (await pool.status()).value)
            await pool.status()
            env.cloud.vertex.operations[-1].error = {"code": 14, "message": gcp_vertex.STOCKOUT}
            env.cloud.vertex.finish()
            assert (await pool.status()).value.desired == 5
        finally:
            assert model.minimum in {2, 5}
            env.cloud.vertex.finish()
            model.minimum = model.maximum = 2
            del env.cloud.vertex.operations[:]

    assert await spoil_everything(Lane(env.cloud, grow, env.clock), only="POST") > 50


@pytest.mark.slow
async def test_malformed_responses_for_a_service(env: GcpEnvironment) -> None:
    run = env.cloud.run.add(f"{LOCATION}/services/vllm", 2, scalingMode="MANUAL", manualInstanceCount=3)
    run.condition = {"type": "Ready", "state": "CONDITION_FAILED", "message": "no"}
    run.condition["revisionReason"] = "MIN_INSTANCES_NOT_PROVISIONED"
    env.cloud.run.sample_s = env.cloud.run.delay_s = 0.0
    spec = CloudRunService(project=env.cloud.project(), location="us-central1", name="vllm")
    assert await spoil_everything(await statuses(env, spec)) > 100


@pytest.mark.slow
async def test_malformed_responses_to_a_write_and_its_operation(env: GcpEnvironment) -> None:
    node_pool = env.cloud.container.add(CLUSTER, "h100", ZONES[:1], nodes_per_zone=2, spot=True)
    spec = GkeNodePool(
        project=env.cloud.project(), cluster="serving", location="us-central1", name="h100", market="spot"
    )

    async def grow() -> None:
        pool = await env.pool(spec)
        env.cloud.container.slow, env.cloud.container.fails = True, None
        try:
            await pool.resize(5, (await pool.status()).value)
            env.cloud.container.fails = {"code": 8, "message": "no more", "details": [{"reason": "GCE_STOCKOUT"}]}
            env.cloud.container.finish()
            assert (await pool.status()).value.desired == 5
        finally:
            assert node_pool.size in {2, 5}
            env.cloud.container.finish()
            node_pool.migs[0].resize(2)
            node_pool.migs[0].boot()

    assert await spoil_everything(Lane(env.cloud, grow, env.clock)) > 200


@pytest.mark.slow
async def test_malformed_responses_for_a_backlog(env: GcpEnvironment) -> None:
    env.cloud.pubsub.subscribe(SUBSCRIPTION)
    spec = PubSub(project=env.cloud.project(), subscription="prompts", max_age_s=300)
    source = await open_source(spec, env.context)

    async def sample() -> Any:
        env.cloud.monitoring.series.clear()
        for region, count in (("us-central1", 4.0), ("us-east4", 3.0)):
            labels = {"region": region}
            for metric, value in ((BACKLOG, count), (AGE, 10 * count)):
                for age_s in (120.0, 60.0):
                    at = env.clock.now() - age_s
                    env.cloud.monitoring.record(
                        metric, value - age_s / 100, at, labels=labels, subscription_id="prompts"
                    )
        return await source.sample()

    assert await spoil_everything(Lane(env.cloud, sample, env.clock, same_readings)) > 200


@pytest.mark.slow
async def test_malformed_responses_of_cloud_monitoring(env: GcpEnvironment) -> None:
    metric = GcpMetric(filter='metric.type = "kubernetes.io/duty"', reducer="mean", scale=0.01)
    spec = CloudMonitoring(project=env.cloud.project(), metrics={"utilization": metric}, promql={"waiting": "up"})
    source = await open_source(spec, env.context)

    async def sample() -> Any:
        now = env.clock.now()
        env.cloud.monitoring.series.clear()
        env.cloud.monitoring.record("kubernetes.io/duty", 50.0, now - 90, cluster_name="serving")
        env.cloud.monitoring.prometheus = {"up": [{"metric": {"job": "a"}, "value": [now, "7"]}]}
        return await source.sample()

    assert await spoil_everything(Lane(env.cloud, sample, env.clock, same_readings)) > 200


async def test_malformed_log_entries_do_not_end_the_listener(env: GcpEnvironment) -> None:
    """The listener continues after any log entry."""
    listener = GcpNoticeListener(await board(env.context), env.clock)
    machine = f"projects/{PROJECT}/zones/{ZONES[0]}/instances/vllm-0"
    payload = {"methodName": "compute.instances.preempted", "resourceName": machine}
    whole = {"protoPayload": payload, "timestamp": "2026-11-27T15:00:00Z"}
    for path in spots(whole):
        for strange in STRANGE:
            listener.pin(message_of(json.dumps(spoiled(whole, path, strange)).encode()))
