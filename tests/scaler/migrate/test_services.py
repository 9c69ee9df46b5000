"""Import of KEDA's triggers on HTTP services and databases."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scaler.clouds.tls import Tls
from scaler.config.kinds.http_json import HttpJson
from scaler.config.kinds.postgresql import PostgreSql
from scaler.config.problems import ConfigError
from tests.scaler.migrate.test_queues import import_trigger, trigger_of

API: dict[str, Any] = {
    "type": "metrics-api",
    "metadata": {"url": "http://gateway.llm/stats?all=1", "valueLocation": "queues.0.waiting", "targetValue": "8"},
}


def test_metrics_api_imports_url_pointer_and_target(tmp_path: Path) -> None:
    result, spec = import_trigger(tmp_path, API, activationTargetValue="2")
    (source,) = spec.sources.values()
    assert source == HttpJson(url="http://gateway.llm/stats?all=1", values={"waiting": "/queues/0/waiting"})
    trigger = trigger_of(spec)
    assert (trigger.quantities, trigger.target, trigger.activation) == (("waiting",), 8, 2)
    assert not result.findings.lost


@pytest.mark.parametrize(
    ("metadata", "rule"),
    [
        ({"url": "http://g/stats?apikey=hunter2"}, "contains a secret, which is not copied"),
        ({"url": "http://u:hunter2@g/stats"}, "contains a secret, which is not copied"),
        ({"format": "xml"}, "must be json"),
        ({"valueLocation": "queues.#.waiting"}, "must be names separated by dots"),
        ({"aggregateFromKubeServiceEndpoints": "true"}, "adds up the replies of all pods"),
    ],
)
def test_metrics_api_parts_without_counterpart_are_named(tmp_path: Path, metadata: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConfigError) as error:
        import_trigger(tmp_path, API, **metadata)
    assert rule in str(error.value)
    assert "hunter2" not in str(error.value)


def test_metrics_api_authentication_is_named(tmp_path: Path) -> None:
    result, _ = import_trigger(tmp_path, API, authMode="bearer")
    assert [omission.names for omission in result.findings.lost] == [("authMode",)]


DATABASE: dict[str, Any] = {
    "type": "postgresql",
    "metadata": {
        "host": "postgresql.llm",
        "port": "5432",
        "dbName": "jobs",
        "userName": "keda",
        "sslmode": "disable",
        "query": "SELECT count(*) FROM jobs",
        "targetQueryValue": "4.5",
    },
}


@pytest.mark.parametrize(("mode", "tls"), [("disable", None), (..., None), ("require", Tls()), ("verify-full", Tls())])
def test_postgresql_imports_server_query_and_target(tmp_path: Path, mode: Any, tls: Tls | None) -> None:
    _, spec = import_trigger(tmp_path, DATABASE, sslmode=mode, activationTargetQueryValue="2")
    (source,) = spec.sources.values()
    assert source == PostgreSql(
        host="postgresql.llm",
        port=5432,
        database="jobs",
        username="keda",
        query="SELECT count(*) FROM jobs",
        columns=("rows",),
        tls=tls,
    )
    trigger = trigger_of(spec)
    assert (trigger.quantities, trigger.target, trigger.activation) == (("rows",), 4.5, 2)


def test_postgresql_password_is_named_and_never_copied(tmp_path: Path) -> None:
    result, _ = import_trigger(tmp_path, DATABASE, password="hunter2-xyz")
    assert "hunter2" not in result.text
    assert [omission.names for omission in result.findings.lost] == [("password",)]


def test_postgresql_connection_string_is_not_copied(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        import_trigger(tmp_path, DATABASE, host=..., connection="postgresql://keda:hunter2@p/jobs")
    assert "is only in the connection string, which is not copied" in str(error.value)
    assert "hunter2" not in str(error.value)
