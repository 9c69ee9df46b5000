"""Models deployed to Vertex AI endpoints: operations, late failures, quotas, and Vertex AI's own autoscaler."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from policies.model import PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.clouds.gcp.operations import GIVE_UP_S
from scaler.clouds.gcp.session import APIS
from scaler.config.kinds.gcp_managed_pools import VertexEndpoint
from scaler.ports import Actuator, Conflict, Misconfigured, OutOfCapacity, OutOfQuota, Throttled, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.contracts.actuator import attempt
from tests.factories import DEADLINE_S
from tests.scaler.clouds.gcp_place import ENDPOINT, GcpEnvironment, gcp_environment, read_status
from tests.servers.gcp import PROJECT
from tests.servers.gcp_vertex import PER_MINUTE, STOCKOUT, Deployed
from tests.servers.spoiling import hasty
from tests.servers.tcp_fault import ProxyFault

MINUTES_S = 300.0


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[GcpEnvironment]:
    async with gcp_environment(tmp_path, at_once=True) as environment:
        environment.cloud.vertex.operation_s = environment.cloud.vertex.boot_s = MINUTES_S
        yield environment


def spec(env: GcpEnvironment, model: str = "7", endpoint: str = "123", **more: Any) -> VertexEndpoint:
    place: dict[str, Any] = {"location": "us-central1", "endpoint": endpoint, "deployed_model": model}
    return VertexEndpoint(project=env.cloud.project(), **place, **more)


async def daemon(env: GcpEnvironment, stack: AsyncExitStack) -> GcpEnvironment:
    """Return the same project for another daemon, which `stack` closes."""
    resources = await stack.enter_async_context(Resources())
    hasty(resources)
    return GcpEnvironment(env.cloud, AdapterContext(resources, env.clock, DEADLINE_S), env.clock)


async def opened(env: GcpEnvironment, replicas: int = 2, **more: Any) -> tuple[Deployed, Actuator]:
    """Return a deployed model of a fixed size, and its pool."""
    return env.cloud.vertex.add(ENDPOINT, "7", replicas), await env.pool(spec(env, **more))


async def test_resize_sets_both_bounds_and_is_pending_until_replicas_are_available(env: GcpEnvironment) -> None:
    model, pool = await opened(env)
    await pool.resize(5, await read_status(pool))
    status = await read_status(pool)
    assert (status.desired, status.ready, status.pending, model.minimum) == (5, 2, 3, 2), "the operation is in progress"
    env.clock.ahead_s += MINUTES_S
    status = await read_status(pool)
    assert (status.desired, status.ready, model.minimum, model.maximum, model.required) == (5, 2, 5, 5, 1)
    env.clock.ahead_s += MINUTES_S
    status = await read_status(pool)
    assert (status.desired, status.ready, status.pending, status.other_writer) == (5, 5, 0, None)


async def test_operation_in_progress_blocks_all_models_of_its_endpoint_without_a_call(env: GcpEnvironment) -> None:
    _, pool = await opened(env)
    env.cloud.vertex.add(ENDPOINT, "8", 2)
    other: Actuator = await open_pool(spec(env, "8"), env.context, WorkloadName("chat"), PoolName("gpus"))
    before = await read_status(other)
    await pool.resize(5, await read_status(pool))
    with pytest.raises(Conflict, match=r"resize of deployed model 7 to 5 replicas is still in progress"):
        await other.resize(4, before)
    with pytest.raises(Conflict, match=r"Vertex AI endpoint 123: waits for its turn, behind chat/gpus"):
        await pool.resize(4, await read_status(pool))
    assert env.cloud.requests.count("aiplatform.endpoints.deploy") == 1
    env.clock.ahead_s += MINUTES_S
    await other.status()
    await other.resize(4, before)
    assert env.cloud.vertex.writes == 2


async def test_operation_of_another_client_is_a_conflict(env: GcpEnvironment) -> None:
    model, pool = await opened(env)
    observed = await read_status(pool)
    env.cloud.vertex.begin(ENDPOINT)
    with pytest.raises(Conflict, match="operation 1, which this process did not begin, is still in progress"):
        await pool.resize(5, observed)
    assert env.cloud.requests.count("aiplatform.endpoints.deploy") == 0
    env.cloud.vertex.finish()
    await pool.resize(5, await read_status(pool))
    env.cloud.vertex.finish()
    assert model.minimum == 5


async def test_operation_that_another_client_begins_just_before_the_write_is_a_conflict(env: GcpEnvironment) -> None:
    _, pool = await opened(env)
    observed = await read_status(pool)

    def begin_after_the_list(name: str, body: Any) -> Any:
        if name.endswith("/operations"):
            env.cloud.vertex.begin(ENDPOINT)
        return body

    env.cloud.mangle = begin_after_the_list
    with pytest.raises(Conflict, match="other operations running on the Endpoint"):
        await pool.resize(5, observed)
    assert env.cloud.vertex.writes == 0


async def test_operation_that_fails_late_for_stock_is_a_shortfall_until_its_retry_time(env: GcpEnvironment) -> None:
    model, pool = await opened(env, accelerator="h100")
    await pool.resize(5, await read_status(pool))
    model.stock = 0
    env.clock.ahead_s += MINUTES_S
    status = await read_status(pool)
    assert (status.desired, status.ready, status.failed, status.pending) == (5, 2, 3, 0)
    assert status.shortfall is not None
    assert status.shortfall.reason == f"{STOCKOUT} (h100, us-central1, on_demand)"
    assert not status.shortfall.quota
    assert (await read_status(pool)).shortfall == status.shortfall
    await pool.resize(2, status)
    status = await read_status(pool)
    assert (status.desired, status.failed, status.shortfall) == (2, 0, None), "the missing replicas are abandoned"


async def test_operation_that_succeeds_in_part_has_a_shortfall_from_the_models_message(env: GcpEnvironment) -> None:
    model, pool = await opened(env)
    await pool.resize(5, await read_status(pool))
    model.stock = 3
    env.clock.ahead_s += 2 * MINUTES_S
    await read_status(pool)
    env.clock.ahead_s += MINUTES_S
    status = await read_status(pool)
    assert (status.desired, status.ready, status.failed, status.pending) == (5, 3, 2, 0)
    assert status.shortfall is not None
    assert STOCKOUT in status.shortfall.reason
    model.updated_at += 60
    assert (await read_status(pool)).shortfall == status.shortfall, "a repeated message is one shortfall"


async def test_message_of_another_kind_is_no_shortfall(env: GcpEnvironment) -> None:
    model, pool = await opened(env)
    model.minimum = model.maximum = 3
    model.message = "Model server is loading the model."
    status = await read_status(pool)
    assert (status.pending, status.failed, status.shortfall) == (1, 0, None)


@pytest.mark.parametrize(
    ("error", "remedy", "raised"),
    [
        ({"code": 13, "message": "INTERNAL"}, Unavailable, 1),
        ({"code": 3, "message": "the container image was deleted"}, Misconfigured, 2),
    ],
    ids=["internal", "invalid"],
)
async def test_other_late_failure_is_the_next_resizes_error(
    env: GcpEnvironment, error: dict[str, Any], remedy: type[Exception], raised: int
) -> None:
    _, pool = await opened(env)
    env.cloud.vertex.fails = error
    await pool.resize(5, await read_status(pool))
    env.clock.ahead_s += MINUTES_S
    outcomes = [await attempt(pool, 5, await read_status(pool)) for _ in range(2)]
    assert [type(e) for e in outcomes] == [remedy, remedy if raised == 2 else type(None)]
    assert error["message"] in str(outcomes[0])
    assert env.cloud.vertex.writes == (1 if raised == 2 else 2)


async def test_refused_machine_type_is_out_of_capacity_and_quota_is_out_of_quota(env: GcpEnvironment) -> None:
    _, pool = await opened(env)
    observed = await read_status(pool)
    env.cloud.vertex.exhausted = True
    with pytest.raises(OutOfCapacity, match=r"temporarily unavailable.*\(NVIDIA_H100_80GB, us-central1, on_demand\)"):
        await pool.resize(5, observed)
    env.cloud.vertex.quota = 4
    with pytest.raises(OutOfQuota, match="CustomModelServingH100GPUsPerProjectPerRegion"):
        await pool.resize(5, observed)
    env.cloud.vertex.submissions.extend([env.clock.now()] * PER_MINUTE)
    with pytest.raises(Throttled, match="Long running operation submissions"):
        await pool.resize(3, observed)


async def test_submissions_of_all_workloads_in_a_region_share_one_budget(env: GcpEnvironment) -> None:
    for endpoint, workload in (("123", "llm"), ("124", "chat")):
        env.cloud.vertex.add(ENDPOINT.replace("123", endpoint), "7", 2)
        one = spec(env, endpoint=endpoint)
        pool: Actuator = await open_pool(one, env.context, WorkloadName(workload), PoolName("gpus"))
        await pool.resize(3, await read_status(pool))
    api, now = APIS["aiplatform_operations"], env.clock.now()
    left = env.context.calls.bucket(api, (PROJECT, "us-central1"), now)
    tokens = 0
    while not left.wait_s(now, write=True):
        tokens += 1
    assert tokens == api.burst - 2
    assert api.burst + 60 * api.per_s <= PER_MINUTE


async def test_lost_response_is_read_back_from_the_endpoints_operations(env: GcpEnvironment) -> None:
    model, pool = await opened(env)
    observed = await read_status(pool)
    env.cloud.lose = True
    assert isinstance(await attempt(pool, 5, observed), Unavailable)
    env.cloud.lose = False
    env.cloud.vertex.page = 1
    assert isinstance(await attempt(pool, 5, observed), Conflict), "the operation of the lost write is in progress"
    status = await read_status(pool)
    assert (status.desired, status.pending, model.minimum) == (5, 3, 2)
    env.clock.ahead_s += MINUTES_S
    assert (await read_status(pool)).desired == 5
    assert env.cloud.vertex.writes == 1


async def test_lost_response_of_an_operation_that_failed_is_a_shortfall(env: GcpEnvironment) -> None:
    model, pool = await opened(env)
    observed = await read_status(pool)
    env.cloud.lose, model.stock = True, 0
    await attempt(pool, 5, observed)
    env.cloud.lose = False
    env.clock.ahead_s += MINUTES_S
    status = await read_status(pool)
    assert (status.desired, status.failed) == (5, 3)


async def test_earlier_operation_is_not_taken_for_that_of_a_write_that_never_arrived(env: GcpEnvironment) -> None:
    model, pool = await opened(env)
    env.cloud.vertex.operation_s, model.stock = 0.0, 0
    await pool.resize(5, await read_status(pool))
    assert (await read_status(pool)).failed == 3
    await pool.resize(2, await read_status(pool))
    observed = await read_status(pool)
    env.cloud.rest.fault = ProxyFault.RESET
    env.cloud.rest.tear_down()
    assert isinstance(await attempt(pool, 4, observed), Unavailable)
    env.cloud.rest.fault = ProxyFault.NONE
    status = await read_status(pool)
    assert (status.desired, status.failed) == (2, 0)


async def test_size_set_by_another_writer_is_a_conflict_and_is_reported(env: GcpEnvironment) -> None:
    model, pool = await opened(env)
    observed = await read_status(pool)
    model.minimum = model.maximum = 4
    with pytest.raises(Conflict, match="changed from 2 to 2 to 4 to 4 replicas: another writer set it"):
        await pool.resize(5, observed)
    assert "another writer set Vertex AI deployed model 7 of endpoint 123 to 4" in str(
        (await read_status(pool)).other_writer
    )


async def test_missing_status_is_unknown_and_not_zero(env: GcpEnvironment) -> None:
    model, pool = await opened(env)
    model.has_status = False
    with pytest.raises(Unavailable, match="the ready replicas are unknown"):
        await pool.status()
    model.has_status, model.available = True, 0
    assert (await read_status(pool)).ready == 0


class TestRestart:
    """A daemon that starts while an operation runs: its own from before, or another client's."""

    @pytest.fixture(autouse=True)
    async def _stack(self) -> AsyncIterator[None]:
        async with AsyncExitStack() as self.stack:
            yield

    async def begun(self, env: GcpEnvironment, *, models: int = 1) -> tuple[Deployed, GcpEnvironment]:
        """Return a model whose resize from 2 to 5 replicas a closed daemon began, and a new daemon's environment."""
        model = env.cloud.vertex.add(ENDPOINT, "7", 2)
        for name in range(8, 7 + models):
            env.cloud.vertex.add(ENDPOINT, str(name), 2)
        async with AsyncExitStack() as earlier:
            pool = await (await daemon(env, earlier)).pool(spec(env))
            await pool.resize(5, await read_status(pool))
        return model, await daemon(env, self.stack)

    async def test_operation_is_the_lock_and_its_success_is_no_other_writer(self, env: GcpEnvironment) -> None:
        model, restarted = await self.begun(env)
        pool = await restarted.pool(spec(env))
        status = await read_status(pool)
        assert (status.desired, status.ready, status.other_writer) == (2, 2, None)
        with pytest.raises(Conflict, match="operation 1, which this process did not begin, is still in progress"):
            await pool.resize(5, status)
        env.clock.ahead_s += MINUTES_S
        status = await read_status(pool)
        assert (status.desired, status.pending, model.minimum, status.other_writer) == (5, 3, 5, None)
        await pool.resize(6, status)
        assert env.cloud.vertex.writes == 2
        env.clock.ahead_s += MINUTES_S
        await read_status(pool)
        model.minimum = model.maximum = 9
        assert "another writer" in str((await read_status(pool)).other_writer)

    @pytest.mark.parametrize("is_running", [True, False], ids=["in progress", "ended"])
    async def test_late_failure_is_the_next_scale_outs_error_and_is_not_written_again(
        self, env: GcpEnvironment, is_running: bool
    ) -> None:
        model, restarted = await self.begun(env)
        model.stock = 0
        pool = await restarted.pool(spec(env, accelerator="h100"))
        if is_running:
            await read_status(pool)
        env.clock.ahead_s += MINUTES_S
        status = await read_status(pool)
        assert (status.desired, status.ready, status.other_writer) == (2, 2, None)
        with pytest.raises(OutOfCapacity, match=rf"by another process: {STOCKOUT} \(h100, us-central1, on_demand\)"):
            await pool.resize(5, status)
        assert env.cloud.vertex.writes == 1
        assert await attempt(pool, 5, status) is None, "the failure is raised once"
        assert env.cloud.vertex.writes == 2

    async def test_late_failure_is_not_attributed_where_another_model_may_have_it(self, env: GcpEnvironment) -> None:
        model, restarted = await self.begun(env, models=2)
        model.stock = 0
        pool = await restarted.pool(spec(env, "8"))
        await read_status(pool)
        env.clock.ahead_s += MINUTES_S
        await pool.resize(3, await read_status(pool))
        assert env.cloud.vertex.writes == 2

    async def test_old_failure_and_stuck_operation_do_not_count(self, env: GcpEnvironment) -> None:
        model, restarted = await self.begun(env)
        model.stock = 0
        env.clock.ahead_s += MINUTES_S
        env.cloud.vertex.advance()
        env.cloud.vertex.begin(ENDPOINT)
        env.clock.ahead_s += GIVE_UP_S
        pool = await restarted.pool(spec(env))
        status = await read_status(pool)
        assert isinstance(await attempt(pool, 5, status), Conflict), "Vertex AI refuses, not the pool"
        assert env.cloud.requests.count("aiplatform.endpoints.deploy") == 2

    async def test_missing_time_of_an_operation_does_not_free_the_endpoint(self, env: GcpEnvironment) -> None:
        _, restarted = await self.begun(env)

        def without_times(name: str, body: Any) -> Any:
            for operation in body.get("operations", ()):
                del operation["metadata"]
            return body

        env.cloud.mangle = without_times
        pool = await restarted.pool(spec(env))
        assert isinstance(await attempt(pool, 5, await read_status(pool)), Conflict)
        assert env.cloud.requests.count("aiplatform.endpoints.deploy") == 1


