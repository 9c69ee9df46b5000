"""The daemon on managed endpoints of Google Cloud.

Load rises, and a Vertex AI endpoint grows through its lock. Its region then has fewer machines than an update asked
for, which it tells after the update, and later refuses updates at once: Cloud Run takes the rest. Load falls: instances
stay for their minimum billed time, and everything is handed back. The journal replays with equal decisions.
"""

from __future__ import annotations

import itertools
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from policies.model import PoolName, Result
from scaler.clock import SystemClock
from tests.e2e.cloud_story import (
    MESSAGES_PER_REPLICA,
    check_journal,
    check_min_billed,
    configure,
    queue_workload,
    ready,
    since,
    status_of,
)
from tests.servers.daemon import Daemon, daemon, until
from tests.servers.gcp import PROJECT, Gcp, gcp
from tests.servers.gcp_run import Resource
from tests.servers.gcp_vertex import Deployed

LOCATION: Final = f"projects/{PROJECT}/locations/us-central1"
COUNT: Final = "pubsub.googleapis.com/subscription/num_undelivered_messages"
ENDPOINT: Final = PoolName("endpoint")
WORKERS: Final = PoolName("workers")
FIRST_WAVE: Final = 3
"""Replicas of the first wave, which the cheaper endpoint carries alone."""
SECOND_WAVE: Final = 5
THIRD_WAVE: Final = 7
MIN_BILLED_S: Final = 20.0


def document(cloud: Gcp) -> dict[str, Any]:
    """Return the workload's document."""
    place = {"project": cloud.document(), "location": "us-central1", "lead_time_s": 5.0}
    source = {
        "kind": "pubsub",
        "project": cloud.document(),
        "subscription": "prompts",
        "by_region": False,
        "read_interval_s": 0.5,
    }
    model = {"kind": "vertex_endpoint", "endpoint": "123", "deployed_model": "7", "accelerator": "h100", **place}
    workers = {"kind": "cloud_run_worker_pool", "name": "vllm", "accelerator": "l4", **place}
    pools: dict[str, Any] = {
        ENDPOINT: {"price_usd_per_hour": 2.0, **model},
        WORKERS: {"price_usd_per_hour": 7.0, "min_billed_s": MIN_BILLED_S, **workers},
    }
    return queue_workload("llm", {"queue": source}, pools, max_replicas=12, min_replicas=1)


async def queue(cloud: Gcp, replicas: int) -> None:
    """Set the number of messages to that for this many replicas."""
    for metric in (COUNT, COUNT.replace("num_undelivered_messages", "oldest_unacked_message_age")):
        count = replicas * MESSAGES_PER_REPLICA
        cloud.monitoring.record(metric, count, SystemClock().now(), subscription_id="prompts")


def sized(model: Deployed, workers: Resource, endpoint: int, instances: int) -> Callable[[], Awaitable[bool]]:
    async def is_sized() -> bool:
        return (model.minimum, workers.target) == (endpoint, instances)

    return is_sized


def one_at_a_time(cloud: Gcp) -> bool:
    """Return whether no operation on the endpoint began before the one before it had ended."""
    return all(earlier.ends_at <= later.began_at for earlier, later in itertools.pairwise(cloud.vertex.operations))


async def first_wave_uses_the_cheaper_endpoint(cloud: Gcp, model: Deployed, workers: Resource, d: Daemon) -> None:
    await queue(cloud, FIRST_WAVE)
    await until(lambda: ready(d, ENDPOINT) >= FIRST_WAVE, d)
    await until(sized(model, workers, FIRST_WAVE, 0), d)


async def missing_machines_are_taken_from_cloud_run(cloud: Gcp, model: Deployed, workers: Resource, d: Daemon) -> None:
    model.stock = FIRST_WAVE
    await queue(cloud, SECOND_WAVE)
    await until(lambda: ready(d, ENDPOINT, WORKERS) >= SECOND_WAVE, d)
    assert (model.available, workers.target) == (FIRST_WAVE, SECOND_WAVE - FIRST_WAVE)


async def refused_machines_are_taken_from_cloud_run(cloud: Gcp, model: Deployed, workers: Resource, d: Daemon) -> None:
    cloud.vertex.exhausted = True
    began = SystemClock().now()
    await queue(cloud, THIRD_WAVE)
    await until(sized(model, workers, FIRST_WAVE, THIRD_WAVE - FIRST_WAVE), d)
    outcomes = [o for t in since(d, began) for o in t.outcomes if o.pool == ENDPOINT and o.after > o.before]
    assert {o.result for o in outcomes} <= {Result.OUT_OF_CAPACITY}


async def new_instances_stay_for_their_minimum_and_everything_is_handed_back(
    cloud: Gcp, model: Deployed, workers: Resource, d: Daemon
) -> None:
    await queue(cloud, 0)
    await until(sized(model, workers, 1, 0), d)
    await until(lambda: status_of(d.ticks()[-1], WORKERS).ready == 0, d)


@pytest.mark.slow
async def test_vertex_is_refused_machines_and_cloud_run_takes_the_rest(tmp_path: Path) -> None:
    async with gcp(tmp_path) as cloud:
        cloud.vertex.operation_s = cloud.vertex.boot_s = 1.0
        cloud.run.settle_s, cloud.run.sample_s, cloud.run.delay_s, cloud.run.starts = 1.0, 2.0, 1.0, True
        model = cloud.vertex.add(f"{LOCATION}/endpoints/123", "7", 1)
        workers = cloud.run.add(f"{LOCATION}/workerPools/vllm", 0, manualInstanceCount=0)
        cloud.pubsub.subscribe(f"projects/{PROJECT}/subscriptions/prompts")
        await queue(cloud, 0)
        async with daemon(str(configure(tmp_path, document(cloud))), journal=tmp_path / "journal") as d:
            await first_wave_uses_the_cheaper_endpoint(cloud, model, workers, d)
            await missing_machines_are_taken_from_cloud_run(cloud, model, workers, d)
            await refused_machines_are_taken_from_cloud_run(cloud, model, workers, d)
            await new_instances_stay_for_their_minimum_and_everything_is_handed_back(cloud, model, workers, d)
            assert await d.stop() == 0
            ticks = d.ticks()
        assert one_at_a_time(cloud)
    missing = {s.reason for t in ticks if (s := status_of(t, ENDPOINT).shortfall) is not None}
    assert any("Machine type temporarily unavailable" in reason for reason in missing), missing
    check_min_billed(ticks, WORKERS, MIN_BILLED_S)
    check_journal(tmp_path / "journal", ticks)
