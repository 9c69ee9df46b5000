"""A day on Azure's managed serving, by the daemon on counterparts with time.

Load rises, and two deployments of an online endpoint grow; an autoscale setting resized one of them before. A change of
the first one fails late for lack of capacity and is rolled back, the second one is refused more, and a scale set takes
the rest. Meanwhile two provisioned deployments of one account grow through the account's lock: another operation is
first once, and the change is repeated; the deployment may not change again on that day, and the other one grows. Load
falls: machines stay for their minimum billed time, and then go; the units of the second deployment go, and those of the
first one stay, since they may not come back. The daemon stops, and the autoscale setting is enabled again. The journal
replays with equal decisions.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from policies.model import Result, RuleId, Tick
from tests.e2e.cloud_story import (
    MESSAGES_PER_REPLICA,
    check_journal,
    check_min_billed,
    configure,
    queue_workload,
    status_of,
)
from tests.factories import DEADLINE_S
from tests.servers.azure import SUBSCRIPTION, Azure, Events, azure, scheduled_events
from tests.servers.azure_bus import Bus, Counted, bus
from tests.servers.azure_compute import ScaleSet
from tests.servers.azure_metrics import Monitor, monitor
from tests.servers.azure_ml import Deployment, Setting
from tests.servers.azure_openai import REQUEST_CONFLICT, Account, Ptu
from tests.servers.daemon import Daemon, daemon, until

NAMESPACE: Final = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/llm/providers/Microsoft.ServiceBus/namespaces/127"
CHANGE_S: Final = 1.0
"""Time that a change of a deployment takes. Seconds."""
LEAD_S: Final = 60.0
"""Lead time of every pool: Azure Monitor is read each 30 s, so a deployment's instances show late. Seconds."""
MIN_BILLED_S: Final = 12.0
H100_INSTANCES: Final = 3
"""Instances that come for the first deployment: Azure accepts more, and rolls the change back."""
H200_INSTANCES: Final = 2
"""Instances beyond which Azure refuses a change of the second deployment."""
FIRST_WAVE: Final = 3
SECOND_WAVE: Final = 8
PATIENT: Final[dict[str, Any]] = {
    "interval_s": 0.9,
    "deadline_s": DEADLINE_S,
    "scale_down": {"window_s": 4.0, "period_s": 2.0, "max_replicas": 60, "max_evidence_gap_s": 60.0},
    "slo_violation_cost_ratio": 0.01,
}
"""A tick of a busy machine takes longer, and misses no reading."""
MIN_PTU: Final = 15
STEP_PTU: Final = 5


@dataclass
class Place:
    """The subscription: an online endpoint, a scale set, an account with provisioned deployments, and two queues."""

    cloud: Azure
    namespace: Bus
    events: Events
    metrics: Monitor
    h100: Deployment
    h200: Deployment
    machines: ScaleSet
    account: Account
    setting: Setting

    def queue(self, name: str, replicas: int) -> None:
        """Set the number of messages to that for this many replicas."""
        messages = replicas * MESSAGES_PER_REPLICA
        self.namespace.queues[name] = Counted(active=messages)
        self.metrics.set(NAMESPACE, "ActiveMessages", messages, name)

    def source(self, queue: str) -> dict[str, Any]:
        source = {"kind": "service_bus", "namespace": f"127.0.0.1:{self.namespace.port}", "queue": queue}
        return {"queue": {**source, **self.common(), "min_interval_s": 0.5}}

    def common(self) -> dict[str, Any]:
        return {"resource_group": "llm", "account": self.cloud.document()}

    def instances(self) -> dict[str, Any]:
        """Return the workload on the online endpoint, with a scale set for the rest; prices order its pools."""
        online = {"kind": "azure_ml_deployment", "workspace": "llm", "endpoint": "chat"}
        machines = {"kind": "vmss", "name": self.machines.name, "events_url": self.events.relays}
        pools = {
            "h100": {**online, "deployment": "h100", "price_usd_per_hour": 2.0, "native": "take_over"},
            "h200": {**online, "deployment": "h200", "price_usd_per_hour": 3.0},
            "machines": {**machines, "price_usd_per_hour": 4.0, "min_billed_s": MIN_BILLED_S},
        }
        pools = {name: {**keys, "lead_time_s": LEAD_S, **self.common()} for name, keys in pools.items()}
        return queue_workload("llm", self.source("prompts"), pools, max_replicas=12, min_replicas=2, **PATIENT)

    def units(self) -> dict[str, Any]:
        """Return the workload on the provisioned deployments, whose replicas are PTUs."""
        terms = {"lead_time_s": LEAD_S, "min_billed_s": 0.0}
        ptu = {"kind": "azure_openai_ptu", "resource": "llm", **terms, **self.common()}
        flexible = {"release_capacity": True, "change_interval_s": 0.0}
        pools = {
            "chat": {**ptu, "deployment": "chat", "price_usd_per_hour": 1.0, "spillover_deployment": "rest"},
            "batch": {**ptu, "deployment": "batch", "price_usd_per_hour": 1.2, **flexible},
        }
        return queue_workload("ptu", self.source("requests"), pools, max_replicas=60, min_replicas=30, **PATIENT)


