"""Whatever shape an answer of Azure's has, an adapter tells what is true or a port error, and no loop ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from policies.model import Absent, Fresh
from scaler.adapters import open_source
from scaler.clouds.azure.scheduled_events import ScheduledEventsListener
from scaler.clouds.interruptions import board
from scaler.clouds.rest import session
from scaler.config.kinds.azure_sources import AzureMonitor, ServiceBus
from tests.scaler.clouds.azure_place import Place, agent_pool, place, serving
from tests.servers.azure import SUBSCRIPTION
from tests.servers.azure_bus import Counted, bus
from tests.servers.azure_compute import Machine, ScaleSet, reserve
from tests.servers.azure_managed import StandbyPool
from tests.servers.azure_metrics import monitor
from tests.servers.spoiling import STRANGE, Lane, same_pool, same_readings, spoil_everything, spoiled, spots

NAMESPACE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/llm/providers/Microsoft.ServiceBus/namespaces/127"


def readings(found: Any, _honest: object, _fair: bool) -> str:
    """Of counts that are zero: they are believed after a while, so one cannot say which are true."""
    return "" if all(isinstance(one, Absent | Fresh) for one in found.values()) else repr(found)


def statuses(here: Place, pool: Any) -> Lane:
    async def ask() -> Any:
        return (await pool.status()).value

    return Lane(here.cloud, ask, here.clock, same_pool)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["Uniform", "Flexible"])
async def test_answers_about_a_scale_set(tmp_path: Path, mode: str) -> None:
    async with place(tmp_path, at_once=True) as here:
        its_set = serving(here.cloud, 2, mode=mode, reservation_group=reserve(here.cloud, "held", 2))
        its_set.machines.insert(0, Machine(9, "1", failure=("AllocationFailed", "none")))
        its_set.capacity = 3
        setting = {"name": "a", "properties": {"enabled": True, "targetResourceUri": its_set.path}}
        listed = f"{its_set.path.partition('/providers/')[0]}/providers/Microsoft.Insights/autoscaleSettings"
        here.cloud.lists[listed.lower()] = lambda _: [setting]
        assert await spoil_everything(statuses(here, await here.vmss())) > 400


@pytest.mark.slow
async def test_answers_to_a_write_and_what_becomes_of_it(tmp_path: Path) -> None:
    async with place(tmp_path, at_once=True) as here:
        its_set = serving(here.cloud, 2)
        pool = await here.vmss()

        async def grow() -> int:
            try:
                seen = (await pool.status()).value
                await pool.resize(5, seen)
                its_set.cloud.end(("AllocationFailed", "none left"), "2026-11-27T15:00:00Z")
                await pool.status()
                return its_set.capacity
            finally:
                assert its_set.capacity in {2, 5}
                its_set.resize(2)

        assert await spoil_everything(Lane(here.cloud, grow, here.clock)) > 200


@pytest.mark.slow
async def test_answers_about_an_agent_pool(tmp_path: Path) -> None:
    async with place(tmp_path, at_once=True) as here:
        made = agent_pool(here.cloud, 2)
        made.state, made.error = "Failed", {"code": "QuotaExceeded", "message": "no more", "details": [{"code": "x"}]}
        assert await spoil_everything(statuses(here, await here.aks())) > 300


@pytest.mark.slow
async def test_answers_about_a_standby_pool(tmp_path: Path) -> None:
    async with place(tmp_path, at_once=True) as here:
        made = StandbyPool(here.cloud, "warm", serving(here.cloud, 2), most=4).there()
        made.keep(1)
        made.health = ("HealthState/degraded", "AllocationFailed: none")
        assert await spoil_everything(statuses(here, await here.standby())) > 200


@pytest.mark.slow
async def test_answers_of_azure_monitor(tmp_path: Path) -> None:
    async with place(tmp_path, at_once=True) as here:
        account = here.cloud.account()
        monitor(here.cloud).set(NAMESPACE, "ActiveMessages", 3, "prompts")
        source = await open_source(
            AzureMonitor(
                resource=NAMESPACE,
                region="eastus",
                metrics={"visible": "ActiveMessages"},
                account=account,
                endpoint_url=account.arm,
            ),
            here.context,
        )
        assert await spoil_everything(Lane(here.cloud, source.sample, here.clock, same_readings)) > 100


@pytest.mark.slow
async def test_answers_of_service_bus(tmp_path: Path) -> None:
    async with place(tmp_path, at_once=True) as here, bus(here.cloud.tls) as namespace:
        monitor(here.cloud).set(NAMESPACE, "ActiveMessages", 3, "prompts")
        namespace.queues["prompts"] = Counted()
        account = here.cloud.account()
        host = f"127.0.0.1:{namespace.port}"
        spec = ServiceBus(namespace=host, queue="prompts", resource_group="llm", account=account)
        source = await open_source(spec, here.context)
        assert await spoil_everything(Lane(here.cloud, source.sample, here.clock, readings)) > 100


async def test_documents_of_scheduled_events(tmp_path: Path) -> None:
    """The listener goes on, whatever it hears."""
    async with place(tmp_path) as here:
        ScaleSet(here.cloud, "h100").there()
        listener = ScheduledEventsListener(
            "http://127.0.0.1:1", await session(here.context), here.context, await board(here.context)
        )
        here.events.say("Preempt", "h100_1")
        whole = {"DocumentIncarnation": 2, "Events": here.events.events}
        for path in spots(whole):
            for strange in STRANGE:
                document = spoiled(whole, path, strange)
                if isinstance(document, dict) and isinstance(document.get("Events"), list):
                    await listener._pin_events("http://127.0.0.1:1", document)
