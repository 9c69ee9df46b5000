"""Interruptions on Google Cloud are heard within two seconds, and nothing else is taken for one."""

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
from tests.patience import patience
from tests.scaler.clouds.gcp_place import ZONES, There, seen, there
from tests.servers.gcp import PROJECT
from tests.servers.gcp_compute import Mig
from tests.servers.gcp_metadata import metadata
from tests.servers.tcp_fault import Weather

PATH = f"projects/{PROJECT}/subscriptions/{SINK}"


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[There]:
    async with there(tmp_path) as found:
        found.cloud.pubsub.subscribe(PATH)
        yield found


def spec(here: There, **notices: Any) -> GceMig:
    project = here.cloud.project()
    heard = GcpNotices(**(notices or {"subscription": SINK}))
    return GceMig(project=project, name="vllm", location=ZONES[0], market="spot", notices=heard)


def entry(mig: Mig, method: str, machine: int = 0) -> bytes:
    payload = {"methodName": method, "resourceName": mig.machine(mig.vms[machine])}
    return json.dumps({"protoPayload": payload}).encode()


async def rung(here: There) -> bool:
    try:
        async with patience(2.0):
            await here.context.wakeup.wait()
    except TimeoutError:
        return False
    return True


async def test_a_preemption_rings_for_a_turn_and_is_acknowledged(here: There) -> None:
    mig = here.mig()
    pool = await here.pool(spec(here))
    await seen(pool)
    preempted(here.cloud, mig, mig.vms[1])
    assert await rung(here)
    status = await seen(pool)
    assert (status.ready, status.interruption_pending) == (2, 1)
    assert status.parts[0].interruption_pending == 1
    await asyncio.sleep(0.1)
    assert here.cloud.pubsub.out == {}


@pytest.mark.parametrize(
    ("method", "doomed"),
    [
        ("compute.instances.preempted", 1),
        ("compute.instances.hostError", 1),
        ("compute.instances.terminateOnHostMaintenance", 1),
        ("compute.instances.migrateOnHostMaintenance", 0),
        ("compute.instances.insert", 0),
    ],
)
async def test_only_what_takes_a_machine_dooms_it(here: There, method: str, doomed: int) -> None:
    mig = here.mig()
    pool = await here.pool(spec(here))
    here.cloud.pubsub.publish(PATH, entry(mig, method))
    assert await rung(here) is bool(doomed)
    assert (await seen(pool)).interruption_pending == doomed


async def test_what_is_no_log_entry_is_passed_over(here: There) -> None:
    mig = here.mig()
    pool = await here.pool(spec(here))
    for data in (b"\xff\xfe", b"[]", b"{}", b'{"protoPayload": "words"}', b'{"protoPayload": {"methodName": 7}}'):
        here.cloud.pubsub.publish(PATH, data)
    here.cloud.pubsub.publish(PATH, entry(mig, "compute.instances.preempted"))
    assert await rung(here)
    assert (await seen(pool)).interruption_pending == 1


async def test_another_pool_s_machine_dooms_none_of_ours(here: There) -> None:
    here.mig()
    other = here.mig("other", ZONES[1])
    pool = await here.pool(spec(here))
    preempted(here.cloud, other, other.vms[0])
    assert await rung(here)
    assert (await seen(pool)).interruption_pending == 0


async def test_hearing_goes_on_after_pub_sub_failed(here: There) -> None:
    mig = here.mig()
    here.cloud.pubsub.fault = (grpc.StatusCode.UNAVAILABLE, "not now")
    pool = await here.pool(spec(here))
    await asyncio.sleep(0.3)
    here.cloud.pubsub.fault = None
    preempted(here.cloud, mig, mig.vms[0])
    async with patience(5):
        await seen(pool, lambda s: s.interruption_pending == 1)


async def test_hearing_goes_on_after_the_connection_broke(here: There) -> None:
    mig = here.mig()
    pool = await here.pool(spec(here))
    preempted(here.cloud, mig, mig.vms[0])
    assert await rung(here)
    here.cloud.grpc.weather = Weather.RESET
    here.cloud.grpc.tear_down()
    await asyncio.sleep(0.3)
    here.cloud.grpc.weather = Weather.CLEAR
    preempted(here.cloud, mig, mig.vms[1])
    async with patience(8):
        await seen(pool, lambda s: s.interruption_pending == 2)


async def test_a_sink_that_may_not_be_read_is_told_by_check_and_blinds_no_pool(here: There) -> None:
    here.mig()
    pool = await here.pool(spec(here, subscription="no-such"))
    assert (await seen(pool)).ready == 2
    await asyncio.sleep(0.3)
    assert isinstance(pool, Permitted)
    denied = [p for p in await pool.permits() if p.granted is False]
    assert [p.action for p in denied] == ["pubsub.subscriptions.consume"]
    assert "not found" in denied[0].detail


async def test_a_machine_that_comes_back_under_its_name_is_not_doomed_again(here: There) -> None:
    mig = here.mig()
    pool = await here.pool(spec(here))
    await seen(pool)
    preempted(here.cloud, mig, mig.vms[0])
    await seen(pool, lambda s: s.interruption_pending == 1)
    mig.vms[0].status, mig.vms[0].action = "TERMINATED", "RECREATING"
    assert (await seen(pool)).interrupted == 1
    preempted(here.cloud, mig, mig.vms[0])  # said once more, late
    assert await rung(here)
    await seen(pool)
    mig.vms[0].status, mig.vms[0].action = "RUNNING", "NONE"
    status = await seen(pool)
    assert (status.ready, status.interruption_pending, status.interrupted) == (2, 0, 1)


async def test_a_notice_of_a_machine_that_is_there_long_after_its_time_was_about_its_past(here: There) -> None:
    mig = here.mig()
    pool = await here.pool(spec(here))
    preempted(here.cloud, mig, mig.vms[0])
    assert await rung(here)
    assert (await seen(pool)).interruption_pending == 1
    here.clock.ahead_s += 30 + 181
    assert (await seen(pool)).interruption_pending == 0


@pytest.mark.parametrize(
    ("key", "value", "doomed"),
    [
        ("instance/preempted", "TRUE", 1),
        ("instance/maintenance-event", "TERMINATE_ON_HOST_MAINTENANCE", 1),
        ("instance/maintenance-event", "MIGRATE_ON_HOST_MAINTENANCE", 0),
    ],
)
async def test_the_metadata_server_tells_of_its_own_machine(here: There, key: str, value: str, doomed: int) -> None:
    mig = here.mig()
    async with metadata(mig.vms[0].name) as server:
        pool = await here.pool(spec(here, metadata_url=server.url))
        await seen(pool)
        await server.waited_for(key)
        await server.set(key, value)
        assert await rung(here) is bool(doomed)
        assert (await seen(pool)).interruption_pending == doomed
