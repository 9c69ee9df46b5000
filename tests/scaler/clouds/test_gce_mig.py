"""Managed instance groups: zones, losses, other writers, reservations, standby machines."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from policies.model import Part
from scaler.clouds.gcp import instance_groups
from scaler.clouds.gcp.project import GcpProject
from scaler.clouds.gcp.settings import GcpReservation
from scaler.config.kinds.gcp_pools import GceMig, GceMigStandby
from scaler.ports import Conflict, Misconfigured, OutOfCapacity, OutOfQuota, PortError, Throttled, Unavailable
from tests.contracts.gcp import THROTTLED, exhaust
from tests.scaler.clouds.gcp_place import ZONES, There, seen, there
from tests.servers.gcp import PROJECT
from tests.servers.gcp_compute import NO_IMAGE, refusal, stamp


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[There]:
    async with there(tmp_path) as found:
        yield found


def spec(here: There, **more: Any) -> GceMig:
    settings = {"name": "vllm", "location": "us-central1", "market": "spot", "accelerator": "nvidia-l4", **more}
    return GceMig(project=here.cloud.project(), **settings)


async def test_a_region_s_machines_are_told_by_zone_over_all_pages(here: There) -> None:
    mig, here.cloud.compute.page = here.mig(location="us-central1", size=5), 2
    pool = await here.pool(spec(here))
    await pool.resize(7, await seen(pool))
    status = await seen(pool)
    assert (status.desired, status.ready, status.pending) == (7, 5, 2)
    a, b, c = status.parts
    assert [p.zone for p in (a, b, c)] == list(ZONES)
    assert sum(p.ready for p in (a, b, c)) == 5
    assert sum(p.pending for p in (a, b, c)) == 2
    assert mig.writes == 1


async def test_a_zone_that_runs_out_is_told_with_type_zone_and_market(here: There) -> None:
    mig = here.mig(location="us-central1", size=3)
    pool = await here.pool(spec(here))
    await pool.resize(6, await seen(pool))
    exhaust(mig, quota=False, zones=(ZONES[1],))
    status = await seen(pool, lambda s: s.shortfall is not None)
    assert (status.failed, status.pending) == (1, 2)
    assert status.shortfall is not None
    assert not status.shortfall.quota
    assert status.shortfall.reason.endswith("(nvidia-l4, us-central1-b, spot)")
    assert "does not have enough resources" in status.shortfall.reason
    mig.boot()
    assert (await seen(pool)).parts[1] == Part(ZONES[1], "spot", ready=1)


@pytest.mark.parametrize(
    ("refused", "remedy"),
    [
        (refusal(403, "quotaExceeded", "Quota 'PREEMPTIBLE_L4_GPUS' exceeded. Limit: 4.0"), OutOfQuota),
        (refusal(503, "ZONE_RESOURCE_POOL_EXHAUSTED", "words"), OutOfCapacity),
    ],
    ids=["quota", "capacity"],
)
async def test_a_write_that_is_refused_is_told_with_type_zone_and_market(
    here: There, refused: web.Response, remedy: type[PortError]
) -> None:
    here.mig(size=1)
    pool = await here.pool(spec(here, location=ZONES[0]))
    before = await seen(pool)
    here.cloud.writes = refused
    with pytest.raises(remedy, match=r"\(nvidia-l4, us-central1-a, spot\)$"):
        await pool.resize(2, before)


async def test_a_machine_that_can_never_be_made_is_told_as_failed(here: There) -> None:
    mig = here.mig(size=1)
    pool = await here.pool(spec(here, location=ZONES[0]))
    mig.out[ZONES[0]] = NO_IMAGE
    await pool.resize(2, await seen(pool))
    status = await seen(pool)
    assert (status.ready, status.failed, status.pending) == (1, 1, 0)
    assert status.shortfall is not None
    assert "images/vllm' was not found" in status.shortfall.reason


async def test_a_spot_machine_that_stops_without_notice_counts_as_taken_and_one_scaled_in_does_not(here: There) -> None:
    mig = here.mig(location="us-central1", size=3)
    pool = await here.pool(spec(here))
    await pool.resize(2, await seen(pool))
    status = await seen(pool)
    assert (status.ready, status.interrupted) == (2, 0)
    mig.running()[0].status = "STOPPING"
    status = await seen(pool)
    assert (status.ready, status.interrupted) == (1, 1)
    mig.vms[0].status, mig.vms[0].action = "TERMINATED", "RECREATING"
    assert (await seen(pool)).interrupted == 1
    mig.vms[0].status, mig.vms[0].action = "RUNNING", "NONE"
    assert (await seen(pool)).ready == 2
    mig.vms[0].status = "TERMINATED"
    assert (await seen(pool)).interrupted == 2


async def test_a_machine_that_fails_its_health_check_is_not_ready_and_not_lost(here: There) -> None:
    mig = here.mig(size=2)
    pool = await here.pool(spec(here, location=ZONES[0]))
    await seen(pool)
    mig.vms[0].health, mig.vms[1].health = "UNHEALTHY", "HEALTHY"
    status = await seen(pool)
    assert (status.ready, status.pending, status.interrupted) == (1, 1, 0)


async def test_how_a_regional_group_buys_is_written_before_it_grows_and_only_once(here: There) -> None:
    mig = here.mig(location="us-central1", size=2)
    pool = await here.pool(spec(here, shape="any", machine_types=("a3-highgpu-8g", "a2-ultragpu-8g")))
    await pool.resize(1, await seen(pool))
    assert (mig.shape, mig.selections, mig.writes) == ("EVEN", {}, 1)
    await pool.resize(3, await seen(pool))
    assert (mig.shape, mig.target, mig.writes) == ("ANY", 3, 3)
    assert [s["machineTypes"] for s in mig.selections.values()] == [["a3-highgpu-8g"], ["a2-ultragpu-8g"]]
    await pool.resize(4, await seen(pool))
    assert mig.writes == 4


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"shape": "any"}, "shape"),
        ({"machine_types": ("g2-standard-4",)}, "machine_types"),
        ({"tier": "slept"}, "tier"),
    ],
)
def test_what_a_zonal_group_cannot_do_is_refused_before_it_runs(settings: dict[str, Any], key: str) -> None:
    project = GcpProject(id="my-project")
    found = GceMig(project=project, name="vllm", location=ZONES[0], **settings)
    assert key in [k for k, _ in found.problems()]


async def test_somebody_else_s_size_is_a_conflict_and_named_for_a_while(here: There) -> None:
    mig = here.mig(size=2)
    pool = await here.pool(spec(here, location=ZONES[0], other_writer_yield_s=60))
    before = await seen(pool)
    mig.resize(4)
    with pytest.raises(Conflict, match="was 2 and is 4, by another writer"):
        await pool.resize(6, before)
    assert mig.target == 4
    assert "another writer set GCP instance group vllm to 4" in ((await seen(pool)).other_writer or "")
    here.clock.ahead_s += 61
    assert (await seen(pool)).other_writer is None


async def test_an_autoscaler_of_the_group_is_another_writer(here: There) -> None:
    here.mig(size=2).autoscaler = "vllm-cpu"
    assert (await seen(await here.pool(spec(here, location=ZONES[0])))).other_writer == "autoscaler vllm-cpu"


async def test_every_write_bears_an_id_of_its_own(here: There) -> None:
    here.mig(size=2)
    pool = await here.pool(spec(here, location=ZONES[0]))
    for size in (3, 4):
        await pool.resize(size, await seen(pool))
    assert len({uuid.UUID(one) for one in here.cloud.compute.requests}) == 2


async def test_a_write_of_the_size_that_is_there_is_not_sent(here: There) -> None:
    mig = here.mig(size=2)
    pool = await here.pool(spec(here, location=ZONES[0]))
    before = await seen(pool)
    mig.resize(5)
    await pool.resize(5, before)
    assert mig.writes == 0


async def test_polling_gives_way_after_a_throttle_and_a_write_does_not(here: There) -> None:
    mig = here.mig(size=2)
    pool = await here.pool(spec(here, location=ZONES[0]))
    before = await seen(pool)
    here.cloud.reads = refusal(*THROTTLED, retry_after_s=60)
    with pytest.raises(Throttled):
        await pool.status()
    here.cloud.reads = None
    with pytest.raises(Throttled, match="our own budget"):
        await pool.status()
    await pool.resize(3, before)
    assert mig.target == 3


async def test_a_group_that_does_not_exist_needs_a_human(here: There) -> None:
    pool = await here.pool(spec(here))
    with pytest.raises(Misconfigured, match="instanceGroupManagers/vllm' was not found"):
        await pool.status()


async def test_pools_on_one_group_share_its_reads(here: There) -> None:
    here.mig(size=2)
    pools = [await here.pool(spec(here, location=ZONES[0])) for _ in range(3)]
    await seen(pools[0])
    here.cloud.asked.clear()
    await asyncio.gather(*(pool.status() for pool in pools))
    assert here.cloud.asked == ["compute.instanceGroupManagers.get"] * 2


class TestReservation:
    RESERVED = GcpReservation(name="l4", zone=ZONES[0])

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
    async def test_tells_what_is_paid(self, here: There, more: dict[str, Any], held: int) -> None:
        here.mig()
        here.cloud.compute.reserve(PROJECT, ZONES[0], "l4", 8, **more)
        pool = await here.pool(spec(here, location=ZONES[0], market="reserved", reservation=self.RESERVED))
        assert (await seen(pool)).reserved == held

    async def test_its_silence_costs_the_pool_nothing(self, here: There) -> None:
        here.mig()
        pool = await here.pool(spec(here, location=ZONES[0], market="reserved", reservation=self.RESERVED))
        status = await seen(pool)
        assert (status.ready, status.reserved) == (2, None)


class TestStandby:
    def spec(self, here: There, **more: Any) -> GceMigStandby:
        settings = {"name": "vllm", "location": ZONES[0], "tier": "warm_node", "serves": "gpus", **more}
        return GceMigStandby(project=here.cloud.project(), **settings)

    async def test_suspended_machines_are_a_pool_beside_those_that_serve(self, here: There) -> None:
        mig = here.mig(size=2)
        serving, waiting = (
            await here.pool(spec(here, location=ZONES[0])),
            await here.pool(self.spec(here, state="suspended", tier="slept")),
        )
        await waiting.resize(3, await seen(waiting))
        assert (await seen(waiting)).pending == 3
        mig.boot()
        status = await seen(waiting)
        assert (status.desired, status.ready) == (3, 3)
        assert status.parts == (Part(ZONES[0], "on_demand", ready=3),)
        status = await seen(serving)
        assert (status.desired, status.ready, status.interrupted) == (2, 2, 0)

    async def test_what_stands_by_and_fails_is_not_the_serving_pool_s(self, here: There) -> None:
        mig = here.mig(size=2)
        serving, waiting = await here.pool(spec(here, location=ZONES[0])), await here.pool(self.spec(here))
        await waiting.resize(2, await seen(waiting))
        status = await seen(serving)
        assert (status.pending, status.parts) == (0, (Part(ZONES[0], "spot", ready=2),))
        assert (await seen(waiting)).parts == (Part(ZONES[0], "on_demand", ready=0, pending=2),)
        exhaust(mig, quota=False)
        status = await seen(waiting)
        assert (status.ready, status.failed, status.pending) == (0, 2, 0)
        status = await seen(serving)
        assert (status.failed, status.shortfall) == (0, None)

    async def test_refill_is_written_with_the_size(self, here: There) -> None:
        mig = here.mig()
        pool = await here.pool(self.spec(here, refill=True))
        await pool.resize(1, await seen(pool))
        assert (mig.stopped, mig.standby["mode"], mig.standby["initialDelaySec"]) == (1, "SCALE_OUT_POOL", 0)

    async def test_a_fingerprint_that_has_changed_is_a_conflict(self, here: There) -> None:
        here.mig()
        pool = await here.pool(self.spec(here))
        before = await seen(pool)
        here.cloud.writes = refusal(412, "conditionNotMet", "Supplied fingerprint does not match.")
        with pytest.raises(Conflict, match="fingerprint"):
            await pool.resize(1, before)

    async def test_the_server_itself_insists_on_the_fingerprint(self, here: There) -> None:
        """The counterpart is no pushover: a stale fingerprint changes nothing."""
        mig = here.mig()
        groups = await instance_groups.groups(here.context, here.cloud.project())
        with pytest.raises(Conflict):
            await groups.patch(mig.path, {"targetStoppedSize": 3, "fingerprint": "fp-0="})
        assert mig.stopped == 0

    async def test_a_tier_that_serves_is_refused(self, here: There) -> None:
        with pytest.raises(Misconfigured, match="tier is serving"):
            await here.pool(self.spec(here, tier="serving", serves=None))


async def test_a_group_of_more_machines_than_any_is_no_answer(here: There) -> None:
    mig, here.cloud.compute.page = here.mig(size=25), 1
    with pytest.raises(Unavailable, match="managedInstances"):
        await (await here.pool(spec(here, location=ZONES[0]))).status()
    assert mig.target == 25
