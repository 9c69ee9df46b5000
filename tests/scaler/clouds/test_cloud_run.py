"""Cloud Run services and worker pools: counts, etags, late failures, and ready instances that are not known."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from policies.model import Fresh, PoolStatus, WorkloadName
from scaler.commands.check import result
from scaler.config.kinds.gcp_managed_pools import CloudRunService, CloudRunWorkerPool
from scaler.diagnostics import AdapterCheck
from scaler.ports import Actuator, Conflict, Misconfigured, OutOfCapacity, OutOfQuota, Unavailable
from tests.contracts.actuator import attempt
from tests.scaler.clouds.gcp_place import LOCATION, GcpEnvironment, gcp_environment, read_status
from tests.servers.gcp_container import status as refused
from tests.servers.gcp_run import QUOTA, Resource

SETTLE_S = 60.0
MINUTE_S = 60.0


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[GcpEnvironment]:
    async with gcp_environment(tmp_path, at_once=True) as environment:
        environment.cloud.run.settle_s = SETTLE_S
        yield environment


def service(env: GcpEnvironment, count: int = 2, **scaling: Any) -> Resource:
    """Add a service, by default with manual scaling."""
    settings = scaling or {"scalingMode": "MANUAL", "manualInstanceCount": count}
    return env.cloud.run.add(f"{LOCATION}/services/vllm", count, **settings)


async def opened(env: GcpEnvironment, **more: Any) -> Actuator:
    return await env.pool(CloudRunService(project=env.cloud.project(), location="us-central1", name="vllm", **more))


async def pass_minutes(env: GcpEnvironment, pool: Actuator, minutes: int) -> Fresh[PoolStatus]:
    """Read the status once a minute; return the last one."""
    status = await pool.status()
    for _ in range(minutes):
        env.clock.ahead_s += MINUTE_S
        status = await pool.status()
    return status


async def test_scale_out_is_pending_until_cloud_monitoring_counts_it(env: GcpEnvironment) -> None:
    run = service(env)
    pool = await opened(env)
    await pool.resize(5, await read_status(pool))
    assert run.scaling == {"scalingMode": "MANUAL", "manualInstanceCount": 5}
    status = (await pass_minutes(env, pool, 1)).value
    assert (status.desired, status.ready, status.pending, status.other_writer) == (5, 2, 3, None)
    run.running = 5
    assert [(await pass_minutes(env, pool, 1)).value.ready for _ in range(4)] == [2, 2, 5, 5]


async def test_resize_waits_for_the_reconciliation_but_scale_in_does_not(env: GcpEnvironment) -> None:
    run = service(env)
    pool = await opened(env)
    await pool.resize(5, await read_status(pool))
    with pytest.raises(Conflict, match="still applying the last change, to 5 instances"):
        await pool.resize(7, await read_status(pool))
    await pool.resize(3, await read_status(pool))
    assert run.target == 3
    env.clock.ahead_s += SETTLE_S
    await pool.resize(7, await read_status(pool))
    assert (run.target, env.cloud.run.writes) == (7, 3)


async def test_write_under_an_old_etag_is_a_conflict(env: GcpEnvironment) -> None:
    run = service(env)
    pool = await opened(env)
    observed = await read_status(pool)

    def outdated(name: str, body: Any) -> Any:
        return {**body, "etag": '"0"'} if name.startswith("GET /v2/") else body

    env.cloud.mangle = outdated
    with pytest.raises(Conflict, match=r"version '0' was specified but current version is '1'"):
        await pool.resize(5, observed)
    assert (run.target, env.cloud.run.writes) == (2, 0)


async def test_size_set_by_another_writer_is_a_conflict_and_names_it(env: GcpEnvironment) -> None:
    run = service(env)
    pool = await opened(env)
    observed = await read_status(pool)
    run.set("manualInstanceCount", 4, "crema@my-project.iam", env.clock.now())
    words = "crema@my-project.iam set Cloud Run service vllm to 4"
    with pytest.raises(Conflict, match=words):
        await pool.resize(5, observed)
    assert (await read_status(pool)).other_writer == words
    run.set("manualInstanceCount", 4, "ci@my-project.iam", env.clock.now())  # a deployment leaves the size alone
    await pool.resize(5, await read_status(pool))
    assert run.target == 5


@pytest.mark.parametrize("quota", [False, True], ids=["capacity", "quota"])
async def test_failed_condition_is_a_shortfall_and_does_not_block_scale_in(env: GcpEnvironment, quota: bool) -> None:
    run = service(env)
    run.stock, run.failure = 3, QUOTA if quota else run.failure
    pool = await opened(env, accelerator="l4")
    await pool.resize(5, await read_status(pool))
    assert (await read_status(pool)).shortfall is None
    run.running = 3
    status = (await pass_minutes(env, pool, 4)).value
    assert (status.desired, status.ready, status.failed, status.pending) == (5, 3, 2, 0)
    assert status.shortfall is not None
    assert (status.shortfall.reason, status.shortfall.quota) == (f"{run.failure} (l4, us-central1, on_demand)", quota)
    assert (await read_status(pool)).shortfall == status.shortfall
    await pool.resize(3, status)
    assert (await pass_minutes(env, pool, 2)).value.failed == 0


async def test_condition_that_cloud_run_retries_is_pending(env: GcpEnvironment) -> None:
    run = service(env)
    run.set("manualInstanceCount", 5, run.modifier, env.clock.now())
    pool = await opened(env)
    await pool.status()
    run.condition = {"type": "Ready", "state": "CONDITION_FAILED", "reason": "POSTPONED_RETRY", "message": "later"}
    status = await read_status(pool)
    assert (status.pending, status.failed, status.shortfall) == (3, 0, None)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (QUOTA, OutOfQuota),
        ("You do not have quota for using GPUs without zonal redundancy.", OutOfQuota),
        ("The region does not have enough resources available.", OutOfCapacity),
    ],
)
async def test_refused_write_has_the_remedy_of_its_text(
    env: GcpEnvironment, text: str, remedy: type[Exception]
) -> None:
    service(env)
    pool = await opened(env)
    env.cloud.run.refused = refused(400, "FAILED_PRECONDITION", text)
    with pytest.raises(remedy, match=r"\(nvidia-l4, us-central1, on_demand\)"):
        await pool.resize(5, await read_status(pool))


class TestReady:
    async def test_zero_by_request_is_known_and_a_start_from_zero_has_a_lower_bound(self, env: GcpEnvironment) -> None:
        run = service(env, 0)
        pool = await opened(env)
        status = await pool.status()
        assert (status.value.desired, status.value.ready, status.missing) == (0, 0, "")
        await pool.resize(3, status.value)
        run.running = 3
        status = await pass_minutes(env, pool, 1)
        assert (status.value.ready, status.value.pending) == (0, 3)
        assert "no sample of run.googleapis.com/container/instance_count" in status.missing
        status = await pass_minutes(env, pool, 3)
        assert (status.value.ready, status.missing) == (3, "")

    async def test_check_prints_a_lower_bound_as_such(self, env: GcpEnvironment) -> None:
        service(env, 0, scalingMode="AUTOMATIC", maxInstanceCount=4)
        status = await (await opened(env, sized_by="minimum")).status()
        check = AdapterCheck(WorkloadName("llm"), "pool", "gpus", "cloud_run_service", status=status)
        assert result(check).startswith("0 desired, at least 0 ready (Cloud Monitoring has no sample")

    async def test_unreported_number_is_unknown_and_not_zero(self, env: GcpEnvironment) -> None:
        service(env)
        env.cloud.monitoring.series.clear()
        with pytest.raises(Unavailable, match="the ready instances are unknown: Cloud Monitoring has no sample"):
            await (await opened(env)).status()

    async def test_start_that_no_sample_ever_shows_becomes_unknown(self, env: GcpEnvironment) -> None:
        service(env, 0)
        pool = await opened(env)
        await pool.resize(3, await read_status(pool))
        await pass_minutes(env, pool, 4)
        env.clock.ahead_s += MINUTE_S
        with pytest.raises(Unavailable, match="the ready instances are unknown"):
            await pool.status()

    async def test_instances_that_cannot_be_provisioned_from_zero_are_given_back(self, env: GcpEnvironment) -> None:
        run = service(env, 0)
        run.stock = 0
        pool = await opened(env)
        await pool.resize(3, await read_status(pool))
        status = await pass_minutes(env, pool, 7)
        assert (status.value.desired, status.value.ready, status.value.failed) == (3, 0, 3)
        assert "Cloud Run could not provision them" in status.missing
        await pool.resize(0, status.value)
        assert (run.target, (await pass_minutes(env, pool, 2)).missing) == (0, "")

    async def test_part_of_the_samples_is_unknown(self, env: GcpEnvironment) -> None:
        service(env)
        pool = await opened(env)
        env.cloud.monitoring.errors = [{"code": 14, "message": "a location is unavailable"}]
        with pytest.raises(Unavailable, match="partial response: a location is unavailable"):
            await pool.status()

    async def test_instances_of_an_earlier_revision_do_not_count(self, env: GcpEnvironment) -> None:
        service(env)
        labels = {"location": "us-central1", "service_name": "vllm", "revision_name": "vllm-00000"}
        monitoring = env.cloud.monitoring
        monitoring.record(
            "run.googleapis.com/container/instance_count", 9, env.clock.now() - 60, labels={"state": "idle"}, **labels
        )
        assert (await read_status(await opened(env))).ready == 2


class TestMinimum:
    async def test_only_the_minimum_is_written_and_more_instances_may_run(self, env: GcpEnvironment) -> None:
        run = service(env, 3, scalingMode="AUTOMATIC", minInstanceCount=1, maxInstanceCount=4)
        pool = await opened(env, sized_by="minimum")
        status = await read_status(pool)
        assert (status.desired, status.ready, status.pending) == (1, 3, 0)
        await pool.resize(2, status)
        assert run.scaling == {"scalingMode": "AUTOMATIC", "minInstanceCount": 2, "maxInstanceCount": 4}
        env.clock.ahead_s += SETTLE_S
        with pytest.raises(Misconfigured, match=r"its maximum is 4 instances, not 5; .*set max_replicas: 4"):
            await pool.resize(5, await read_status(pool))

    async def test_no_instance_at_a_minimum_of_zero_is_a_lower_bound(self, env: GcpEnvironment) -> None:
        service(env, 0, scalingMode="AUTOMATIC", maxInstanceCount=4)
        status = await (await opened(env, sized_by="minimum")).status()
        assert (status.value.desired, status.value.ready) == (0, 0)
        assert "no sample" in status.missing


@pytest.mark.parametrize(
    ("scaling", "sized_by", "error"),
    [
        ({"scalingMode": "AUTOMATIC", "minInstanceCount": 1}, "manual", r"automatic scaling; .*--scaling=COUNT"),
        ({"scalingMode": "MANUAL", "manualInstanceCount": 2}, "minimum", r"manual scaling; .*--scaling=auto"),
    ],
)
async def test_other_scaling_mode_of_a_service_is_misconfigured(
    env: GcpEnvironment, scaling: dict[str, Any], sized_by: str, error: str
) -> None:
    service(env, 2, **scaling)
    with pytest.raises(Misconfigured, match=error):
        await (await opened(env, sized_by=sized_by)).status()
    assert env.cloud.run.writes == 0


class TestWorkerPool:
    async def opened(self, env: GcpEnvironment) -> Actuator:
        project = env.cloud.project()
        return await env.pool(CloudRunWorkerPool(project=project, location="us-central1", name="batch"))

    @pytest.mark.parametrize(
        "scaling",
        [{}, {"scalingMode": "AUTOMATIC", "minInstanceCount": 1, "maxInstanceCount": 9, "manualInstanceCount": 3}],
        ids=["no count", "automatic"],
    )
    async def test_automatic_mode_is_misconfigured_with_the_command_that_ends_it(
        self, env: GcpEnvironment, scaling: dict[str, Any]
    ) -> None:
        env.cloud.run.add(f"{LOCATION}/workerPools/batch", 1, **scaling)
        pool = await self.opened(env)
        remedy = "gcloud run worker-pools update batch --region=us-central1 --instances=COUNT"
        with pytest.raises(Misconfigured, match=f"automatic scaling; its manual count is not set: run {remedy} once"):
            await pool.status()
        assert isinstance(await attempt(pool, 3, PoolStatus(1, 1)), Misconfigured)
        assert env.cloud.run.writes == 0

    async def test_manual_count_is_written(self, env: GcpEnvironment) -> None:
        run = env.cloud.run.add(f"{LOCATION}/workerPools/batch", 1, manualInstanceCount=1)
        pool = await self.opened(env)
        await pool.resize(3, await read_status(pool))
        assert run.scaling == {"manualInstanceCount": 3}

    async def test_missing_worker_pool_is_misconfigured(self, env: GcpEnvironment) -> None:
        with pytest.raises(Misconfigured, match="Resource 'batch' of kind 'WORKER_POOL'"):
            await (await self.opened(env)).status()


async def test_concurrent_writes_apply_once(env: GcpEnvironment) -> None:
    """Two writers that read the same etag: the second one is refused."""
    run = service(env)
    pools = [await opened(env) for _ in range(2)]
    observed = [await read_status(pool) for pool in pools]
    outcomes = await asyncio.gather(*(attempt(pool, 5 + i, observed[i]) for i, pool in enumerate(pools)))
    assert sorted(type(e).__name__ for e in outcomes) == ["Conflict", "NoneType"]
    assert (env.cloud.run.writes, run.target) in {(1, 5), (1, 6)}
