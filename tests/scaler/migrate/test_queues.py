"""Import of KEDA's triggers on the queues of Google Cloud and Azure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from policies.model import PolicyName
from policies.model.spec import WorkloadSpec
from policies.recommend.peers.keda import Keda, Trigger
from scaler.config.kinds.azure_sources import ServiceBus
from scaler.config.kinds.gcp_sources import PubSub
from scaler.config.problems import ConfigError
from scaler.migrate.manifests import Imported
from scaler.registry import kind_of
from tests.scaler.migrate.importing import KEDA, changed, import_manifests, load_imported

PUBSUB: dict[str, Any] = {
    "type": "gcp-pubsub",
    "metadata": {"subscriptionName": "projects/my-project/subscriptions/prompts", "value": "20"},
}
BUS: dict[str, Any] = {"type": "azure-servicebus", "metadata": {"queueName": "prompts", "namespace": "llm-jobs"}}
CRON: dict[str, Any] = {
    "type": "cron",
    "metadata": {"timezone": "UTC", "start": "0 8 * * *", "end": "0 18 * * *", "desiredReplicas": "2"},
}


def import_trigger(
    folder: Path, trigger: dict[str, Any], *, native: bool = False, **metadata: Any
) -> tuple[Imported, WorkloadSpec]:
    """Import a ScaledObject with other metadata of its trigger; ... removes a key."""
    changed_trigger = changed(trigger, **{f"metadata__{k}": v for k, v in metadata.items()})
    result = import_manifests(folder, changed(KEDA, spec__triggers=[changed_trigger]), native=native)
    (spec,) = load_imported(folder, result)
    return result, spec


def trigger_of(spec: WorkloadSpec) -> Trigger:
    (policy,) = spec.policies.values()
    assert isinstance(policy, Keda)
    (trigger,) = policy.triggers
    return trigger


def test_pubsub_trigger_imports_subscription_and_target(tmp_path: Path) -> None:
    _, spec = import_trigger(tmp_path, PUBSUB, activationValue="2.5")
    (source,) = spec.sources.values()
    assert isinstance(source, PubSub)
    assert (source.project.id, source.subscription) == ("my-project", "prompts")
    assert trigger_of(spec) == Trigger(quantities=("visible",), target=20, activation=2.5)


@pytest.mark.parametrize(
    ("metadata", "quantity", "target"),
    [
        ({"value": ...}, "visible", 10),
        ({"mode": "NumUndeliveredMessages"}, "visible", 20),
        ({"mode": "OldestUnackedMessageAge", "value": "60"}, "oldest_age_s", 60),
        ({"subscriptionSize": "7", "mode": "OldestUnackedMessageAge"}, "oldest_age_s", 7),
        ({"subscriptionSize": "7", "value": ...}, "visible", 7),
    ],
    ids=["default", "by its metric", "age", "old name", "old name alone"],
)
def test_pubsub_mode_selects_quantity_and_target(
    tmp_path: Path, metadata: dict[str, Any], quantity: str, target: float
) -> None:
    trigger = trigger_of(import_trigger(tmp_path, PUBSUB, **metadata)[1])
    assert (trigger.quantities, trigger.target) == ((quantity,), target)


def test_native_import_of_message_age_is_a_metric_policy(tmp_path: Path) -> None:
    _, spec = import_trigger(tmp_path, PUBSUB, native=True)
    assert kind_of("policy", spec.policies[PolicyName("queue-depth")]) == "queue_depth"
    _, spec = import_trigger(tmp_path, PUBSUB, native=True, mode="OldestUnackedMessageAge")
    (policy,) = spec.policies.values()
    assert (kind_of("policy", policy), policy.quantity) == ("metric", "oldest_age_s")


@pytest.mark.parametrize(
    ("metadata", "settings"),
    [
        ({}, {"namespace": "llm-jobs", "queue": "prompts", "topic": None, "subscription": None}),
        ({"queueName": ..., "topicName": "t", "subscriptionName": "s"},
         {"queue": None, "topic": "t", "subscription": "s"}),
        ({"cloud": "Private", "endpointSuffix": "bus.example"}, {"namespace": "llm-jobs.bus.example"}),
    ],
    ids=["queue", "topic", "a cloud of one's own"],
)  # fmt: skip
def test_service_bus_trigger_imports_queue_or_topic(
    tmp_path: Path, metadata: dict[str, Any], settings: dict[str, Any]
) -> None:
    _, spec = import_trigger(tmp_path, BUS, **metadata)
    (source,) = spec.sources.values()
    assert isinstance(source, ServiceBus)
    assert {key: getattr(source, key) for key in settings} == settings
    assert trigger_of(spec) == Trigger(quantities=("visible",), target=5)


def test_service_bus_trigger_imports_another_azure_cloud(tmp_path: Path) -> None:
    _, spec = import_trigger(tmp_path, BUS, cloud="AzureChinaCloud")
    (source,) = spec.sources.values()
    assert source.account.cloud == "china"
    assert source.host == "llm-jobs.servicebus.chinacloudapi.cn"


@pytest.mark.parametrize(
    ("trigger", "metadata", "key"),
    [
        (PUBSUB, {"aggregation": "mean"}, "aggregation"),
        (BUS, {"connectionFromEnv": "SERVICEBUS"}, "connectionFromEnv"),
        (BUS, {"connection": "Endpoint=sb://x;SharedAccessKey=hunter2"}, "connection"),
    ],
)
def test_unsupported_queue_metadata_is_lost_without_its_secret(
    tmp_path: Path, trigger: dict[str, Any], metadata: dict[str, Any], key: str
) -> None:
    result, _ = import_trigger(tmp_path, trigger, **metadata)
    assert [p.path for p in result.findings.lost] == [f"spec.triggers[0].metadata.{key}"]
    assert "hunter2" not in result.text + "".join(map(str, result.findings.lost))


@pytest.mark.parametrize(
    ("trigger", "metadata", "key", "rule"),
    [
        (PUBSUB, {"subscriptionName": "prompts"}, "subscriptionName", "names no project"),
        (PUBSUB, {"subscriptionName": ...}, "subscriptionName", "is required"),
        (PUBSUB, {"subscriptionName": ..., "subscriptionNameFromEnv": "S"}, "subscriptionNameFromEnv", "container"),
        (PUBSUB, {"subscriptionName": ..., "topicName": "t"}, "topicName", "they wait in its subscriptions"),
        (PUBSUB, {"mode": "PullRequestCount"}, "mode", "PullRequestCount is not supported"),
        (BUS, {"namespace": ...}, "namespace", "is only in the connection string"),
        (BUS, {"useRegex": "true"}, "useRegex", "adds up all queues that match a pattern"),
        (BUS, {"cloud": "Private"}, "endpointSuffix", "is required for cloud: Private"),
        (BUS, {"cloud": "AzureGermanCloud"}, "cloud", "must be one of AzurePublicCloud"),
        (BUS, {"topicName": "t"}, "", "must have a queueName, or a topicName and a subscriptionName"),
    ],
)
def test_unreadable_queue_is_lost_among_triggers_and_an_error_alone(
    tmp_path: Path, trigger: dict[str, Any], metadata: dict[str, Any], key: str, rule: str
) -> None:
    changed_trigger = changed(trigger, **{f"metadata__{k}": v for k, v in metadata.items()})
    result = import_manifests(tmp_path, changed(KEDA, spec__triggers=[changed_trigger, CRON]))
    (lost,) = result.findings.lost
    assert lost.path == f"spec.triggers[0].metadata.{key}".rstrip(".")
    assert rule in lost.rule
    with pytest.raises(ConfigError) as caught:
        import_manifests(tmp_path, changed(KEDA, spec__triggers=[changed_trigger]))
    assert rule in str(caught.value)
