"""Import of KEDA's triggers on message brokers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scaler.clouds.tls import Tls
from scaler.config.kinds.kafka import Kafka
from scaler.config.kinds.rabbitmq import RabbitMq
from scaler.config.kinds.redis import Redis
from scaler.config.problems import ConfigError
from tests.scaler.migrate.test_queues import import_trigger, trigger_of

LIST: dict[str, Any] = {"type": "redis", "metadata": {"address": "redis.llm:6379", "listName": "prompts"}}
STREAM: dict[str, Any] = {
    "type": "redis-streams",
    "metadata": {"host": "redis.llm", "port": "6380", "stream": "prompts", "consumerGroup": "llm", "lagCount": "8"},
}


def test_redis_list_imports_server_key_and_target(tmp_path: Path) -> None:
    result, spec = import_trigger(
        tmp_path, LIST, listLength="20", activationListLength="3", databaseIndex="2", enableTLS="true"
    )
    (source,) = spec.sources.values()
    assert source == Redis(host="redis.llm", port=6379, database=2, tls=Tls(), list_key="prompts")
    trigger = trigger_of(spec)
    assert (trigger.quantities, trigger.target, trigger.activation) == (("visible",), 20, 3)
    assert not result.findings.lost


@pytest.mark.parametrize(
    ("metadata", "quantity", "target"),
    [
        ({}, "visible", 8),
        ({"lagCount": ..., "pendingEntriesCount": "3"}, "in_flight", 3),
        ({"lagCount": ..., "consumerGroup": ..., "streamLength": "50"}, "visible", 50),
        ({"pendingEntriesCount": "3"}, "visible", 8),
    ],
    ids=["lag", "pending", "length", "lag wins"],
)
def test_redis_stream_counts_as_keda_does(
    tmp_path: Path, metadata: dict[str, Any], quantity: str, target: float
) -> None:
    _, spec = import_trigger(tmp_path, STREAM, **metadata)
    (source,) = spec.sources.values()
    assert isinstance(source, Redis)
    assert (source.host, source.port, source.stream_key) == ("redis.llm", 6380, "prompts")
    assert (trigger_of(spec).quantities, trigger_of(spec).target) == ((quantity,), target)


def test_passwords_are_named_and_never_copied(tmp_path: Path) -> None:
    result, _ = import_trigger(tmp_path, LIST, password="hunter2-xyz", unsafeSsl="true")
    assert "hunter2" not in result.text
    assert [omission.names for omission in result.findings.lost] == [("password",), ("unsafeSsl",)]


@pytest.mark.parametrize(
    ("trigger", "metadata", "rule"),
    [
        (LIST, {"address": ..., "addressFromEnv": "REDIS"}, "names a variable of the target's container"),
        (LIST, {"address": "a:1,b:2"}, "must be HOST:PORT of one server"),
    ],
)
def test_unusable_server_is_reported(
    tmp_path: Path, trigger: dict[str, Any], metadata: dict[str, Any], rule: str
) -> None:
    with pytest.raises(ConfigError) as error:
        import_trigger(tmp_path, trigger, **metadata)
    assert rule in str(error.value)


def test_native_policy_of_a_broker_counts_messages_per_replica(tmp_path: Path) -> None:
    _, spec = import_trigger(tmp_path, LIST, native=True)
    (policy,) = spec.policies.values()
    assert type(policy).__name__ == "QueueDepth"


RABBIT: dict[str, Any] = {
    "type": "rabbitmq",
    "metadata": {"host": "http://rabbitmq.llm:15672/", "queueName": "prompts", "mode": "QueueLength", "value": "10"},
}


@pytest.mark.parametrize(
    ("metadata", "url", "vhost", "quantities"),
    [
        ({}, "http://rabbitmq.llm:15672", "/", ("visible", "in_flight")),
        ({"excludeUnacknowledged": "true"}, "http://rabbitmq.llm:15672", "/", ("visible",)),
        ({"host": "https://r/proxy/chat%2Fllm"}, "https://r/proxy", "chat/llm", ("visible", "in_flight")),
        ({"host": "http://r:15672", "vhostName": "llm"}, "http://r:15672", "llm", ("visible", "in_flight")),
        ({"host": "amqp://u:hunter2@r:5672/llm"}, "http://r:15672", "llm", ("visible",)),
        ({"host": "amqps://r:5671"}, "https://r:15671", "/", ("visible",)),
    ],
    ids=["default", "only ready", "path and vhost", "vhostName", "amqp", "amqps"],
)
def test_rabbitmq_imports_url_virtual_host_and_counts(
    tmp_path: Path, metadata: dict[str, Any], url: str, vhost: str, quantities: tuple[str, ...]
) -> None:
    result, spec = import_trigger(tmp_path, RABBIT, **metadata)
    (source,) = spec.sources.values()
    assert source == RabbitMq(url=url, queue="prompts", vhost=vhost)
    assert (trigger_of(spec).quantities, trigger_of(spec).target) == (quantities, 10)
    assert "hunter2" not in result.text


def test_rabbitmq_queue_length_is_the_old_name_of_its_target(tmp_path: Path) -> None:
    _, spec = import_trigger(tmp_path, RABBIT, mode=..., value=..., queueLength="7")
    assert trigger_of(spec).target == 7


@pytest.mark.parametrize(
    ("metadata", "rule"),
    [
        ({"mode": "MessageRate"}, "MessageRate is not supported"),
        ({"useRegex": "true"}, "adds up all queues that match a pattern"),
        ({"host": ..., "hostFromEnv": "RABBIT"}, "names a variable of the target's container"),
    ],
)
def test_rabbitmq_parts_without_counterpart_are_named(tmp_path: Path, metadata: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConfigError) as error:
        import_trigger(tmp_path, RABBIT, **metadata)
    assert rule in str(error.value)


KAFKA: dict[str, Any] = {
    "type": "kafka",
    "metadata": {
        "bootstrapServers": "kafka-0:9092, kafka-1:9092",
        "topic": "prompts",
        "consumerGroup": "llm",
        "lagThreshold": "50",
    },
}


@pytest.mark.parametrize(
    ("metadata", "settings"),
    [
        ({}, {}),
        ({"offsetResetPolicy": "latest", "tls": "disable"}, {}),
        ({"offsetResetPolicy": "earliest", "tls": "enable"}, {"without_commit": "earliest", "tls": Tls()}),
    ],
)
def test_kafka_imports_brokers_topic_group_and_target(
    tmp_path: Path, metadata: dict[str, Any], settings: dict[str, Any]
) -> None:
    result, spec = import_trigger(tmp_path, KAFKA, activationLagThreshold="3", **metadata)
    (source,) = spec.sources.values()
    assert source == Kafka(bootstrap_servers=("kafka-0:9092", "kafka-1:9092"), topic="prompts", group="llm", **settings)
    trigger = trigger_of(spec)
    assert (trigger.quantities, trigger.target, trigger.activation) == (("visible",), 50, 3)
    assert not result.findings.lost


def test_kafka_password_is_named_with_its_mechanism(tmp_path: Path) -> None:
    result, _ = import_trigger(tmp_path, KAFKA, sasl="scram_sha512", username="u", password="hunter2-xyz")
    (omission,) = result.findings.lost
    assert (omission.names, "mechanism: SCRAM-SHA-512" in omission.hint) == (("password",), True)
    assert "hunter2" not in result.text


@pytest.mark.parametrize(
    ("metadata", "rule"),
    [
        ({"topic": ...}, "topic: is required"),
        ({"bootstrapServers": ..., "bootstrapServersFromEnv": "K"}, "names a variable of the target's container"),
    ],
)
def test_kafka_without_topic_or_brokers_is_reported(tmp_path: Path, metadata: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConfigError) as error:
        import_trigger(tmp_path, KAFKA, **metadata)
    assert rule in str(error.value)
