"""A malformed response of Azure gives a true value or a port error, and ends no loop."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest

from policies.model import Absent, Fresh, PoolStatus
from scaler.adapters import open_pool, open_source
from scaler.clouds.azure.scheduled_events import ScheduledEventsListener
from scaler.clouds.interruptions import board
from scaler.clouds.rest import session
from scaler.config.kinds.azure_managed_pools import AzureMlDeployment, AzureOpenAiPtu
from scaler.config.kinds.azure_sources import AzureMonitor, ServiceBus
from tests.scaler.clouds.azure_place import GPUS, LLM, AzureEnvironment, agent_pool, azure_environment, serving
from tests.servers.azure import SUBSCRIPTION
from tests.servers.azure_bus import Counted, bus
from tests.servers.azure_compute import Machine, ScaleSet, reserve
from tests.servers.azure_managed import StandbyPool
from tests.servers.azure_metrics import monitor
from tests.servers.azure_ml import Deployment, Setting
from tests.servers.azure_openai import Account, Ptu
from tests.servers.spoiling import STRANGE, Lane, same_pool, same_readings, spoil_everything, spoiled, spots

NAMESPACE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/llm/providers/Microsoft.ServiceBus/namespaces/127"


def readings(values: Any, _honest: object, _fair: bool) -> str:
    """Zero counts are accepted after a while, so their truth cannot be checked."""
    return "" if all(isinstance(value, Absent | Fresh) for value in values.values()) else repr(values)


def statuses(env: AzureEnvironment, pool: Any) -> Lane:
    async def read_value() -> Any:
        return (await pool.status()).value

    return Lane(env.cloud, read_value, env.clock, same_pool)


def same_or_lower_bound(found: Fresh[PoolStatus], honest: Fresh[PoolStatus], fair: bool) -> str:
    """Accept fewer serving replicas only where they are declared a lower bound."""
    if found.value.ready < honest.value.ready and not found.missing:
        return f"ready is {found.value.ready}, and {honest.value.ready} in truth"
    return same_pool(found.value, honest.value, fair)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["Uniform", "Flexible"])
async def test_malformed_responses_for_a_scale_set(tmp_path: Path, mode: str) -> None:
    async with azure_environment(tmp_path, at_once=True) as env:
        its_set = serving(env.cloud, 2, mode=mode, reservation_group=reserve(env.cloud, "held", 2))
        its_set.machines.insert(0, Machine(9, "1", failure=("AllocationFailed", "none")))
        its_set.capacity = 3
        setting = {"name": "a", "properties": {"enabled": True, "targetResourceUri": its_set.path}}
        listed = f"{its_set.path.partition('/providers/')[0]}/providers/Microsoft.Insights/autoscaleSettings"
        env.cloud.lists[listed.lower()] = lambda _: [setting]
        assert await spoil_everything(statuses(env, await env.vmss())) > 400


@pytest.mark.slow
async def test_malformed_responses_to_a_write_and_its_operation(tmp_path: Path) -> None:
    async with azure_environment(tmp_path, at_once=True) as env:
        its_set = serving(env.cloud, 2)
        pool = await env.vmss()

        async def grow() -> int:
            try:
                observed = (await pool.status()).value
                await pool.resize(5, observed)
                its_set.cloud.end(("AllocationFailed", "none left"), "2026-11-27T15:00:00Z")
                await pool.status()
                return its_set.capacity
            finally:
                assert its_set.capacity in {2, 5}
                its_set.resize(2)

        assert await spoil_everything(Lane(env.cloud, grow, env.clock)) > 200


@pytest.mark.slow
async def test_malformed_responses_for_an_agent_pool(tmp_path: Path) -> None:
    async with azure_environment(tmp_path, at_once=True) as env:
        pool = agent_pool(env.cloud, 2)
        pool.state, pool.error = "Failed", {"code": "QuotaExceeded", "message": "no more", "details": [{"code": "x"}]}
        assert await spoil_everything(statuses(env, await env.aks())) > 300


@pytest.mark.slow
async def test_malformed_responses_for_a_standby_pool(tmp_path: Path) -> None:
    async with azure_environment(tmp_path, at_once=True) as env:
        standby = StandbyPool(env.cloud, "warm", serving(env.cloud, 2), max_ready=4).register()
        standby.set_standby(1)
        standby.health = ("HealthState/degraded", "AllocationFailed: none")
        assert await spoil_everything(statuses(env, await env.standby())) > 200


@pytest.mark.slow
@pytest.mark.parametrize("native", ["refuse", "floor"])
async def test_malformed_responses_for_an_online_deployment(tmp_path: Path, native: Literal["refuse", "floor"]) -> None:
    async with azure_environment(tmp_path, at_once=True) as env:
        metrics = monitor(env.cloud)
        deployment = Deployment(env.cloud, "h100", capacity=2).register(metrics)
        Setting(env.cloud, deployment.path).register()
        spec = AzureMlDeployment(
            resource_group="llm",
            workspace="llm",
            endpoint="chat",
            deployment="h100",
            native=native,
            account=env.cloud.account(),
        )
        pool = await open_pool(spec, env.context, LLM, GPUS)

        async def read_status() -> Any:
            metrics.ahead_s = env.clock.ahead_s
            return await pool.status()

        assert await spoil_everything(Lane(env.cloud, read_status, env.clock, same_or_lower_bound)) > 200


@pytest.mark.slow
async def test_malformed_responses_for_a_provisioned_deployment(tmp_path: Path) -> None:
    async with azure_environment(tmp_path, at_once=True) as env:
        account = Account(env.cloud, [Ptu("chat", 15), Ptu("batch", 20)]).register()
        spec = AzureOpenAiPtu(
            resource_group="llm",
            resource="llm",
            deployment="chat",
            change_interval_s=0.0,
            release_capacity=True,
            account=env.cloud.account(),
        )
        pool = await open_pool(spec, env.context, LLM, GPUS)
        assert await spoil_everything(statuses(env, pool)) > 100

        async def grow() -> int:
            chat = account.deployments[0]
            try:
                await pool.resize(20, (await pool.status()).value)
                account.end()
                await pool.status()
                return chat.capacity
            finally:
                assert chat.capacity in {15, 20}
                account.end()
                chat.capacity = chat.current = 15

        assert await spoil_everything(Lane(env.cloud, grow, env.clock)) > 200


@pytest.mark.slow
async def test_malformed_responses_of_azure_monitor(tmp_path: Path) -> None:
    async with azure_environment(tmp_path, at_once=True) as env:
        account = env.cloud.account()
        monitor(env.cloud).set(NAMESPACE, "ActiveMessages", 3, "prompts")
        source = await open_source(
            AzureMonitor(
                resource=NAMESPACE,
                region="eastus",
                metrics={"visible": "ActiveMessages"},
                account=account,
                endpoint_url=account.arm,
            ),
            env.context,
        )
        assert await spoil_everything(Lane(env.cloud, source.sample, env.clock, same_readings)) > 100


@pytest.mark.slow
async def test_malformed_responses_of_service_bus(tmp_path: Path) -> None:
    async with azure_environment(tmp_path, at_once=True) as env, bus(env.cloud.tls) as namespace:
        monitor(env.cloud).set(NAMESPACE, "ActiveMessages", 3, "prompts")
        namespace.queues["prompts"] = Counted()
        account = env.cloud.account()
        host = f"127.0.0.1:{namespace.port}"
        spec = ServiceBus(namespace=host, queue="prompts", resource_group="llm", account=account)
        source = await open_source(spec, env.context)
        assert await spoil_everything(Lane(env.cloud, source.sample, env.clock, readings)) > 100


async def test_malformed_documents_of_scheduled_events(tmp_path: Path) -> None:
    """The listener continues after any event."""
    async with azure_environment(tmp_path) as env:
        ScaleSet(env.cloud, "h100").register()
        listener = ScheduledEventsListener(
            "http://127.0.0.1:1", await session(env.context), env.context, await board(env.context)
        )
        env.events.announce("Preempt", "h100_1")
        whole = {"DocumentIncarnation": 2, "Events": env.events.events}
        for path in spots(whole):
            for strange in STRANGE:
                document = spoiled(whole, path, strange)
                if isinstance(document, dict) and isinstance(document.get("Events"), list):
                    await listener._pin_events("http://127.0.0.1:1", document)
