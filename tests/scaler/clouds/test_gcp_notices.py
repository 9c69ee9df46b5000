"""Interruption notices on Google Cloud: received within two seconds, and nothing else counts as one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from scaler.clouds.gcp.settings import GcpNotices
from scaler.config.kinds.gcp_pools import GceMig
from scaler.ports import Permitted
from tests.contracts.gcp import SINK, preempted
from tests.patience import patience, requested
from tests.scaler.clouds.gcp_place import ZONES, GcpEnvironment, gcp_environment, read_status
from tests.servers.gcp import PROJECT
from tests.servers.gcp_compute import Mig
from tests.servers.gcp_metadata import metadata
from tests.servers.tcp_fault import ProxyFault

PATH = f"projects/{PROJECT}/subscriptions/{SINK}"


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[GcpEnvironment]:
    async with gcp_environment(tmp_path) as environment:
        environment.cloud.pubsub.subscribe(PATH)
        yield environment


def spec(env: GcpEnvironment, **notices: Any) -> GceMig:
    project = env.cloud.project()
    settings = GcpNotices(**(notices or {"subscription": SINK}))
    return GceMig(project=project, name="vllm", location=ZONES[0], market="spot", notices=settings)


def entry(mig: Mig, method: str, machine: int = 0) -> bytes:
    payload = {"methodName": method, "resourceName": mig.machine(mig.vms[machine])}
    return json.dumps({"protoPayload": payload}).encode()


async def tick_requested(env: GcpEnvironment) -> bool:
    try:
        async with patience(2.0):
            await requested(env.context.wakeup)
    except TimeoutError:
        return False
    return True


@pytest.mark.slow
async def test_preemption_requests_a_tick_and_is_acknowledged(env: GcpEnvironment) -> None:
    mig = env.mig()
    pool = await env.pool(spec(env))
    await read_status(pool)
    preempted(env.cloud, mig, mig.vms[1])
    assert await tick_requested(env)
    status = await read_status(pool)
    assert (status.ready, status.interruption_pending) == (2, 1)
    assert status.parts[0].interruption_pending == 1
    await asyncio.sleep(0.1)
    assert env.cloud.pubsub.unacknowledged == {}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "pending"),
    [
        ("compute.instances.preempted", 1),
        ("compute.instances.hostError", 1),
        ("compute.instances.terminateOnHostMaintenance", 1),
        ("compute.instances.migrateOnHostMaintenance", 0),
        ("compute.instances.insert", 0),
    ],
)
async def test_only_an_event_that_deletes_a_machine_is_a_notice(env: GcpEnvironment, method: str, pending: int) -> None:
    mig = env.mig()
    pool = await env.pool(spec(env))
    env.cloud.pubsub.publish(PATH, entry(mig, method))
    assert await tick_requested(env) is bool(pending)
    assert (await read_status(pool)).interruption_pending == pending


@pytest.mark.slow
async def test_an_invalid_log_entry_is_ignored(env: GcpEnvironment) -> None:
    mig = env.mig()
    pool = await env.pool(spec(env))
    for data in (b"\xff\xfe", b"[]", b"{}", b'{"protoPayload": "words"}', b'{"protoPayload": {"methodName": 7}}'):
        env.cloud.pubsub.publish(PATH, data)
    env.cloud.pubsub.publish(PATH, entry(mig, "compute.instances.preempted"))
    assert await tick_requested(env)
    assert (await read_status(pool)).interruption_pending == 1


async def test_notice_for_a_machine_of_another_pool_is_ignored(env: GcpEnvironment) -> None:
    env.mig()
    other_mig = env.mig("other", ZONES[1])
    pool = await env.pool(spec(env))
    preempted(env.cloud, other_mig, other_mig.vms[0])
    assert await tick_requested(env)
    assert (await read_status(pool)).interruption_pending == 0


@pytest.mark.slow
async def test_notices_resume_after_pub_sub_failed(env: GcpEnvironment) -> None:
    mig = env.mig()
    env.cloud.pubsub.fault = (grpc.StatusCode.UNAVAILABLE, "not now")
    pool = await env.pool(spec(env))
    await asyncio.sleep(0.3)
    env.cloud.pubsub.fault = None
    preempted(env.cloud, mig, mig.vms[0])
    async with patience(5):
        await read_status(pool, lambda s: s.interruption_pending == 1)


@pytest.mark.slow
async def test_notices_resume_after_a_broken_connection(env: GcpEnvironment) -> None:
    mig = env.mig()
    pool = await env.pool(spec(env))
    preempted(env.cloud, mig, mig.vms[0])
    assert await tick_requested(env)
    env.cloud.grpc.fault = ProxyFault.RESET
    env.cloud.grpc.tear_down()
    await asyncio.sleep(0.3)
    env.cloud.grpc.fault = ProxyFault.NONE
    preempted(env.cloud, mig, mig.vms[1])
    async with patience(8):
        await read_status(pool, lambda s: s.interruption_pending == 2)


async def test_unreadable_sink_is_reported_and_does_not_fail_the_pool(env: GcpEnvironment) -> None:
    env.mig()
    pool = await env.pool(spec(env, subscription="no-such"))
    assert (await read_status(pool)).ready == 2
    await asyncio.sleep(0.3)
    assert isinstance(pool, Permitted)
    denied = [p for p in await pool.permits() if p.granted is False]
    assert [p.action for p in denied] == ["pubsub.subscriptions.consume"]
    assert "not found" in denied[0].detail


@pytest.mark.slow
async def test_recreated_machine_of_the_same_name_has_no_notice(env: GcpEnvironment) -> None:
    mig = env.mig()
    pool = await env.pool(spec(env))
    await read_status(pool)
    preempted(env.cloud, mig, mig.vms[0])
    await read_status(pool, lambda s: s.interruption_pending == 1)
    mig.vms[0].status, mig.vms[0].action = "TERMINATED", "RECREATING"
    assert (await read_status(pool)).interrupted == 1
    preempted(env.cloud, mig, mig.vms[0])  # repeated later
    assert await tick_requested(env)
    await read_status(pool)
    mig.vms[0].status, mig.vms[0].action = "RUNNING", "NONE"
    status = await read_status(pool)
    assert (status.ready, status.interruption_pending, status.interrupted) == (2, 0, 1)


@pytest.mark.slow
async def test_notice_expires_if_the_machine_outlives_its_interruption_time(env: GcpEnvironment) -> None:
    mig = env.mig()
    pool = await env.pool(spec(env))
    preempted(env.cloud, mig, mig.vms[0])
    assert await tick_requested(env)
    assert (await read_status(pool)).interruption_pending == 1
    env.clock.ahead_s += 30 + 181
    assert (await read_status(pool)).interruption_pending == 0


@pytest.mark.slow
@pytest.mark.parametrize(
    ("key", "value", "pending"),
    [
        ("instance/preempted", "TRUE", 1),
        ("instance/maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE", 1),
        ("instance/maintenance-event", "MIGRATE_ON_HOST_MAINTENANCE", 0),
    ],
)
async def test_metadata_server_notices_its_own_machine(env: GcpEnvironment, key: str, value: str, pending: int) -> None:
    mig = env.mig()
    async with metadata(mig.vms[0].name) as server:
        pool = await env.pool(spec(env, metadata_url=server.url))
        await read_status(pool)
        await server.waited_for(key)
        await server.set(key, value)
        assert await tick_requested(env) is bool(pending)
        assert (await read_status(pool)).interruption_pending == pending
