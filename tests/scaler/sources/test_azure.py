"""Azure's sources: false zeros of a throttled namespace, keys, sessions, batches, buckets."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from policies.model import Absent, Fresh
from scaler.adapters import open_source
from scaler.clouds.azure.account import AzureAccount
from scaler.config.kinds.azure_sources import AzureMonitor, ServiceBus
from scaler.config.secret import Secret
from scaler.ports import Misconfigured, Throttled
from tests.scaler.clouds.azure_place import AzureEnvironment, azure_environment
from tests.servers.azure import SUBSCRIPTION
from tests.servers.azure_bus import KEY, Bus, Counted, bus
from tests.servers.azure_metrics import SPILLED, Monitor, monitor

ROOT = f"/subscriptions/{SUBSCRIPTION}/resourceGroups/llm/providers"
NAMESPACE = f"{ROOT}/Microsoft.ServiceBus/namespaces/127"
GPUS = f"{ROOT}/Microsoft.MachineLearningServices/workspaces/w/onlineEndpoints/e/deployments/blue"

ACCOUNT = f"{ROOT}/Microsoft.CognitiveServices/accounts/llm"


@dataclass
class Scene:
    """An environment with a namespace and Azure Monitor."""

    at: AzureEnvironment
    bus: Bus
    monitor: Monitor

    async def queue(self, **more: Any) -> Any:
        spec = {"namespace": f"127.0.0.1:{self.bus.port}", "queue": "prompts", "account": self.at.cloud.account()}
        return await open_source(ServiceBus(**{**spec, "min_interval_s": 0.0, **more}), self.at.context)

    async def metrics(self, resource: str = NAMESPACE, **more: Any) -> Any:
        account = self.at.cloud.account()
        spec: dict[str, Any] = {"metrics": {"visible": "ActiveMessages"}, "endpoint_url": account.arm, **more}
        return await open_source(
            AzureMonitor(resource=resource, region="eastus", account=account, **spec), self.at.context
        )


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[Scene]:
    async with azure_environment(tmp_path) as at, bus(at.cloud.tls) as namespace:
        namespace.queues["prompts"] = Counted(active=7)
        yield Scene(at, namespace, monitor(at.cloud))


async def visible(source: Any) -> Fresh[float] | Absent:
    reading: Fresh[float] | Absent = (await source.sample())["visible"]
    return reading


# Service Bus.


async def test_zero_contradicted_by_azure_monitor_is_absent(scene: Scene) -> None:
    source = await scene.queue(resource_group="llm")
    assert isinstance(await visible(source), Fresh)
    scene.bus.static = True
    scene.monitor.set(NAMESPACE, "ActiveMessages", 7, "prompts")
    unconfirmed = await visible(source)
    assert isinstance(unconfirmed, Absent)
    assert "Azure Monitor counted 7 messages" in unconfirmed.reason
    scene.at.clock.ahead_s += 600
    assert isinstance(await visible(source), Absent), "regardless of the duration"
    scene.bus.queues["prompts"] = Counted()
    scene.monitor.set(NAMESPACE, "ActiveMessages", 0, "prompts")
    scene.at.clock.ahead_s = 0.0
    source = await scene.queue(resource_group="llm")
    scene.at.clock.ahead_s += 61
    confirmed = await visible(source)
    assert isinstance(confirmed, Fresh)
    assert confirmed.value == 0


async def test_without_azure_monitor_zero_is_accepted_after_agreeing_reads(scene: Scene) -> None:
    source = await scene.queue()
    scene.bus.static = True
    assert isinstance(await visible(source), Absent)
    scene.at.clock.ahead_s += 10
    assert isinstance(await visible(source), Absent)
    scene.bus.static = False
    assert isinstance(seven := await visible(source), Fresh)
    assert seven.value == 7
    scene.bus.queues["prompts"] = Counted()
    assert isinstance(await visible(source), Absent), "the time starts again"
    scene.at.clock.ahead_s += 21
    assert isinstance(await visible(source), Fresh)
    assert isinstance(await visible(source), Fresh), "zero stays accepted"


async def test_zero_is_accepted_at_once_if_another_count_is_not_zero(scene: Scene) -> None:
    """A throttled namespace reports zero for every count: a single nonzero count shows that it is not throttled."""
    scene.bus.queues["prompts"] = Counted(dead=3)
    readings = await (await scene.queue()).sample()
    assert (readings["visible"].value, readings["dead_letter"].value) == (0, 3)


async def test_every_kind_of_message_is_reported(scene: Scene) -> None:
    scene.bus.queues["prompts"] = Counted(active=1, scheduled=2, dead=3, transfer=4, transfer_dead=5)
    readings = await (await scene.queue()).sample()
    assert {kind: reading.value for kind, reading in readings.items()} == {
        "visible": 1,
        "delayed": 2,
        "dead_letter": 3,
        "transfer": 4,
        "transfer_dead_letter": 5,
    }


async def test_subscription_has_its_own_counts(scene: Scene) -> None:
    scene.bus.subscriptions["answers", "workers"] = Counted(active=4)
    source = await scene.queue(queue=None, topic="answers", subscription="workers")
    readings = await source.sample()
    assert readings["visible"].value == 4
    assert "delayed" not in readings


@pytest.mark.parametrize(("active", "groups"), [(3, 3), (20, 8)])
async def test_groups_in_flight_are_at_most_the_sessions(scene: Scene, active: int, groups: int) -> None:
    scene.bus.queues["prompts"] = Counted(active=active)
    readings = await (await scene.queue(sessions=8)).sample()
    assert readings["groups_in_flight"].value == groups


async def test_connection_string_authenticates_without_a_token(scene: Scene, tmp_path: Path) -> None:
    (tmp_path / "string").write_text(scene.bus.connection_string())
    secret = Secret(file=str(tmp_path / "string"))
    assert isinstance(await visible(await scene.queue(connection_string=secret)), Fresh)
    assert scene.at.cloud.tokens_refused == 0


@pytest.mark.parametrize(
    "text", ["Endpoint=sb://127.0.0.1:{port}/;SharedAccessKeyName=k;SharedAccessKey=d3Jvbmc=", "nonsense"]
)
async def test_invalid_connection_string_is_misconfigured_and_not_disclosed(
    scene: Scene, tmp_path: Path, text: str
) -> None:
    (tmp_path / "string").write_text(text.replace("{port}", str(scene.bus.port)))

    async def read() -> None:
        await visible(await scene.queue(connection_string=Secret(file=str(tmp_path / "string"))))

    with pytest.raises(Misconfigured) as raised:
        await read()
    assert KEY not in str(raised.value)
    assert "d3Jvbmc" not in str(raised.value)


async def test_missing_queue_is_misconfigured(scene: Scene) -> None:
    with pytest.raises(Misconfigured, match="it does not exist"):
        await visible(await scene.queue(queue="promts"))


async def test_throttled_namespace_has_a_retry_pause_of_two_seconds(scene: Scene) -> None:
    scene.bus.status = 429
    with pytest.raises(Throttled) as raised:
        await visible(await scene.queue())
    assert raised.value.retry_after_s == 2.0


async def test_queue_count_is_shared_by_all_sources(scene: Scene) -> None:
    sources = [await scene.queue(min_interval_s=10.0) for _ in range(5)]
    await asyncio.gather(*(s.sample() for s in sources))
    scene.at.clock.ahead_s += 9
    first = await visible(sources[0])
    assert scene.bus.requests == 1
    assert isinstance(first, Fresh)
    assert scene.at.clock.now() - first.measured_at > 8, "the reading keeps its age"
    scene.at.clock.ahead_s += 2
    await visible(sources[0])
    assert scene.bus.requests == 2


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        ({}, ""),
        ({"queue": "q", "topic": "t", "subscription": "s"}, ""),
        ({"topic": "t"}, "subscription"),
        ({"queue": "q", "subscription": "s"}, "subscription"),
        ({"queue": "q", "resource_group": "llm"}, "account.subscription_id"),
        ({"queue": "q", "max_age_s": 10.0}, "max_age_s"),
    ],
)
def test_invalid_service_bus_setting_is_reported_by_its_key(spec: dict[str, Any], key: str) -> None:
    assert [k for k, _ in ServiceBus(namespace="llm-jobs", **spec).problems()] == [key]


@pytest.mark.parametrize(
    ("namespace", "cloud", "host"),
    [
        ("llm-jobs", "public", "llm-jobs.servicebus.windows.net"),
        ("llm-jobs", "china", "llm-jobs.servicebus.chinacloudapi.cn"),
        ("llm-jobs.private.test:8443", "public", "llm-jobs.private.test:8443"),
    ],
)
def test_namespace_host_depends_on_the_cloud(namespace: str, cloud: Any, host: str) -> None:
    assert ServiceBus(namespace=namespace, queue="q", account=AzureAccount(cloud=cloud)).host == host


# Azure Monitor.


async def test_sixty_resources_are_read_in_two_calls(scene: Scene) -> None:
    resources = [f"{ROOT}/Microsoft.ServiceBus/namespaces/n{i}" for i in range(60)]
    for i, resource in enumerate(resources):
        scene.monitor.set(resource, "ActiveMessages", i)
    sources = [await scene.metrics(resource) for resource in resources]
    results = await asyncio.gather(*(visible(s) for s in sources))
    assert [f.value for f in results if isinstance(f, Fresh)] == list(range(60))
    assert sorted(scene.monitor.calls) == [10, 50]


async def test_reading_is_cached_for_30_seconds(scene: Scene) -> None:
    scene.monitor.set(NAMESPACE, "ActiveMessages", 5)
    source = await scene.metrics()
    for _ in range(3):
        await visible(source)
    assert len(scene.monitor.calls) == 1
    scene.at.clock.ahead_s += 31
    await visible(source)
    assert len(scene.monitor.calls) == 2


async def test_percentage_is_scaled_to_a_share(scene: Scene) -> None:
    scene.monitor.set(GPUS, "GpuUtilizationPercentage", 83.0)
    source = await scene.metrics(GPUS, metrics={"utilization": "GpuUtilizationPercentage"}, scale={"utilization": 0.01})
    assert (await source.sample())["utilization"].value == pytest.approx(0.83)


async def test_unscaled_percentage_is_not_a_share(scene: Scene) -> None:
    scene.monitor.set(GPUS, "GpuUtilizationPercentage", 83.0)
    source = await scene.metrics(GPUS, metrics={"utilization": "GpuUtilizationPercentage"})
    assert isinstance((await source.sample())["utilization"], Absent)


@pytest.mark.parametrize(("combine", "value"), [("sum", 9.0), ("mean", 4.5), ("max", 7.0)])
async def test_several_series_are_aggregated_as_configured(scene: Scene, combine: str, value: float) -> None:
    scene.monitor.set(NAMESPACE, "ActiveMessages", 2, "a")
    scene.monitor.set(NAMESPACE, "ActiveMessages", 7, "b")
    reading = await visible(await scene.metrics(combine=combine))
    assert isinstance(reading, Fresh)
    assert reading.value == value


async def test_filter_selects_one_series(scene: Scene) -> None:
    scene.monitor.set(NAMESPACE, "ActiveMessages", 2, "a")
    scene.monitor.set(NAMESPACE, "ActiveMessages", 7, "b")
    reading = await visible(await scene.metrics(filter="EntityName eq 'b'"))
    assert isinstance(reading, Fresh)
    assert reading.value == 7


async def test_newest_minute_without_a_value_is_not_zero(scene: Scene) -> None:
    """The value of four minutes ago is reported with its age; the filling minute is omitted."""
    scene.monitor.set(NAMESPACE, "ActiveMessages", None)
    reading = await visible(await scene.metrics())
    assert isinstance(reading, Fresh)
    assert reading.value == 99
    assert scene.at.clock.now() - reading.measured_at >= 180


async def test_each_aggregation_has_its_own_query(scene: Scene) -> None:
    scene.monitor.set(NAMESPACE, "ActiveMessages", 5)
    scene.monitor.set(NAMESPACE, "IncomingMessages", 11)
    metrics = {"visible": "ActiveMessages", "incoming": "IncomingMessages"}
    source = await scene.metrics(metrics=metrics, aggregations={"incoming": "total"})
    readings = await source.sample()
    assert (readings["visible"].value, readings["incoming"].value) == (5, 11)
    assert len(scene.monitor.calls) == 2


async def test_past_readings_are_means_over_equal_steps(scene: Scene) -> None:
    """Three days in which each minute's value is its minute of the hour, so every half hour's mean is known."""
    scene.monitor.history["ActiveMessages"] = lambda minute: float(minute % 60)
    source = await scene.metrics()
    until = scene.at.clock.now() // 3600 * 3600
    means = await source.past(["visible", "unknown"], until - 3 * 86_400, until, 1800.0)
    assert means["visible"] == pytest.approx([14.5, 44.5] * 72)
    assert len(means["unknown"]) == 144
    assert all(math.isnan(v) for v in means["unknown"])
    assert len(scene.monitor.calls) == 3, "one call per day"


async def test_step_with_a_missing_minute_is_nan(scene: Scene) -> None:
    until = scene.at.clock.now() // 3600 * 3600
    lost = int(until // 60) - 31
    scene.monitor.history["ActiveMessages"] = lambda minute: None if minute == lost else 4.0
    means = (await (await scene.metrics()).past(["visible"], until - 3600, until, 900.0))["visible"]
    assert [math.isnan(v) for v in means] == [False, True, False, False]


async def test_unaligned_step_is_the_mean_of_the_minutes_that_it_overlaps(scene: Scene) -> None:
    began = scene.at.clock.now() // 3600 * 3600
    scene.monitor.history["ActiveMessages"] = lambda minute: float(minute - began // 60)
    means = (await (await scene.metrics()).past(["visible"], began + 30, began + 210, 90.0))["visible"]
    assert list(means) == [0.5, 2.5]


OPENAI = (
    "AzureOpenAIProvisionedManagedUtilizationV2",
    "AzureOpenAIRequests",
    "ProcessedPromptTokens",
    "GeneratedTokens",
)
FOUNDRY = ("ProvisionedUtilization", "ModelRequests", "InputTokens", "OutputTokens")


@pytest.mark.parametrize("names", [OPENAI, FOUNDRY], ids=["OpenAI", "AIServices"])
async def test_preset_reads_the_names_that_the_resource_has(scene: Scene, names: tuple[str, ...]) -> None:
    utilization, requests, prompt, generated = names
    for name, value in ((utilization, 130.0), (requests, 60), (prompt, 6000), (generated, 600)):
        scene.monitor.set(ACCOUNT, name, value, "chat")
        scene.monitor.set(ACCOUNT, name, 7777, "other")
    scene.monitor.set(ACCOUNT, requests, 30, f"chat{SPILLED}")
    source = await scene.metrics(ACCOUNT, metrics={}, preset="azure_openai", match={"ModelDeploymentName": "chat"})
    values = {quantity: reading.value for quantity, reading in (await source.sample()).items()}
    assert values == pytest.approx(
        {
            "provisioned_utilization": 1.3,
            "requests_per_s": 1.0,
            "spillover_requests_per_s": 0.5,
            "prompt_tokens_per_s": 100.0,
            "generation_tokens_per_s": 10.0,
        }
    )
    scene.at.clock.ahead_s += 60
    scene.monitor.ahead_s += 60
    await source.sample()
    assert scene.at.cloud.requests["Microsoft.Insights/metricDefinitions/read"] == 1, "the names are looked up once"
    past = await source.past(["requests_per_s"], scene.at.clock.now() - 3600, scene.at.clock.now(), 1800.0)
    assert len(past["requests_per_s"]) == 2


async def test_metric_that_the_resource_lacks_is_absent(scene: Scene) -> None:
    scene.monitor.set(ACCOUNT, "ModelRequests", 60, "chat")
    source = await scene.metrics(ACCOUNT, metrics={}, preset="azure_openai", match={"ModelDeploymentName": "chat"})
    readings = await source.sample()
    assert readings["requests_per_s"].value == 1.0
    assert readings["prompt_tokens_per_s"] == Absent("the resource has no metric ProcessedPromptTokens or InputTokens")


async def test_minute_without_traffic_is_absent(scene: Scene) -> None:
    scene.monitor.set(GPUS, "RequestsPerMinute", 120)
    scene.monitor.set(GPUS, "GpuUtilizationPercentage", 50)
    source = await scene.metrics(GPUS, metrics={}, preset="azure_ml_deployment")
    readings = await source.sample()
    assert (readings["requests_per_s"].value, readings["utilization"].value) == (2.0, 0.5)
    assert isinstance(readings["latency_p95_s"], Absent)
    scene.monitor.empty = True
    scene.at.clock.ahead_s += 31
    assert all(isinstance(reading, Absent) for reading in (await source.sample()).values())


@pytest.mark.parametrize(
    ("spec", "key"),
    [
        ({"metrics": {}}, "metrics"),
        ({"preset": "azure_openai", "resource": ACCOUNT}, "match"),
        ({"match": {"ModelDeploymentName": "chat"}}, "match"),
        ({"preset": "azure_openai", "resource": ACCOUNT, "match": {"ModelDeploymentName": "a' or 'b"}}, "match"),
        ({"preset": "azure_ml_deployment"}, "resource"),
        ({"metrics": {"a b": "ActiveMessages"}}, "metrics"),
        ({"scale": {"other": 0.01}}, "scale"),
        ({"aggregations": {"other": "total"}}, "aggregations"),
        ({"account": AzureAccount(subscription_id="00000000-0000-0000-0000-000000000000")}, "account.subscription_id"),
    ],
)
def test_invalid_azure_monitor_setting_is_reported_by_its_key(spec: dict[str, Any], key: str) -> None:
    whole = {"resource": NAMESPACE, "region": "eastus", "metrics": {"visible": "ActiveMessages"}, **spec}
    assert [k for k, _ in AzureMonitor(**whole).problems()] == [key]


def test_metric_namespace_is_the_resource_type() -> None:
    spec = AzureMonitor(resource=GPUS, region="eastus", metrics={"a": "A"})
    assert spec.metric_namespace == "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments"
