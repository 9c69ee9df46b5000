"""The published Azure role: it is sufficient for all adapters, and has no unused action."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from policies.model import Absent, Fresh, PoolName, WorkloadName
from scaler.adapters import open_pool, open_source
from scaler.clock import SystemClock
from scaler.config.kinds.azure_managed_pools import AzureMlDeployment, AzureOpenAiPtu
from scaler.config.kinds.azure_pools import AksAgentPool, Vmss, VmssStandbyPool
from scaler.config.kinds.azure_sources import AzureMonitor, ServiceBus
from scaler.ports import Misconfigured, Permit
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.servers.azure import SUBSCRIPTION, Azure, azure
from tests.servers.azure_bus import Bus, Counted, bus
from tests.servers.azure_compute import NODES, ScaleSet, reserve
from tests.servers.azure_managed import AgentPool, StandbyPool
from tests.servers.azure_metrics import SPILLED, monitor
from tests.servers.azure_ml import Deployment, Setting
from tests.servers.azure_openai import ACCOUNTS, Account, Ptu

ROLE: dict[str, Any] = json.loads((Path(__file__).parents[3] / "config" / "deploy" / "azure-role.json").read_text())
GRANTED: list[str] = ROLE["Actions"]
NAMESPACE = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/llm/providers/Microsoft.ServiceBus/namespaces/127"

ACCOUNT = f"{ACCOUNTS}/llm"


def create_resources(cloud: Azure, namespace: Bus) -> list[ScaleSet]:
    """Create one of each resource that adapters use; return the sets of machines."""
    held = reserve(cloud, "held", 2)
    uniform = ScaleSet(cloud, "h100", serving=True, reservation_group=held).register()
    mixed = ScaleSet(cloud, "mixed", mode="Flexible", serving=True).register()
    nodes = ScaleSet(cloud, "aks", group=NODES, serving=True, tags={"aks-managed-poolName": "h100"}).register()
    AgentPool(cloud, "h100", nodes).register()
    StandbyPool(cloud, "warm", uniform, max_ready=2).register().set_standby(2)
    metrics = monitor(cloud)
    metrics.set(NAMESPACE, "ActiveMessages", 0, "prompts")
    ml = Deployment(cloud, "h100", start_s=0.0).register(metrics)
    Setting(cloud, ml.path).register()
    account = Account(cloud, [Ptu("chat", 15)], change_s=0.0).register()
    metrics.set(account.path, "ModelRequests", 60, "chat")
    metrics.set(account.path, "ModelRequests", 6, f"chat{SPILLED}")
    for name in ("ProvisionedUtilization", "InputTokens", "OutputTokens"):
        metrics.set(account.path, name, 60, "chat")
    namespace.queues["prompts"] = Counted()
    namespace.subscriptions["answers", "workers"] = Counted(active=3)
    return [uniform, mixed, nodes]


async def use_all_adapters(
    cloud: Azure, namespace: Bus, context: AdapterContext, sets: Sequence[ScaleSet]
) -> Sequence[Permit]:
    """Read and write with every adapter, follow the writes, and return the permits."""
    account = cloud.account()
    pools: list[Any] = [
        Vmss(resource_group="llm", name="h100", account=account),
        Vmss(resource_group="llm", name="mixed", account=account),
        AksAgentPool(resource_group="llm", cluster="llm", agent_pool="h100", account=account),
        VmssStandbyPool(resource_group="llm", name="warm", account=account),
        AzureMlDeployment(
            resource_group="llm",
            workspace="llm",
            endpoint="chat",
            deployment="h100",
            native="take_over",
            account=account,
        ),
        AzureOpenAiPtu(
            resource_group="llm",
            resource="llm",
            deployment="chat",
            release_capacity=True,
            change_interval_s=0.0,
            account=account,
        ),
    ]
    permits: list[Permit] = []
    for spec, its_set in zip(pools, [*sets, *[None] * (len(pools) - len(sets))], strict=True):
        pool: Any = await open_pool(spec, context, WorkloadName("llm"), PoolName("gpus"))
        observed = (await pool.status()).value
        await pool.resize(observed.desired + spec.quantum, observed)
        if its_set is not None:
            its_set.machines[0].state = "stopped"  # evicted, so it is removed by name
        observed = (await pool.status()).value
        await pool.resize(observed.desired - spec.quantum, observed)
        permits += await pool.permits()
    place: dict[str, Any] = {"namespace": f"127.0.0.1:{namespace.port}", "resource_group": "llm", "account": account}
    sources: list[Any] = [
        ServiceBus(queue="prompts", **place),
        ServiceBus(topic="answers", subscription="workers", **place),
        AzureMonitor(
            resource=NAMESPACE,
            region="eastus",
            metrics={"visible": "ActiveMessages"},
            account=account,
            endpoint_url=account.arm,
        ),
        AzureMonitor(
            resource=ACCOUNT,
            region="eastus",
            preset="azure_openai",
            match={"ModelDeploymentName": "chat"},
            account=account,
            endpoint_url=account.arm,
        ),
    ]
    for listed in sources:
        source: Any = await open_source(listed, context)
        readings = await source.sample()
        assert all(isinstance(r, Fresh) for r in readings.values()), readings
        permits += await source.permits()
    return permits


async def test_role_grants_exactly_the_called_permissions(tmp_path: Path) -> None:
    async with azure(tmp_path) as cloud, bus(cloud.tls) as namespace, Resources() as resources:
        sets = create_resources(cloud, namespace)
        cloud.granted = tuple(GRANTED)
        permits = await use_all_adapters(cloud, namespace, AdapterContext(resources, SystemClock(), DEADLINE_S), sets)
        called = {operation for _, operation, _ in resources.calls.results}
        assert sorted(called) == sorted(GRANTED)
        actions = {p.action for p in permits}
        assert actions == set(GRANTED) - {"Microsoft.Authorization/permissions/read"}, (
            "all except the permission check itself"
        )
        assert all(p.granted for p in permits)


@pytest.mark.parametrize(
    "action",
    [
        "Microsoft.Compute/virtualMachineScaleSets/read",
        "Microsoft.Compute/virtualMachineScaleSets/write",
        "Microsoft.Compute/virtualMachineScaleSets/delete/action",
        "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/read",
        "Microsoft.Insights/autoscaleSettings/read",
        "Microsoft.ContainerService/managedClusters/agentPools/write",
        "Microsoft.StandbyPool/standbyVirtualMachinePools/runtimeViews/read",
    ],
)
async def test_missing_permission_is_named_with_its_remedy(tmp_path: Path, action: str) -> None:
    async with azure(tmp_path) as cloud, bus(cloud.tls) as namespace, Resources() as resources:
        sets = create_resources(cloud, namespace)
        cloud.granted = tuple(a for a in GRANTED if a != action)
        with pytest.raises(Misconfigured, match=r"azure-role\.json") as raised:
            await use_all_adapters(cloud, namespace, AdapterContext(resources, SystemClock(), DEADLINE_S), sets)
        assert action in str(raised.value)


async def test_check_live_reports_missing_permissions(tmp_path: Path) -> None:
    async with azure(tmp_path) as cloud, Resources() as resources:
        ScaleSet(cloud, "h100", serving=True).register()
        cloud.granted = ("Microsoft.Authorization/*/read", "microsoft.compute/*/read")
        spec = Vmss(resource_group="llm", name="h100", account=cloud.account())
        pool: Any = await open_pool(
            spec, AdapterContext(resources, SystemClock(), DEADLINE_S), WorkloadName("llm"), PoolName("gpus")
        )
        permits = {p.action: p.granted for p in await pool.permits()}
        assert permits["Microsoft.Compute/virtualMachineScaleSets/read"] is True
        assert permits["Microsoft.Compute/virtualMachineScaleSets/write"] is False
        assert permits["Microsoft.Insights/autoscaleSettings/read"] is False


async def test_zero_is_absent_without_permission_to_read_metrics(tmp_path: Path) -> None:
    async with azure(tmp_path) as cloud, bus(cloud.tls) as namespace, Resources() as resources:
        create_resources(cloud, namespace)
        cloud.granted = tuple(a for a in GRANTED if a != "Microsoft.Insights/metrics/read")
        spec = ServiceBus(
            namespace=f"127.0.0.1:{namespace.port}", queue="prompts", resource_group="llm", account=cloud.account()
        )
        source = await open_source(spec, AdapterContext(resources, SystemClock(), DEADLINE_S))
        reading = (await source.sample())["visible"]
        assert isinstance(reading, Absent)
        assert "Microsoft.Insights/metrics/read" in reading.reason


def test_role_has_no_wildcard_and_no_data_actions() -> None:
    assert not [a for a in GRANTED if "*" in a]
    assert ROLE["DataActions"] == []
    assert sorted(GRANTED) == GRANTED
