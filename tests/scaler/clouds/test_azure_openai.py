"""Provisioned Azure OpenAI deployments: the account's lock, late failures, steps, stock, and rare changes."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from scaler.clock import SystemClock
from scaler.ports import Conflict, Misconfigured, OutOfCapacity, OutOfQuota, Unavailable
from tests.scaler.clouds.azure_place import AzureEnvironment, azure_environment
from tests.servers.azure_openai import NO_CAPACITY, REQUEST_CONFLICT, Account, Ptu

DAY_S = 86_400.0


@pytest.fixture
async def env(tmp_path: Path) -> AsyncIterator[AzureEnvironment]:
    async with azure_environment(tmp_path) as environment:
        yield environment


@pytest.fixture
def account(env: AzureEnvironment) -> Account:
    return Account(env.cloud, [Ptu("chat", 15), Ptu("batch", 20), Ptu("rest", 50, "GlobalStandard")]).register()


# --- the account's lock


async def test_deployments_of_one_account_are_changed_in_turn(env: AzureEnvironment, account: Account) -> None:
    chat, batch = await env.ptu(), await env.ptu("batch")
    assert await env.resize(chat, 20) is None
    waits = await env.resize(batch, 25)
    assert isinstance(waits, Conflict)
    assert "Azure OpenAI deployment llm/batch: the account is changing its deployment chat" in str(waits)
    account.end()
    assert await env.resize(batch, 25) is None
    account.end()
    assert (account.log, account.collisions) == ([("chat", 20), ("batch", 25)], 0)


async def test_no_two_changes_are_in_flight_in_any_order_of_the_pools(env: AzureEnvironment, account: Account) -> None:
    """Every interleaving of two pools that ask for two sizes each, while the account ends changes in between."""
    limits: dict[str, Any] = {"change_interval_s": 0.0, "release_capacity": True}
    pools = {"chat": await env.ptu(**limits), "batch": await env.ptu("batch", **limits)}
    for number, order in enumerate(sorted(set(itertools.permutations(["chat", "chat", "batch", "batch", "end"])))):
        for step, name in enumerate(order):
            if name == "end":
                account.end()
            else:
                await env.resize(pools[name], 15 + 5 * ((number + step) % 7))
            assert sum(p.state == "Accepted" for p in account.deployments) <= 1
    assert account.writes > 10
    assert account.collisions == 0


async def test_ticks_at_the_same_moment_write_once(env: AzureEnvironment, account: Account) -> None:
    pools = [await env.ptu(), await env.ptu("batch")]
    observed = [await env.read_status(pool) for pool in pools]
    results = await asyncio.gather(
        *(p.resize(30, s) for p, s in zip(pools, observed, strict=True)), return_exceptions=True
    )
    assert [type(r) for r in results] == [type(None), Conflict]
    assert (account.writes, account.collisions) == (1, 0)


async def test_operation_that_no_deployment_shows_is_a_conflict(env: AzureEnvironment, account: Account) -> None:
    account.background = True
    busy = await env.resize(await env.ptu(), 20)
    assert isinstance(busy, Conflict)
    assert "Another operation is being performed on the parent resource" in str(busy)


async def test_late_conflict_is_raised_once_and_the_change_repeated(env: AzureEnvironment, account: Account) -> None:
    pool = await env.ptu()
    assert await env.resize(pool, 20) is None
    account.end(REQUEST_CONFLICT)
    status = await env.read_status(pool)
    assert (status.desired, status.ready, status.shortfall) == (15, 15, None)
    failed = await env.resize(pool, 20)
    assert isinstance(failed, Conflict)
    assert "did not change from 15 to 20 replicas: RequestConflict: Another operation" in str(failed)
    assert await env.resize(pool, 20) is None, "a failed change does not count as the change of the day"
    account.end()
    assert (await env.read_status(pool)).ready == 20
    assert account.writes == 2


# --- capacity, quota and steps


async def test_late_lack_of_capacity_is_a_shortfall(env: AzureEnvironment, account: Account) -> None:
    pool = await env.ptu()
    assert await env.resize(pool, 20) is None
    account.end(NO_CAPACITY)
    shortfall = (await env.read_status(pool)).shortfall
    assert shortfall is not None
    assert not shortfall.quota
    assert "The region has no capacity for this model" in shortfall.reason


async def test_missing_stock_is_found_before_the_write(env: AzureEnvironment, account: Account) -> None:
    account.stock = 10
    refused = await env.resize(await env.ptu(), 30)
    assert isinstance(refused, OutOfCapacity)
    assert str(refused) == "Azure OpenAI deployment llm/chat: 10 of 15 PTUs are available in eastus"
    assert account.writes == 0


async def test_unlisted_stock_is_unknown_and_the_refusal_counts(env: AzureEnvironment, account: Account) -> None:
    account.stock, account.listed = 10, False
    refused = await env.resize(await env.ptu(), 30)
    assert isinstance(refused, OutOfCapacity)
    assert "InsufficientCapacity" in str(refused)


async def test_quota_is_a_quota_error(env: AzureEnvironment, account: Account) -> None:
    account.quota = 90
    assert type(await env.resize(await env.ptu(), 30)) is OutOfQuota


@pytest.mark.parametrize("replicas", [10, 17])
async def test_sizes_off_the_steps_are_refused_with_the_remedy(
    env: AzureEnvironment, account: Account, replicas: int
) -> None:
    refused = await env.resize(await env.ptu(release_capacity=True), replicas)
    assert isinstance(refused, Misconfigured)
    assert "they come in steps of 5 from 15; set quantum: 5 and min_replicas: 15" in str(refused)
    assert account.writes == 0


async def test_capacity_that_is_given_back_is_gone(env: AzureEnvironment, account: Account) -> None:
    account.stock = 10
    pool = await env.ptu(release_capacity=True, change_interval_s=0.0)
    for size in (25, 15):
        assert await env.resize(pool, size) is None
        account.end()
    assert isinstance(await env.resize(pool, 25), OutOfCapacity)


# --- rare changes


async def test_size_falls_only_where_it_is_allowed(env: AzureEnvironment, account: Account) -> None:
    refused = await env.resize(await env.ptu("batch"), 15)
    assert isinstance(refused, Misconfigured)
    assert "PTUs that are given back may not return. Set release_capacity: true" in str(refused)
    assert await env.resize(await env.ptu("batch", release_capacity=True), 15) is None
    assert account.log == [("batch", 15)]


async def test_size_changes_once_a_day_also_after_a_restart(env: AzureEnvironment, account: Account) -> None:
    pool = await env.ptu(spillover_deployment="rest", release_capacity=True)
    assert await env.resize(pool, 20) is None
    account.end()
    for later in (pool, await env.ptu(spillover_deployment="rest", release_capacity=True)):
        refused = await env.resize(later, 25)
        assert isinstance(refused, OutOfCapacity), "the other pools take the growth"
        assert "llm/chat changes at most once in 86400 s" in str(refused)
        assert str(refused).endswith("; rest takes the rest")
        assert isinstance(await env.resize(later, 15), Conflict)
    env.clock.ahead_s += DAY_S
    assert await env.resize(pool, 25) is None
    assert account.log == [("chat", 20), ("chat", 25)]


async def test_change_by_a_person_counts_too(env: AzureEnvironment, account: Account) -> None:
    account.deployments[0].modified_at = SystemClock().now() - 3600
    assert isinstance(await env.resize(await env.ptu(), 20), OutOfCapacity)


# --- reads


async def test_lost_response_is_read_back_and_not_repeated(env: AzureEnvironment, account: Account) -> None:
    pool = await env.ptu()
    observed = await env.read_status(pool)
    env.cloud.losing = True
    with pytest.raises(Unavailable):
        await pool.resize(20, observed)
    env.cloud.clear()
    status = await env.read_status(pool)
    assert (status.desired, status.ready, status.pending) == (20, 15, 5)
    assert await env.resize(pool, 20) is None
    account.end()
    assert (await env.read_status(pool)).ready == 20
    assert account.writes == 1


async def test_unreported_capacity_is_known_only_of_a_settled_deployment(
    env: AzureEnvironment, account: Account
) -> None:
    chat = account.deployments[0]
    chat.current = None
    pool = await env.ptu()
    assert (await env.read_status(pool)).ready == 15
    chat.state = "Accepted"
    with pytest.raises(Unavailable, match="currentCapacity"):
        await env.read_status(pool)


async def test_wrong_names_and_types_are_named(env: AzureEnvironment, account: Account) -> None:
    with pytest.raises(Misconfigured, match="no such deployment; it has batch, chat, rest"):
        await env.read_status(await env.ptu("gone"))
    with pytest.raises(Misconfigured, match="of type GlobalStandard, which has no PTUs"):
        await env.read_status(await env.ptu("rest"))


async def test_check_reports_the_spillover_and_the_steps(env: AzureEnvironment, account: Account) -> None:
    pool = await env.ptu(spillover_deployment="rest", max_replicas=33)
    step, spillover = await pool.scale_out_refusals()
    assert "33 PTUs are not possible for GlobalProvisionedManaged" in step
    assert spillover.endswith("spilloverDeploymentName must be rest in Azure, and it is not set")
    account.deployments[0].spillover = "rest"
    env.clock.ahead_s += DAY_S
    assert await (await env.ptu(spillover_deployment="rest", max_replicas=30)).scale_out_refusals() == []
