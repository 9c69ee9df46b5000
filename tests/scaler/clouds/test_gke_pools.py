"""GKE's node pools and TPU slices: zones, operations, bounds, whole slices."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from scaler.clouds.gcp.settings import GcpReservation
from scaler.config.kinds.gcp_pools import GkeNodePool, GkeTpuSlices, slice_hosts
from scaler.ports import Conflict, Misconfigured, OutOfQuota, Unavailable
from tests.contracts.gcp import exhaust
from tests.scaler.clouds.gcp_place import CLUSTER, ZONES, GcpEnvironment, gcp_environment, read_status
from tests.servers.gcp import PROJECT
from tests.servers.gcp_container import Pool
from tests.servers.gcp_container import status as refused

STOCKOUT = {"code": 8, "message": "[GCE_STOCKOUT]: Instance creation failed: The zone does not have enough resources."}


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[GcpEnvironment]:
    async with gcp_environment(tmp_path) as environment:
        yield environment


class TestNodePool:
    def spec(self, env: GcpEnvironment, **more: Any) -> GkeNodePool:
        settings: dict[str, Any] = {"market": "spot", "accelerator": "nvidia-h100-80gb", "quantum": 3, **more}
        project = env.cloud.project()
        return GkeNodePool(project=project, cluster="serving", location="us-central1", name="h100", **settings)

    def add_pool(self, env: GcpEnvironment, zones: tuple[str, ...] = ZONES, each: int = 1, **more: Any) -> Pool:
        return env.cloud.container.add(CLUSTER, "h100", zones, nodes_per_zone=each, **{"spot": True, **more})

    async def test_node_pool_is_resized_equally_in_each_zone(self, env: GcpEnvironment) -> None:
        node_pool = self.add_pool(env)
        pool = await env.pool(self.spec(env))
        await pool.resize(6, await read_status(pool))
        assert [mig.target for mig in node_pool.migs] == [2, 2, 2]
        status = await read_status(pool)
        assert (status.desired, status.ready, status.pending) == (6, 3, 3)
        assert [(p.zone, p.ready, p.pending) for p in status.parts] == [(zone, 1, 1) for zone in ZONES]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("settings", "pool_fields", "error"),
        [
            ({"quantum": 1}, {}, "quantum must be a multiple of 3, not 1"),
            ({"market": "on_demand"}, {}, "market must not be on_demand: the node pool's machines are spot"),
            ({}, {"spot": False}, "market must not be spot: the node pool's machines are not spot"),
            ({"sized_by": "bounds"}, {}, "sized_by: bounds requires GKE's cluster autoscaler"),
            ({}, {"topology": "4x4"}, "a TPU slice of 4x4, which has one size"),
        ],
        ids=["quantum", "market", "not spot", "bounds", "slice"],
    )
    async def test_configuration_that_contradicts_the_node_pool_is_misconfigured(
        self, env: GcpEnvironment, settings: dict[str, Any], pool_fields: dict[str, Any], error: str
    ) -> None:
        self.add_pool(env, **pool_fields)
        with pytest.raises(Misconfigured, match=error):
            await (await env.pool(self.spec(env, **settings))).status()

    async def test_missing_node_pool_is_misconfigured(self, env: GcpEnvironment) -> None:
        env.cloud.container.pools[CLUSTER] = {}
        with pytest.raises(Misconfigured, match="no node pool h100"):
            await (await env.pool(self.spec(env))).status()

    async def test_an_upgrade_in_progress_is_a_conflict_and_the_next_tick_writes(self, env: GcpEnvironment) -> None:
        node_pool = self.add_pool(env)
        pool = await env.pool(self.spec(env))
        before = await read_status(pool)
        env.cloud.container.begin(CLUSTER)
        with pytest.raises(Conflict, match="incompatible operation"):
            await pool.resize(6, before)
        assert node_pool.size == 3
        env.cloud.container.finish()
        await pool.resize(6, await read_status(pool))
        assert node_pool.size == 6

    async def test_size_set_by_another_writer_is_a_conflict(self, env: GcpEnvironment) -> None:
        node_pool = self.add_pool(env)
        pool = await env.pool(self.spec(env))
        before = await read_status(pool)
        for mig in node_pool.migs:
            mig.resize(4)
        with pytest.raises(Conflict, match="changed from 3 to 12 nodes: another writer set it"):
            await pool.resize(6, before)
        assert node_pool.size == 12

    async def test_too_many_concurrent_operations_is_a_conflict(self, env: GcpEnvironment) -> None:
        self.add_pool(env)
        pool = await env.pool(self.spec(env))
        before = await read_status(pool)
        text = "Too many operations: cluster hits the concurrent operations quota 5."
        env.cloud.writes = refused(429, "RESOURCE_EXHAUSTED", text)
        with pytest.raises(Conflict, match="concurrent operations"):
            await pool.resize(6, before)

    async def test_running_operation_is_followed_and_blocks_another_write(self, env: GcpEnvironment) -> None:
        self.add_pool(env)
        pool = await env.pool(self.spec(env))
        env.cloud.container.slow = True
        await pool.resize(6, await read_status(pool))
        status = await read_status(pool)
        assert (status.desired, status.ready) == (6, 3)
        with pytest.raises(Conflict, match="the resize to 6 nodes is still in progress"):
            await pool.resize(9, status)
        env.cloud.container.finish()
        await pool.resize(9, await read_status(pool))
        assert (await read_status(pool)).desired == 9

    @pytest.mark.parametrize(
        ("error", "quota"),
        [
            (STOCKOUT, False),
            ({"code": 8, "message": "[GCE_QUOTA_EXCEEDED]: Quota 'NVIDIA_H100_GPUS' exceeded. Limit: 8.0."}, True),
        ],
        ids=["stockout", "quota"],
    )
    async def test_failed_operation_is_a_shortfall_until_its_retry_time(
        self, env: GcpEnvironment, error: dict[str, Any], quota: bool
    ) -> None:
        node_pool = self.add_pool(env)
        pool = await env.pool(self.spec(env))
        env.cloud.container.slow = True
        await pool.resize(6, await read_status(pool))
        for mig in node_pool.migs:
            mig.resize(1)  # the operation is rolled back
        env.cloud.container.fails = error
        env.cloud.container.finish()
        status = await read_status(pool)
        assert (status.desired, status.ready, status.failed, status.pending) == (6, 3, 3, 0)
        assert status.shortfall is not None
        assert status.shortfall.quota is quota
        assert status.shortfall.reason.endswith("(nvidia-h100-80gb, us-central1-a, us-central1-b, us-central1-c, spot)")
        assert (await read_status(pool)).shortfall == status.shortfall
        env.clock.ahead_s += 181
        status = await read_status(pool)
        assert (status.desired, status.failed, status.shortfall) == (3, 0, None)

    async def test_a_repeated_error_of_the_node_pool_is_one_shortfall(self, env: GcpEnvironment) -> None:
        node_pool = self.add_pool(env)
        pool = await env.pool(self.spec(env))
        await pool.resize(6, await read_status(pool))
        node_pool.status, node_pool.message = "RUNNING_WITH_ERROR", "Google Compute Engine: out of resources."
        node_pool.conditions = [{"code": "GCE_STOCKOUT", "canonicalCode": "RESOURCE_EXHAUSTED", "message": "stockout"}]
        exhaust(node_pool.migs[0], quota=False)
        status = [(await read_status(pool)).shortfall for _ in range(2)]
        assert status[0] is not None
        assert status[0] == status[1]

    async def test_nodes_of_an_upgrade_are_not_a_foreign_write(self, env: GcpEnvironment) -> None:
        node_pool = self.add_pool(env)
        pool = await env.pool(self.spec(env))
        await read_status(pool)
        node_pool.status = "RECONCILING"
        node_pool.migs[0].resize(2)
        assert (await read_status(pool)).other_writer is None
        node_pool.migs[0].resize(1)
        node_pool.status = "RUNNING"
        assert (await read_status(pool)).other_writer is None
        node_pool.migs[0].resize(3)
        assert "another writer set GKE node pool h100 to 5" in ((await read_status(pool)).other_writer or "")

    async def test_gke_autoscaler_is_another_writer(self, env: GcpEnvironment) -> None:
        self.add_pool(env, autoscaling={"enabled": True, "totalMinNodeCount": 0, "totalMaxNodeCount": 9})
        assert (await read_status(await env.pool(self.spec(env)))).other_writer == "GKE's cluster autoscaler"

    async def test_size_by_bounds_is_written_as_the_autoscaler_minimum(self, env: GcpEnvironment) -> None:
        node_pool = self.add_pool(env, autoscaling={"enabled": True, "minNodeCount": 1, "maxNodeCount": 3})
        pool = await env.pool(self.spec(env, sized_by="bounds", quantum=1))
        before = await read_status(pool)
        assert (before.desired, before.ready, before.other_writer) == (3, 3, None)
        await pool.resize(5, before)
        assert node_pool.autoscaling == {
            "enabled": True,
            "totalMinNodeCount": 5,
            "totalMaxNodeCount": 9,
            "locationPolicy": "ANY",
        }
        assert node_pool.size == 3
        status = await read_status(pool)
        assert (status.desired, status.ready, status.pending) == (5, 3, 2)


class TestSlices:
    def spec(self, env: GcpEnvironment, **more: Any) -> GkeTpuSlices:
        settings: dict[str, Any] = {"machine_type": "ct5lp-hightpu-4t", "topology": "4x4", **more}
        place: dict[str, Any] = {"cluster": "serving", "location": "us-central1", "slice_zone": ZONES[0]}
        return GkeTpuSlices(project=env.cloud.project(), name="v5e", **place, **settings)

    def add_pool(self, env: GcpEnvironment, count: int = 2) -> list[Pool]:
        add = env.cloud.container.add
        return [add(CLUSTER, f"v5e-{i}", (ZONES[0],), nodes_per_zone=4, topology="4x4") for i in range(count)]

    @pytest.mark.parametrize(
        ("machine_type", "topology", "count"),
        [
            ("ct5lp-hightpu-4t", "4x4", 4),
            ("ct5lp-hightpu-4t", "8x16", 32),
            ("ct5lp-hightpu-1t", "1x1", 1),
            ("ct5lp-hightpu-8t", "2x4", 1),
            ("ct4p-hightpu-4t", "2x2x4", 4),
            ("ct4p-hightpu-4t", "2x2x1", 1),
            ("ct5lp-hightpu-4t", "3x1", None),
            ("n2-standard-4", "4x4", None),
        ],
    )
    def test_slice_hosts_follow_from_machine_type_and_topology(
        self, machine_type: str, topology: str, count: int | None
    ) -> None:
        assert slice_hosts(machine_type, topology) == count

    @pytest.mark.parametrize(
        ("settings", "error"),
        [
            ({"topology": "3x1"}, "must fill whole hosts of type"),
            ({"topology": "2x2x4"}, "must have 2 sides for ct5lp-hightpu-4t, and 2x2x4 has 3"),
            (
                {"machine_type": "ct4p-hightpu-4t", "topology": "4x4"},
                "must have 3 sides for ct4p-hightpu-4t, and 4x4 has 2",
            ),
            ({"quantum": 4}, "already a whole slice"),
        ],
    )
    async def test_invalid_slice_shape_is_refused(
        self, env: GcpEnvironment, settings: dict[str, Any], error: str
    ) -> None:
        assert error in " ".join(text for _, text in self.spec(env, **settings).problems())

    async def test_slice_without_one_of_its_hosts_is_not_ready(self, env: GcpEnvironment) -> None:
        slices = self.add_pool(env)
        pool = await env.pool(self.spec(env))
        assert (await read_status(pool)).ready == 2
        slices[1].migs[0].vms[3].status = "STOPPING"
        status = await read_status(pool)
        assert (status.desired, status.ready, status.pending, status.interrupted) == (2, 1, 1, 1)
        assert (await read_status(pool)).interrupted == 1

    async def test_scale_out_creates_whole_slices(self, env: GcpEnvironment) -> None:
        self.add_pool(env, 1)
        reservation = GcpReservation(name="tpus", zone=ZONES[0])
        env.cloud.compute.reserve(PROJECT, ZONES[0], "tpus", 12)
        spec = self.spec(env, market="reserved", reservation=reservation, service_account="tpu@my-project.iam")
        pool = await env.pool(spec)
        before = await read_status(pool)
        assert before.reserved == 3
        await pool.resize(3, before)
        node_pools = env.cloud.container.pools[CLUSTER]
        assert list(node_pools) == ["v5e-0", "v5e-1", "v5e-2"]
        body = node_pools["v5e-2"].written
        assert (body["initialNodeCount"], body["locations"]) == (4, [ZONES[0]])
        assert body["placementPolicy"] == {"type": "COMPACT", "tpuTopology": "4x4"}
        assert body["config"]["machineType"] == "ct5lp-hightpu-4t"
        assert body["config"]["serviceAccount"] == "tpu@my-project.iam"
        assert body["config"]["reservationAffinity"]["values"] == ["tpus"]
        assert not body["config"]["spot"]

    async def test_refused_creation_is_retried_in_the_next_tick(self, env: GcpEnvironment) -> None:
        self.add_pool(env, 1)
        pool = await env.pool(self.spec(env))
        env.cloud.container.slow = True
        await pool.resize(3, await read_status(pool))
        status = await read_status(pool)
        assert (status.desired, status.ready, status.pending) == (2, 1, 1)
        with pytest.raises(Conflict):
            await pool.resize(3, status)
        env.cloud.container.finish()
        await pool.resize(3, await read_status(pool))
        assert (await read_status(pool)).desired == 3

    async def test_creation_with_a_lost_response_is_not_repeated(self, env: GcpEnvironment) -> None:
        self.add_pool(env, 1)
        pool = await env.pool(self.spec(env))
        before = await read_status(pool)
        env.cloud.lose = True
        with pytest.raises(Unavailable, match=r"clusters\.update of v5e-1"):
            await pool.resize(2, before)
        env.cloud.lose = False
        status = await read_status(pool, lambda s: s.desired == 2)
        await pool.resize(2, status)
        assert env.cloud.container.writes == 1

    async def test_failed_slices_are_removed_first_and_only_once(self, env: GcpEnvironment) -> None:
        slices = self.add_pool(env, 2)
        pool = await env.pool(self.spec(env))
        await pool.resize(4, await read_status(pool))
        node_pools = env.cloud.container.pools[CLUSTER]
        exhaust(node_pools["v5e-2"].migs[0], quota=False)
        status = await read_status(pool)
        assert (status.ready, status.failed, status.pending) == (2, 1, 1)
        assert status.shortfall is not None
        assert status.shortfall.reason.endswith("(ct5lp-hightpu-4t 4x4, us-central1-a, on_demand)")
        await pool.resize(3, status)
        assert "v5e-2" not in node_pools
        await pool.resize(2, await read_status(pool))
        assert list(node_pools) == ["v5e-0", "v5e-1"]
        assert [p.size for p in slices] == [4, 4]

    async def test_deleted_slice_that_is_still_listed_is_not_counted(self, env: GcpEnvironment) -> None:
        self.add_pool(env, 3)
        pool = await env.pool(self.spec(env))
        await pool.resize(2, await read_status(pool))
        node_pools = env.cloud.container.pools[CLUSTER]
        env.cloud.container.add(CLUSTER, "v5e-2", (ZONES[0],), nodes_per_zone=4, topology="4x4")  # still listed
        assert (await read_status(pool)).desired == 2
        node_pools["v5e-2"].status = "STOPPING"
        env.clock.ahead_s += 121
        assert (await read_status(pool)).desired == 2

    async def test_refused_slice_creation_is_out_of_quota(self, env: GcpEnvironment) -> None:
        self.add_pool(env, 1)
        pool = await env.pool(self.spec(env))
        before = await read_status(pool)
        text = 'Insufficient regional quota to satisfy request: resource "TPU_LITE_PODSLICE_V5".'
        env.cloud.writes = refused(403, "RESOURCE_EXHAUSTED", text)
        reason = r"TPU_LITE_PODSLICE_V5.*\(ct5lp-hightpu-4t 4x4, us-central1-a, on_demand\)$"
        with pytest.raises(OutOfQuota, match=reason):
            await pool.resize(2, before)

    async def test_node_pools_of_other_names_are_not_deleted(self, env: GcpEnvironment) -> None:
        self.add_pool(env, 1)
        env.cloud.container.add(CLUSTER, "v5e-big-0", (ZONES[0],), nodes_per_zone=1)
        env.cloud.container.add(CLUSTER, "v5e-01", (ZONES[0],), nodes_per_zone=1)
        pool = await env.pool(self.spec(env))
        await pool.resize(0, await read_status(pool))
        assert list(env.cloud.container.pools[CLUSTER]) == ["v5e-big-0", "v5e-01"]