class TestAutoscaler:
    async def model(self, env: GcpEnvironment, native: Any, **more: Any) -> tuple[Deployed, Any]:
        """Return a model with 3 replicas of 1 to 4, and its pool."""
        model = env.cloud.vertex.add(ENDPOINT, "7", 1, maximum=4)
        model.available = 3
        return model, await env.pool(spec(env, native=native, **more))

    async def test_refuse_leaves_the_size_to_it(self, env: GcpEnvironment) -> None:
        model, pool = await self.model(env, "refuse")
        status = await read_status(pool)
        remedy = "set native: take_over or native: floor, or set its maxReplicaCount to its minReplicaCount"
        assert (status.desired, status.ready) == (3, 3)
        assert status.other_writer == f"Vertex AI's autoscaler sizes it (1 to 4 replicas); {remedy}"
        with pytest.raises(Misconfigured, match="native: take_over or native: floor"):
            await pool.resize(4, status)
        (refusal,) = await pool.scale_out_refusals()
        assert remedy in refusal
        assert (model.minimum, model.maximum, env.cloud.vertex.writes) == (1, 4, 0)

    async def test_take_over_fixes_the_size_even_where_it_does_not_change(self, env: GcpEnvironment) -> None:
        model, pool = await self.model(env, "take_over")
        model.available = 2
        await read_status(pool)
        model.available = 3
        status = await read_status(pool)
        assert (status.desired, status.other_writer, pool.unfinished()) == (3, None, True)
        await pool.resize(3, status)
        env.clock.ahead_s += MINUTES_S
        status = await read_status(pool)
        assert (status.desired, status.other_writer, pool.unfinished()) == (3, None, False)
        assert (model.minimum, model.maximum) == (3, 3)
        assert await pool.scale_out_refusals() == []

    async def test_floor_writes_only_the_minimum(self, env: GcpEnvironment) -> None:
        model, pool = await self.model(env, "floor", max_replicas=6)
        status = await read_status(pool)
        assert (status.desired, status.ready, status.pending, status.other_writer) == (1, 3, 0, None)
        await pool.resize(2, status)
        env.clock.ahead_s += MINUTES_S
        status = await read_status(pool)
        assert (model.minimum, model.maximum, status.desired) == (2, 4, 2)
        with pytest.raises(Misconfigured, match=r"maxReplicaCount, which is 4.*or set max_replicas: 4"):
            await pool.resize(5, status)
        assert "6 replicas are more" in (await pool.scale_out_refusals())[0]
        model.minimum = 3
        assert "another writer" in str((await read_status(pool)).other_writer)


