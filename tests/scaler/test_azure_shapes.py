"""Whatever shape an answer of Azure's has, an adapter gives a status or a port error: no answer ends a workload's loop.

Every answer is taken apart: each of its parts in turn is left out, or replaced by what does not belong there.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp import web

from policies.model import Absent, Fresh
from scaler.clouds.azure_events import Listener
from scaler.clouds.notices import board
from scaler.clouds.rest import session
from scaler.ports import PortError
from scaler.sources.azure_monitor import AzureMonitor
from scaler.sources.service_bus import ServiceBus
from tests.scaler.azure_place import Place, agent_pool, place, serving
from tests.servers.azure import SUBSCRIPTION
from tests.servers.azure_bus import Counted, bus
from tests.servers.azure_compute import Machine, ScaleSet, reserve
from tests.servers.azure_managed import StandbyPool
from tests.servers.azure_metrics import monitor

GONE: Final = object()
STRANGE: Final[tuple[Any, ...]] = (GONE, None, [], {}, [None], "strange", -1, 1e400, True)
MINUTES_S: Final = 400.0
"""After which every shared answer is asked for anew."""
NAMESPACE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/llm/providers/Microsoft.ServiceBus/namespaces/127"


def spots(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where something stands in an answer; the first of a list stands for all of it."""
    yield path
    if isinstance(node, dict):
        for key, value in node.items():
            yield from spots(value, (*path, key))
    elif isinstance(node, list) and node:
        yield from spots(node[0], (*path, 0))


def spoiled(whole: Any, path: tuple[Any, ...], strange: Any) -> Any:
    """The answer with something else at one place."""
    if not path:
        return None if strange is GONE else strange
    made = copy.deepcopy(whole)
    holder = made
    for step in path[:-1]:
        holder = holder[step]
    if strange is GONE:
        del holder[path[-1]]
    else:
        holder[path[-1]] = strange
    return made


async def spoil_everything(here: Place, ask: Callable[[], Awaitable[Any]]) -> int:
    """Spoil each part of each answer to `ask`, one at a time; how often that was."""
    answers: dict[tuple[str, str], Any] = {}

    def note(request: web.Request, body: Any) -> Any:
        answers.setdefault((request.method, request.path), body)
        return body

    here.cloud.mangle = note
    await ask()
    tried = 0
    for key, whole in answers.items():
        for path in list(spots(whole)):
            for strange in STRANGE:

                def spoil(request: web.Request, body: Any, at: Any = (key, path, strange)) -> Any:
                    its_key, its_path, its_strange = at
                    if (request.method, request.path) != its_key:
                        return body
                    return spoiled(body, its_path, its_strange) if its_path in set(spots(body)) else body

                here.cloud.mangle = spoil
                here.clock.ahead_s += MINUTES_S
                try:
                    await ask()
                except PortError:
                    pass
                except Exception as e:
                    raise AssertionError(f"{key[1]}: {strange!r} at {path}: {e!r}") from e
                tried += 1
    here.cloud.mangle = None
    here.clock.ahead_s += MINUTES_S
    await ask()
    return tried


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["Uniform", "Flexible"])
async def test_answers_about_a_scale_set(tmp_path: Path, mode: str) -> None:
    async with place(tmp_path) as here:
        its_set = serving(here.cloud, 2, mode=mode, reservation_group=reserve(here.cloud, "held", 2))
        its_set.machines.insert(0, Machine(9, "1", failure=("AllocationFailed", "none")))
        its_set.capacity = 3
        setting = {"name": "a", "properties": {"enabled": True, "targetResourceUri": its_set.path}}
        listed = f"{its_set.path.partition('/providers/')[0]}/providers/Microsoft.Insights/autoscaleSettings"
        here.cloud.lists[listed.lower()] = lambda _: [setting]
        pool = await here.vmss()
        assert await spoil_everything(here, pool.status) > 400


@pytest.mark.slow
async def test_answers_to_a_write_and_what_becomes_of_it(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        its_set = serving(here.cloud, 2)
        pool = await here.vmss()

        async def grow() -> None:
            seen = (await pool.status()).value
            await pool.resize(5, seen)
            its_set.cloud.end(("AllocationFailed", "none left"), "2026-11-27T15:00:00Z")
            try:
                await pool.status()
            finally:
                its_set.resize(2)

        assert await spoil_everything(here, grow) > 200


@pytest.mark.slow
async def test_answers_about_an_agent_pool(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        made = agent_pool(here.cloud, 2)
        made.state, made.error = "Failed", {"code": "QuotaExceeded", "message": "no more", "details": [{"code": "x"}]}
        pool = await here.aks()
        assert await spoil_everything(here, pool.status) > 300


@pytest.mark.slow
async def test_answers_about_a_standby_pool(tmp_path: Path) -> None:
    async with place(tmp_path) as here:
        made = StandbyPool(here.cloud, "warm", serving(here.cloud, 2), most=4).there()
        made.keep(1)
        made.health = ("HealthState/degraded", "AllocationFailed: none")
        pool = await here.standby()
        assert await spoil_everything(here, pool.status) > 200


@pytest.mark.slow
async def test_answers_of_azure_monitor(tmp_path: Path) -> None:
    async with place(tmp_path) as here, bus(here.cloud.tls) as namespace:
        account = here.cloud.account()
        monitor(here.cloud).set(NAMESPACE, "ActiveMessages", 3, "prompts")
        metrics = {"visible": "ActiveMessages"}
        source = await AzureMonitor(
            resource=NAMESPACE, region="eastus", metrics=metrics, account=account, endpoint_url=account.arm
        ).open(here.context)
        assert await spoil_everything(here, source.sample) > 100
        namespace.queues["prompts"] = Counted()
        queue = ServiceBus(
            namespace=f"127.0.0.1:{namespace.port}", queue="prompts", resource_group="llm", account=account
        )

        async def count() -> None:
            found: Any = (await (await queue.open(here.context)).sample())["visible"]
            assert isinstance(found, Absent | Fresh)

        assert await spoil_everything(here, count) > 100


async def test_documents_of_scheduled_events(tmp_path: Path) -> None:
    """The listener goes on, whatever it hears."""
    async with place(tmp_path) as here:
        ScaleSet(here.cloud, "h100").there()
        listener = Listener("http://127.0.0.1:1", await session(here.context), here.context, await board(here.context))
        here.events.say("Preempt", "h100_1")
        whole = {"DocumentIncarnation": 2, "Events": here.events.events}
        for path in spots(whole):
            for strange in STRANGE:
                document = spoiled(whole, path, strange)
                if isinstance(document, dict) and isinstance(document.get("Events"), list):
                    listener._read("http://127.0.0.1:1", document)
