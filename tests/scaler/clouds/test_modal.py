"""Modal functions: deployments, sizes, classes, limits and errors."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from policies.model import PoolName, PoolStatus, WorkloadName
from scaler.adapters import open_pool
from scaler.clock import SystemClock
from scaler.config.checks import own_problems
from scaler.config.kinds.modal import ModalFunction, ModalTokens
from scaler.config.secret import Secret
from scaler.ports import Conflict, Misconfigured, OutOfQuota, Throttled, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.servers.modal_api import TOKEN, DeployedFunction, Modal, modal_api

pytestmark = pytest.mark.slow
TOKENS = ModalTokens(token_id=Secret(env="TEST_MODAL_ID"), token_secret=Secret(env="TEST_MODAL_SECRET"))
SPEC = ModalFunction(app="llm", function="generate", tokens=TOKENS)


@pytest.fixture
async def workspace(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Modal]:
    async with modal_api() as (served, address):
        monkeypatch.setenv("MODAL_SERVER_URL", address)
        monkeypatch.setenv("MODAL_MAX_THROTTLE_WAIT", "0")
        monkeypatch.setenv("TEST_MODAL_ID", TOKEN[0])
        monkeypatch.setenv("TEST_MODAL_SECRET", TOKEN[1])
        served.add(DeployedFunction("llm", "generate", "fu-1", {"min_containers": 2, "buffer_containers": 1}, {}, 2))
        yield served


@pytest.fixture
async def context() -> AsyncIterator[AdapterContext]:
    async with Resources() as resources:
        yield AdapterContext(resources, SystemClock(), DEADLINE_S)


async def opened(context: AdapterContext, **changes: Any) -> Any:
    return await open_pool(replace(SPEC, **changes), context, WorkloadName("chat"), PoolName("modal"))


async def status(pool: Any) -> PoolStatus:
    observed: PoolStatus = (await pool.status()).value
    return observed


async def test_a_minimum_is_written_alone_and_modal_may_run_more(workspace: Modal, context: AdapterContext) -> None:
    pool = await opened(context)
    workspace.functions["fu-1"].running = 7
    assert ((await status(pool)).desired, (await status(pool)).ready) == (2, 7)
    await pool.resize(4, await status(pool))
    assert workspace.updates == [{"min_containers": 4}]


async def test_an_exact_size_sets_minimum_and_maximum_at_once(workspace: Modal, context: AdapterContext) -> None:
    pool = await opened(context, sized_by="exact", min_replicas=1)
    observed = await status(pool)
    assert pool.unfinished(), "a maximum above the minimum leaves Modal's autoscaler on"
    await pool.resize(2, observed)
    await pool.resize(5, await status(pool))
    assert workspace.updates == [{"max_containers": 2}, {"min_containers": 5, "max_containers": 5}]
    await status(pool)
    assert not pool.unfinished()


async def test_a_deployment_resets_settings_that_are_written_again(workspace: Modal, context: AdapterContext) -> None:
    pool = await opened(context, buffer_containers=3, scaledown_window_s=600)
    await pool.resize(4, await status(pool))
    assert not (await status(pool)).other_writer
    workspace.functions["fu-1"].deploy()
    after = await status(pool)
    assert (after.desired, after.other_writer, pool.unfinished()) == (2, None, True)
    await pool.resize(4, after)
    assert workspace.updates == [{"min_containers": 4, "buffer_containers": 3, "scaledown_window": 600}] * 2


async def test_a_person_is_detected_and_no_write_follows_in_the_same_tick(
    workspace: Modal, context: AdapterContext
) -> None:
    pool = await opened(context)
    before = await status(pool)
    workspace.functions["fu-1"].settings["min_containers"] = 6
    with pytest.raises(Conflict, match="Modal function llm/generate changed from 2 to 6"):
        await pool.resize(4, before)
    assert "another writer set Modal function llm/generate to 6" in str((await status(pool)).other_writer)
    assert not workspace.updates


async def test_a_class_is_named_by_its_function_id(workspace: Modal, context: AdapterContext) -> None:
    workspace.add(DeployedFunction("llm", "Model.*", "fu-2", {}, {}, 1))
    pool = await opened(context, app=None, function=None, function_id="fu-2")
    assert (await status(pool)).desired == 0
    await pool.resize(3, await status(pool))
    assert workspace.functions["fu-2"].settings == {"min_containers": 3}


async def test_a_maximum_in_the_app_bounds_the_minimum(workspace: Modal, context: AdapterContext) -> None:
    workspace.functions["fu-1"].settings["max_containers"] = 3
    pool = await opened(context, max_replicas=5)
    (refusal,) = await pool.scale_out_refusals()
    assert refusal.endswith("its max_containers is 3, below 5; raise it in the app, or set max_replicas: 3")
    with pytest.raises(Misconfigured, match="max_containers is 3, below 4"):
        await pool.resize(4, await status(pool))
    assert not workspace.updates
    workspace.functions["fu-1"].settings["max_containers"] = 0  # Modal's wire form of no maximum
    assert await pool.scale_out_refusals() == []


@pytest.mark.parametrize(
    ("fault", "error"),
    [("plan", OutOfQuota), ("throttle", Throttled), ("conflict", Conflict), ("forbid", Misconfigured)],
)
async def test_errors_of_a_write_have_their_remedies(
    workspace: Modal, context: AdapterContext, fault: str, error: type[Exception]
) -> None:
    pool = await opened(context)
    observed = await status(pool)
    workspace.fault = fault
    with pytest.raises(error, match="Modal FunctionUpdateSchedulingParams of llm/generate") as caught:
        await pool.resize(4, observed)
    assert getattr(caught.value, "retry_after_s", None) == (pytest.approx(0.1) if fault == "throttle" else None)


async def test_a_repeated_call_is_applied_once(workspace: Modal, context: AdapterContext) -> None:
    """The SDK repeats a broken call with the same key."""
    pool = await opened(context)
    observed = await status(pool)
    workspace.fault = "refuse"
    with pytest.raises(Unavailable):
        await pool.resize(4, observed)
    assert workspace.calls.count("FunctionUpdateSchedulingParams") == 4
    assert not workspace.updates


async def test_a_wrong_token_and_a_missing_function_are_misconfigured(
    workspace: Modal, context: AdapterContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Misconfigured, match="Lookup failed for Function 'other' from the 'llm' app"):
        await status(await opened(context, function="other"))
    monkeypatch.setenv("TEST_OTHER_SECRET", "as-other")
    tokens = replace(TOKENS, token_secret=Secret(env="TEST_OTHER_SECRET"))
    with pytest.raises(Misconfigured, match="AuthError") as caught:
        await status(await opened(context, tokens=tokens))
    assert "as-other" not in str(caught.value)


async def test_a_function_that_was_deleted_and_deployed_again_is_found_by_its_name(
    workspace: Modal, context: AdapterContext
) -> None:
    pool = await opened(context)
    await status(pool)
    del workspace.functions["fu-1"]
    with pytest.raises(Misconfigured):
        await status(pool)
    workspace.add(DeployedFunction("llm", "generate", "fu-9", {"min_containers": 1}, {}, 1))
    assert (await status(pool)).desired == 1


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"function": None}, "is required with app, or set function_id"),
        ({"function_id": "fu-1"}, "must be null with app or function"),
        ({"sized_by": "exact"}, "must be at least 1 with sized_by: exact"),
        ({"tokens": replace(TOKENS, token_secret=None)}, "requires token_id and token_secret together"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], rule: str
) -> None:
    monkeypatch.setenv("TEST_MODAL_ID", TOKEN[0])
    monkeypatch.setenv("TEST_MODAL_SECRET", TOKEN[1])
    assert list(own_problems(SPEC)) == []
    assert [found for _, found, _ in own_problems(replace(SPEC, **changes)) if rule in found]