class TestZero:
    async def test_zero_needs_the_preview_api_and_a_spec_of_the_model(self, env: GcpEnvironment) -> None:
        env.cloud.vertex.operation_s = 0.0
        model, pool = await opened(env, 1, scale_to_zero=True, min_replicas=0)
        with pytest.raises(Misconfigured, match="deploy it with a scaleToZeroSpec"):
            await pool.resize(0, await read_status(pool))
        model.scale_to_zero = True
        await pool.resize(0, await read_status(pool))
        status = await read_status(pool)
        assert (status.desired, model.minimum, model.maximum) == (0, 0, 1)
        await pool.resize(2, status)
        assert (await read_status(pool)).desired == 2
        fixed: Any = await env.pool(spec(env))
        with pytest.raises(Misconfigured, match="0 replicas are not possible"):
            await fixed.resize(0, await read_status(fixed))

    def test_minimum_of_zero_without_it_is_refused(self, env: GcpEnvironment) -> None:
        assert spec(env).min_replicas == 1
        assert list(spec(env).problems()) == []
        ((key, rule),) = spec(env, min_replicas=0).problems()
        assert (key, "at least 1" in rule) == ("min_replicas", True)
        assert list(spec(env, min_replicas=0, scale_to_zero=True).problems()) == []


@pytest.mark.parametrize(
    ("settings", "fields", "error"),
    [
        ({"deployed_model": "9"}, {}, "there is no deployed model 9; the endpoint has 7"),
        ({"endpoint": "99"}, {}, "The Endpoint does not exist"),
        ({"market": "spot"}, {}, "market must not be spot: its machines are not spot"),
        ({}, {"spot": True}, "market must not be on_demand: its machines are spot"),
    ],
    ids=["model", "endpoint", "not spot", "spot"],
)
async def test_contradiction_is_misconfigured(
    env: GcpEnvironment, settings: dict[str, Any], fields: dict[str, Any], error: str
) -> None:
    env.cloud.vertex.add(ENDPOINT, "7", 2, **fields)
    place = {"location": "us-central1", "endpoint": "123", "deployed_model": "7", **settings}
    with pytest.raises(Misconfigured, match=error):
        await (await env.pool(VertexEndpoint(project=env.cloud.project(), **place))).status()


async def test_model_on_shared_resources_is_misconfigured(env: GcpEnvironment) -> None:
    _, pool = await opened(env)

    def share(name: str, body: Any) -> Any:
        if name.endswith("/operations"):
            return body
        del body["deployedModels"][0]["dedicatedResources"]
        return body

    env.cloud.mangle = share
    with pytest.raises(Misconfigured, match="deploy it with dedicated resources"):
        await pool.status()
