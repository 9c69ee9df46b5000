"""Managed instance groups: zones, interruptions, other writers, reservations, standby machines."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from policies.model import PoolPart
from scaler.clouds.gcp import instance_groups
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.gcp.settings import GcpReservation
from scaler.config.kinds.gcp_pools import GceMig, GceMigStandby
from scaler.ports import Conflict, Misconfigured, OutOfCapacity, OutOfQuota, PortError, Throttled, Unavailable
from tests.contracts.gcp import THROTTLED, exhaust
from tests.scaler.clouds.gcp_place import ZONES, GcpEnvironment, gcp_environment, read_status
from tests.servers.gcp import PROJECT
from tests.servers.gcp_compute import NO_IMAGE, refusal, stamp


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[GcpEnvironment]:
    async with gcp_environment(tmp_path) as environment:
        yield environment


def spec(env: GcpEnvironment, **more: Any) -> GceMig:
    settings = {"name": "vllm", "location": "us-central1", "market": "spot", "accelerator": "nvidia-l4", **more}
    return GceMig(project=env.cloud.project(), **settings)


async def test_machines_of_a_region_are_read_from_all_pages_by_zone(env: GcpEnvironment) -> None:
    mig, env.cloud.compute.page = env.mig(location="us-central1", size=5), 2
    pool = await env.pool(spec(env))
    await pool.resize(7, await read_status(pool))
    status = await read_status(pool)
    assert (status.desired, status.ready, status.pending) == (7, 5, 2)
    a, b, c = status.parts
    assert [p.zone for p in (a, b, c)] == list(ZONES)
    assert sum(p.ready for p in (a, b, c)) == 5
    assert sum(p.pending for p in (a, b, c)) == 2
    assert mig.writes == 1


async def test_an_exhausted_zone_is_reported_with_type_zone_and_market(env: GcpEnvironment) -> None:
    mig = env.mig(location="us-central1", size=3)
    pool = await env.pool(spec(env))
    await pool.resize(6, await read_status(pool))
    exhaust(mig, quota=False, zones=(ZONES[1],))
    status = await read_status(pool, lambda s: s.shortfall is not None)
    assert (status.failed, status.pending) == (1, 2)
    assert status.shortfall is not None
    assert not status.shortfall.quota
    assert status.shortfall.reason.endswith("(nvidia-l4, us-central1-b, spot)")
    assert "does not have enough resources" in status.shortfall.reason
    mig.boot()
    assert (await read_status(pool)).parts[1] == PoolPart(ZONES[1], "spot", ready=1)


@pytest.mark.parametrize(
    ("refused", "remedy"),
    [
        (refusal(403, "quotaExceeded", "Quota 'PREEMPTIBLE_L4_GPUS' exceeded. Limit: 4.0"), OutOfQuota),
        (refusal(503, "ZONE_RESOURCE_POOL_EXHAUSTED", "words"), OutOfCapacity),
    ],
    ids=["quota", "capacity"],
)
async def test_a_refused_write_is_reported_with_type_zone_and_market(
    env: GcpEnvironment, refused: web.Response, remedy: type[PortError]
) -> None:
    env.mig(size=1)
    pool = await env.pool(spec(env, location=ZONES[0]))
    before = await read_status(pool)
    env.cloud.writes = refused
    with pytest.raises(remedy, match=r"\(nvidia-l4, us-central1-a, spot\)$"):
        await pool.resize(2, before)


async def test_machine_that_cannot_be_created_is_failed(env: GcpEnvironment) -> None:
    mig = env.mig(size=1)
    pool = await env.pool(spec(env, location=ZONES[0]))
    mig.exhausted_zones[ZONES[0]] = NO_IMAGE
    await pool.resize(2, await read_status(pool))
    status = await read_status(pool)
    assert (status.ready, status.failed, status.pending) == (1, 1, 0)
    assert status.shortfall is not None
    assert "images/vllm' was not found" in status.shortfall.reason


async def test_stopped_spot_machine_is_interrupted_but_a_removed_one_is_not(
    env: GcpEnvironment,
) -> None:
    mig = env.mig(location="us-central1", size=3)
    pool = await env.pool(spec(env))
    await pool.resize(2, await read_status(pool))
    status = await read_status(pool)
    assert (status.ready, status.interrupted) == (2, 0)
    mig.running()[0].status = "STOPPING"
    status = await read_status(pool)
    assert (status.ready, status.interrupted) == (1, 1)
    mig.vms[0].status, mig.vms[0].action = "TERMINATED", "RECREATING"
    assert (await read_status(pool)).interrupted == 1
    mig.vms[0].status, mig.vms[0].action = "RUNNING", "NONE"
    assert (await read_status(pool)).ready == 2
    mig.vms[0].status = "TERMINATED"
    assert (await read_status(pool)).interrupted == 2


async def test_unhealthy_machine_is_pending_and_not_interrupted(env: GcpEnvironment) -> None:
    mig = env.mig(size=2)
    pool = await env.pool(spec(env, location=ZONES[0]))
    await read_status(pool)
    mig.vms[0].health, mig.vms[1].health = "UNHEALTHY", "HEALTHY"
    status = await read_status(pool)
    assert (status.ready, status.pending, status.interrupted) == (1, 1, 0)


async def test_distribution_shape_is_written_once_before_a_scale_out(env: GcpEnvironment) -> None:
    mig = env.mig(location="us-central1", size=2)
    pool = await env.pool(spec(env, shape="any", machine_types=("a3-highgpu-8g", "a2-ultragpu-8g")))
    await pool.resize(1, await read_status(pool))
    assert (mig.shape, mig.selections, mig.writes) == ("EVEN", {}, 1)
    await pool.resize(3, await read_status(pool))
    assert (mig.shape, mig.target, mig.writes) == ("ANY", 3, 3)
    assert [s["machineTypes"] for s in mig.selections.values()] == [["a3-highgpu-8g"], ["a2-ultragpu-8g"]]
    await pool.resize(4, await read_status(pool))
    assert mig.writes == 4


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"shape": "any"}, "shape"),
        ({"machine_types": ("g2-standard-4",)}, "machine_types"),
    ],
)
def test_regional_settings_of_a_zonal_group_are_refused(settings: dict[str, Any], key: str) -> None:
    project = GcpProject(id="my-project")
    pool = GceMig(project=project, name="vllm", location=ZONES[0], **settings)
    assert key in [k for k, _ in pool.problems()]


async def test_size_of_another_writer_is_a_conflict_and_reported(env: GcpEnvironment) -> None:
    mig = env.mig(size=2)
    pool = await env.pool(spec(env, location=ZONES[0], other_writer_yield_s=60))
    before = await read_status(pool)
    mig.resize(4)
    with pytest.raises(Conflict, match="changed from 2 to 4: another writer set it"):
        await pool.resize(6, before)
    assert mig.target == 4
    assert "another writer set GCP instance group vllm to 4" in ((await read_status(pool)).other_writer or "")
    env.clock.ahead_s += 61
    assert (await read_status(pool)).other_writer is None


async def test_an_autoscaler_of_the_group_is_another_writer(env: GcpEnvironment) -> None:
    env.mig(size=2).autoscaler = "vllm-cpu"
    assert (await read_status(await env.pool(spec(env, location=ZONES[0])))).other_writer == "autoscaler vllm-cpu"


async def test_every_write_has_its_own_request_id(env: GcpEnvironment) -> None:
    env.mig(size=2)
    pool = await env.pool(spec(env, location=ZONES[0]))
    for size in (3, 4):
        await pool.resize(size, await read_status(pool))
    assert len({uuid.UUID(request_id) for request_id in env.cloud.compute.requests}) == 2


async def test_write_of_the_current_size_is_not_sent(env: GcpEnvironment) -> None:
    mig = env.mig(size=2)
    pool = await env.pool(spec(env, location=ZONES[0]))
    before = await read_status(pool)
    mig.resize(5)
    await pool.resize(5, before)
    assert mig.writes == 0


async def test_reads_pause_after_a_throttle_and_writes_do_not(env: GcpEnvironment) -> None:
    mig = env.mig(size=2)
    pool = await env.pool(spec(env, location=ZONES[0]))
    before = await read_status(pool)
    env.cloud.reads = refusal(*THROTTLED, retry_after_s=60)
    with pytest.raises(Throttled):
        await pool.status()
    env.cloud.reads = None
    with pytest.raises(Throttled, match="pause after a throttled call"):
        await pool.status()
    await pool.resize(3, before)
    assert mig.target == 3


async def test_missing_group_is_misconfigured(env: GcpEnvironment) -> None:
    pool = await env.pool(spec(env))
    with pytest.raises(Misconfigured, match="instanceGroupManagers/vllm' was not found"):
        await pool.status()


async def test_pools_on_one_group_share_its_reads(env: GcpEnvironment) -> None:
    env.mig(size=2)
    pools = [await env.pool(spec(env, location=ZONES[0])) for _ in range(3)]
    await read_status(pools[0])
    env.cloud.requests.clear()
    await asyncio.gather(*(pool.status() for pool in pools))
    assert env.cloud.requests == ["compute.instanceGroupManagers.get"] * 2


class TestReservation:
    RESERVED = GcpReservation(name="l4", zone=ZONES[0])

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("more", "held"),
        [
            ({}, 8),
            ({"status": "CREATING"}, 0),
            ({"deleteAtTime": stamp(1.0)}, 0),
            ({"deleteAtTime": stamp(4e9)}, 8),
            ({"specificReservation": {"count": "6"}}, 6),
        ],
        ids=["ready", "creating", "ended", "ends later", "count alone"],
    )
    async def test_reservation_reports_the_paid_machines(
        self, env: GcpEnvironment, more: dict[str, Any], held: int
    ) -> None:
        env.mig()
        env.cloud.compute.reserve(PROJECT, ZONES[0], "l4", 8, **more)
        pool = await env.pool(spec(env, location=ZONES[0], market="reserved", reservation=self.RESERVED))
        assert (await read_status(pool)).reserved == held

    async def test_missing_reservation_does_not_fail_the_pool(self, env: GcpEnvironment) -> None:
        env.mig()
        pool = await env.pool(spec(env, location=ZONES[0], market="reserved", reservation=self.RESERVED))
        status = await read_status(pool)
        assert (status.ready, status.reserved) == (2, None)


class TestStandby:
    def spec(self, env: GcpEnvironment, **more: Any) -> GceMigStandby:
        settings = {"name": "vllm", "location": ZONES[0], "tier": "warm_node", "serves": "gpus", **more}
        return GceMigStandby(project=env.cloud.project(), **settings)

    async def test_suspended_machines_are_a_separate_standby_pool(self, env: GcpEnvironment) -> None:
        mig = env.mig(size=2)
        serving, waiting = (
            await env.pool(spec(env, location=ZONES[0])),
            await env.pool(self.spec(env, state="suspended", tier="slept")),
        )
        await waiting.resize(3, await read_status(waiting))
        assert (await read_status(waiting)).pending == 3
        mig.boot()
        status = await read_status(waiting)
        assert (status.desired, status.ready) == (3, 3)
        assert status.parts == (PoolPart(ZONES[0], "on_demand", ready=3),)
        status = await read_status(serving)
        assert (status.desired, status.ready, status.interrupted) == (2, 2, 0)

    async def test_failed_standby_machine_is_not_counted_in_the_serving_pool(self, env: GcpEnvironment) -> None:
        mig = env.mig(size=2)
        serving, waiting = await env.pool(spec(env, location=ZONES[0])), await env.pool(self.spec(env))
        await waiting.resize(2, await read_status(waiting))
        status = await read_status(serving)
        assert (status.pending, status.parts) == (0, (PoolPart(ZONES[0], "spot", ready=2),))
        assert (await read_status(waiting)).parts == (PoolPart(ZONES[0], "on_demand", ready=0, pending=2),)
        exhaust(mig, quota=False)
        status = await read_status(waiting)
        assert (status.ready, status.failed, status.pending) == (0, 2, 0)
        status = await read_status(serving)
        assert (status.failed, status.shortfall) == (0, None)

    async def test_refill_mode_is_written_with_the_standby_size(self, env: GcpEnvironment) -> None:
        mig = env.mig()
        pool = await env.pool(self.spec(env, refill=True))
        await pool.resize(1, await read_status(pool))
        assert (mig.stopped, mig.standby["mode"], mig.standby["initialDelaySec"]) == (1, "SCALE_OUT_POOL", 0)

    async def test_fingerprint_mismatch_is_a_conflict(self, env: GcpEnvironment) -> None:
        env.mig()
        pool = await env.pool(self.spec(env))
        before = await read_status(pool)
        env.cloud.writes = refusal(412, "conditionNotMet", "Supplied fingerprint does not match.")
        with pytest.raises(Conflict, match="fingerprint"):
            await pool.resize(1, before)

    async def test_write_with_a_stale_fingerprint_is_a_conflict(self, env: GcpEnvironment) -> None:
        """The fake server refuses a stale fingerprint."""
        mig = env.mig()
        groups = await instance_groups.groups(env.context, env.cloud.project())
        with pytest.raises(Conflict):
            await groups.patch(mig.path, {"targetStoppedSize": 3, "fingerprint": "fp-0="})
        assert mig.stopped == 0


async def test_listing_with_too_many_pages_is_unavailable(env: GcpEnvironment) -> None:
    mig, env.cloud.compute.page = env.mig(size=25), 1
    with pytest.raises(Unavailable, match="managedInstances"):
        await (await env.pool(spec(env, location=ZONES[0]))).status()
    assert mig.target == 25
