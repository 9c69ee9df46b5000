"""A day on Azure's managed serving, by the daemon on a counterpart with time.

Load rises, and two deployments of one Azure ML endpoint are to grow through its lock; an autoscale setting resized one
of them before. Azure refuses a growth at once, accepts another one and fails it late, and provisioned Azure OpenAI
takes the rest. Load falls: the PTUs stay for their minimum billed time, and then go. The daemon stops, and the
autoscale setting is enabled again. The journal replays with equal decisions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from policies.model import Result, RuleId, Tick
from tests.e2e.cloud_story import check_journal, ready, status_of
from tests.servers.azure import SUBSCRIPTION, Azure, azure
from tests.servers.azure_bus import Bus, Counted, bus
from tests.servers.azure_metrics import Monitor, monitor
from tests.servers.azure_ml import Deployment, Setting
from tests.servers.azure_openai import Account, Ptu
from tests.servers.daemon import Daemon, daemon, until

NAMESPACE: Final = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/llm/providers/Microsoft.ServiceBus/namespaces/127"
PER_REPLICA: Final = 5
TIMEOUT_S: Final = 180.0
MIN_BILLED_S: Final = 20.0
START_S: Final = 2.0
STOCK: Final = {"a": 1, "b": 1}
"""Instances that Azure has for each deployment."""
FIRST_WAVE: Final = 4
SECOND_WAVE: Final = 8


def document(cloud: Azure, namespace: Bus) -> dict[str, Any]:
    """Return the workload: windows of seconds, and prices that order the pools."""
    spec = cloud.account()
    keys = ("subscription_id", "credential", "tenant_id", "client_id", "token_file", "arm_url", "authority_url")
    account = {key: getattr(spec, key) for key in (*keys, "ca_file")}
    place = {"resource_group": "llm", "account": account}
    ml = {"kind": "azure_ml_deployment", "workspace": "llm", "endpoint": "chat", "lead_time_s": START_S, **place}
    ptu = {"kind": "azure_openai_ptu", "resource": "llm", "deployment": "chat", "lead_time_s": START_S, **place}
    rare = {"quantum": 1, "min_replicas": 1, "release_capacity": True, "change_interval_s": 1.0}
    queue = {"kind": "service_bus", "namespace": f"127.0.0.1:{namespace.port}", "queue": "prompts", **place}
    return {
        "workload": "llm",
        "min_replicas": 3,
        "max_replicas": 20,
        "interval_s": 2.0,
        "deadline_s": 1.8,
        "cooldown_s": 4.0,
        "slo_violation_cost_ratio": 0.01,
        "sources": {"queue": {**queue, "min_interval_s": 0.5}},
        "policies": {"messages": {"kind": "queue_depth", "target_per_replica": PER_REPLICA, "count": ["visible"]}},
        "pools": {
            "a": {**ml, "deployment": "a", "accelerator": "h100", "price_usd_per_hour": 2.0, "native": "take_over"},
            "b": {**ml, "deployment": "b", "accelerator": "a100", "price_usd_per_hour": 1.5},
            "ptu": {**ptu, **rare, "price_usd_per_hour": 4.0, "min_billed_s": MIN_BILLED_S},
        },
        "scale_up": {"max_replicas": 20},
        "scale_down": {"window_s": 4.0, "period_s": 2.0, "max_replicas": 20, "max_evidence_gap_s": 8.0},
    }


def queue(namespace: Bus, metrics: Monitor, replicas: int) -> None:
    namespace.queues["prompts"] = Counted(active=replicas * PER_REPLICA)
    metrics.set(NAMESPACE, "ActiveMessages", replicas * PER_REPLICA, "prompts")


@pytest.mark.slow
async def test_deployments_grow_through_their_locks_and_hand_everything_back(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"):
        monkeypatch.delenv(name, raising=False)
    async with azure(tmp_path) as cloud, bus(cloud.tls) as namespace:
        metrics = monitor(cloud)
        a = Deployment(cloud, "a", start_s=START_S, late_stock=STOCK["a"]).register(metrics)
        b = Deployment(cloud, "b", start_s=START_S, stock=STOCK["b"]).register(metrics)
        llm = Account(cloud, [Ptu("chat", 1)], minimum=1, step=1, change_s=1.0).register()
        setting = Setting(cloud, a.path).register()
        config = tmp_path / "config"
        config.mkdir()
        settings = {"listen": "127.0.0.1:0", "journal": {"directory": str(tmp_path / "journal")}}
        (config / "daemon.yaml").write_text(yaml.safe_dump({"daemon": settings}))
        (config / "llm.yaml").write_text(yaml.safe_dump(document(cloud, namespace)))
        queue(namespace, metrics, FIRST_WAVE)
        async with daemon(str(config), journal=tmp_path / "journal") as d:
            await until(lambda: ready(d, "a", "b", "ptu") >= FIRST_WAVE, TIMEOUT_S, d)
            assert not setting.enabled, "the autoscale setting is disabled before the first write"
            queue(namespace, metrics, SECOND_WAVE)
            await until(lambda: ready(d, "a", "b", "ptu") >= SECOND_WAVE, TIMEOUT_S, d)
            assert llm.deployments[0].capacity >= SECOND_WAVE - sum(STOCK.values())
            await load_falls(namespace, metrics, d, [a, b], llm.deployments[0])
            assert await d.stop() == 0
            ticks = d.ticks()
        check_story(ticks, [a, b], llm)
        assert setting.enabled, "the autoscale setting resizes the deployment again"
    check_journal(tmp_path / "journal", ticks)


async def load_falls(namespace: Bus, metrics: Monitor, d: Daemon, deployments: list[Deployment], ptu: Ptu) -> None:
    queue(namespace, metrics, 0)
    await until(lambda: [ptu.capacity, *(x.capacity for x in deployments)] == [1, 1, 1], TIMEOUT_S, d)
    await until(lambda: ready(d, "a", "b", "ptu") == len(deployments) + 1, TIMEOUT_S, d)


def check_story(ticks: list[Tick], deployments: list[Deployment], llm: Account) -> None:
    shortfalls = {s.reason for t in ticks if (s := status_of(t, "a").shortfall) is not None}
    assert any("lack of Azure Machine Learning capacity" in reason for reason in shortfalls), "no late failure was told"
    refused = [o.reason for t in ticks for o in t.outcomes if o.pool == "b" and o.result is Result.OUT_OF_CAPACITY]
    assert refused, "Azure refused a growth at once"
    assert all(deployment.collisions == 0 for deployment in deployments), "a write was sent during an update"
    assert llm.collisions == 0, "a write was sent while the account was changing"
    changes = [(t.decision.at, o.after - o.before, o.result) for t in ticks for o in t.outcomes if o.pool == "ptu"]
    grown = [at for at, change, result in changes if change > 0 and result is Result.ACCEPTED]
    removed = [at for at, change, _ in changes if change < 0]
    assert removed[0] >= grown[0] + MIN_BILLED_S, "a PTU was removed within its minimum billed time"
    assert removed[-1] >= grown[-1] + MIN_BILLED_S, "the newest PTUs were removed within their minimum billed time"
    assert any(step.rule == RuleId.MIN_BILLED for t in ticks for step in t.decision.steps)