@pytest.fixture
async def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Place]:
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"):
        monkeypatch.delenv(name, raising=False)
    async with contextlib.AsyncExitStack() as stack:
        cloud = await stack.enter_async_context(azure(tmp_path))
        namespace = await stack.enter_async_context(bus(cloud.tls))
        events = await stack.enter_async_context(scheduled_events())
        metrics = monitor(cloud)
        h100 = Deployment(cloud, "h100", start_s=CHANGE_S, late_stock=H100_INSTANCES).register(metrics)
        h200 = Deployment(cloud, "h200", start_s=CHANGE_S, stock=H200_INSTANCES).register(metrics)
        machines = ScaleSet(cloud, "machines", boot_s=CHANGE_S).register()
        deployments = [Ptu("chat", MIN_PTU), Ptu("batch", MIN_PTU), Ptu("rest", 50, "GlobalStandard")]
        account = Account(cloud, deployments).register()
        setting = Setting(cloud, h100.path).register()
        yield Place(cloud, namespace, events, metrics, h100, h200, machines, account, setting)


def ready_units(d: Daemon, pool: str) -> int:
    """Return the PTUs of a deployment that serve, in the last tick that reads it."""
    ticks = [t for t in d.ticks() if pool in t.observation.pools]
    return status_of(ticks[-1], pool).ready if ticks else 0


async def first_wave_grows_the_cheapest_deployments(place: Place, d: Daemon) -> None:
    place.queue("prompts", FIRST_WAVE)
    place.queue("requests", 2 * MIN_PTU + STEP_PTU)
    await until(lambda: place.h100.capacity + place.h200.capacity >= FIRST_WAVE, d)
    assert not place.setting.enabled, "the autoscale setting is disabled before the first write"
    await until(lambda: place.account.writes == 1, d)
    place.account.end(REQUEST_CONFLICT)
    place.account.change_s = CHANGE_S
    await until(lambda: ready_units(d, "chat") == MIN_PTU + STEP_PTU, d)
    assert place.account.log == 2 * [("chat", MIN_PTU + STEP_PTU)], "the change that failed late is repeated"


async def second_wave_is_rolled_back_refused_and_taken_by_the_next_pools(place: Place, d: Daemon) -> None:
    place.queue("prompts", SECOND_WAVE)
    place.queue("requests", 2 * MIN_PTU + 2 * STEP_PTU)
    rest = SECOND_WAVE - H100_INSTANCES - H200_INSTANCES
    await until(lambda: sum(m.state == "ready" for m in place.machines.machines) >= rest, d)
    await until(lambda: ready_units(d, "batch") == MIN_PTU + STEP_PTU, d)


async def load_falls_and_everything_is_handed_back(place: Place, d: Daemon) -> None:
    place.queue("prompts", 0)
    place.queue("requests", 0)
    await until(lambda: not place.machines.alive, d)
    await until(lambda: place.h100.capacity + place.h200.capacity == 2, d)
    await until(lambda: ready_units(d, "batch") == MIN_PTU, d)
    assert [p.capacity for p in place.account.deployments[:2]] == [MIN_PTU + STEP_PTU, MIN_PTU]


@pytest.mark.slow
async def test_deployments_grow_through_their_locks_and_everything_is_handed_back(place: Place, tmp_path: Path) -> None:
    place.queue("prompts", 0)
    place.queue("requests", 0)
    config = configure(tmp_path, place.instances(), place.units())
    async with daemon(str(config), journal=tmp_path / "journal") as d:
        await first_wave_grows_the_cheapest_deployments(place, d)
        await second_wave_is_rolled_back_refused_and_taken_by_the_next_pools(place, d)
        await load_falls_and_everything_is_handed_back(place, d)
        assert await d.stop() == 0
        ticks = d.ticks()
    assert place.setting.enabled, "the autoscale setting resizes the deployment again"
    assert (place.h100.collisions, place.h200.collisions, place.account.collisions) == (0, 0, 0)
    check_instances([t for t in ticks if t.workload == "llm"])
    check_units([t for t in ticks if t.workload == "ptu"])
    check_journal(tmp_path / "journal", ticks)


def check_instances(ticks: list[Tick]) -> None:
    rolled_back = {s.reason for t in ticks if (s := status_of(t, "h100").shortfall) is not None}
    assert any("Region-wide VM capacity" in reason for reason in rolled_back), "no late failure was reported"
    refused = {o.reason for t in ticks for o in t.outcomes if o.pool == "h200" and o.result is Result.OUT_OF_CAPACITY}
    assert any("Region-wide VM capacity" in reason for reason in refused), "no refusal was reported"
    check_min_billed(ticks, "machines", MIN_BILLED_S)


def check_units(ticks: list[Tick]) -> None:
    outcomes = [o for t in ticks for o in t.outcomes]
    conflicts = {o.reason for o in outcomes if o.result is Result.CONFLICT}
    assert any("RequestConflict" in reason for reason in conflicts), "the operation that was first is not reported"
    spilled = {o.reason for o in outcomes if o.result is Result.OUT_OF_CAPACITY}
    assert any("rest takes the rest" in reason for reason in spilled), "the spillover deployment is not named"
    kept = {step.reason for t in ticks for step in t.decision.steps if step.rule == RuleId.MIN_BILLED}
    assert any("20 of chat are kept, as they may not be available again" in reason for reason in kept)
