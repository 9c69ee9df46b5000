"""Settings of sources on queues, databases and services: combinations that are refused, each with its key."""

from __future__ import annotations

from typing import Any

import pytest

from scaler.clouds.tls import Tls
from scaler.config.kinds.http_json import HttpJson
from scaler.config.kinds.kafka import Kafka
from scaler.config.kinds.postgresql import PostgreSql
from scaler.config.kinds.redis import Redis

REDIS: dict[str, Any] = {"host": "redis"}
KAFKA: dict[str, Any] = {"bootstrap_servers": ("k:9092",), "topic": "prompts", "group": "llm"}
POSTGRESQL: dict[str, Any] = {"host": "p", "database": "d", "username": "u", "query": "SELECT 1"}
JSON: dict[str, Any] = {"url": "http://g/stats"}


@pytest.mark.parametrize(
    ("spec", "key", "rule"),
    [
        (Redis(**REDIS), "", "requires either list_key or stream_key"),
        (Redis(**REDIS, list_key="a", stream_key="b"), "", "requires either list_key or stream_key"),
        (Redis(**REDIS, list_key="a", group="g"), "group", "requires stream_key"),
        (Redis(**REDIS, list_key="a", oldest_age=True), "oldest_age", "requires stream_key"),
        (Redis(**REDIS, stream_key="a", processing_key="b"), "processing_key", "requires list_key"),
        (Redis(**REDIS, list_key="a", username="u"), "username", "requires password"),
        (Kafka(**{**KAFKA, "bootstrap_servers": ()}), "bootstrap_servers", "at least one broker"),
        (Kafka(**{**KAFKA, "bootstrap_servers": ("kafka://k:9092",)}), "bootstrap_servers", "must be HOST:PORT"),
        (Kafka(**KAFKA, mechanism="PLAIN"), "mechanism", "must be set together"),
        (Kafka(**{**KAFKA, "group": ""}), "topic", "must not be empty"),
        (PostgreSql(**POSTGRESQL, columns=()), "columns", "at least one column"),
        (PostgreSql(**POSTGRESQL, columns=("a", "a")), "columns", "twice"),
        (PostgreSql(**POSTGRESQL, columns=("a-b",)), "columns", "not a valid quantity name"),
        (HttpJson(**JSON, values={}), "values", "at least one number"),
        (HttpJson(**JSON, values={"visible": "queues.0"}), "values", "must be a JSON Pointer"),
        (HttpJson(**JSON, values={"a-b": "/a"}), "values", "not a valid quantity name"),
        (HttpJson(**JSON, values={"visible": "/a"}, divide_by={"other": 2}), "divide_by", "not in values"),
        (HttpJson(**JSON, values={"visible": "/a"}, divide_by={"visible": 0}), "divide_by", "must be above 0"),
        (Tls(key_file="key.pem"), "certificate_file", "must be set together"),
    ],
)
def test_combination_is_refused(spec: Any, key: str, rule: str) -> None:
    (problem,) = spec.problems()
    assert problem[0] == key
    assert rule in problem[1]


@pytest.mark.parametrize(
    "spec",
    [
        Redis(**REDIS, stream_key="prompts", group="llm", oldest_age=True),
        Kafka(**KAFKA),
        PostgreSql(**POSTGRESQL, columns=("visible", "oldest_age_s")),
        HttpJson(**JSON, values={"visible": "/queues/0/waiting"}, divide_by={"visible": 2}),
    ],
)
def test_complete_settings_are_accepted(spec: Any) -> None:
    assert list(spec.problems()) == []
