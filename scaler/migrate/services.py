"""Translates KEDA's triggers on HTTP services and databases to sources."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from scaler.masking import is_secret_name
from scaler.migrate import promql
from scaler.migrate.autoscaler_ir import Signal, SourceDraft
from scaler.migrate.brokers import verified_tls, without_secrets
from scaler.migrate.findings import Unsupported
from scaler.migrate.manifest_reader import Cursor
from scaler.migrate.options import MigrationOptions, authentication
from scaler.migrate.queues import METRIC_TYPES, TargetKeys, TriggerReading

API: Final = TargetKeys("targetValue", 1.0, "activationTargetValue")
QUERY: Final = TargetKeys("targetQueryValue", 1.0, "activationTargetQueryValue")
UNENCRYPTED: Final = frozenset({"", "allow", "disable", "prefer"})
"""Values of ``sslmode`` that need no TLS."""
PLAIN_PATH: Final = re.compile(r"^[A-Za-z0-9_:-]+(\.[A-Za-z0-9_:-]+)*$")
"""A path of GJSON without queries, modifiers and wildcards."""


def metrics_api(trigger: Cursor, metadata: Cursor, options: MigrationOptions) -> TriggerReading:
    """Read metrics-api on one number of a JSON document."""
    remarks = authentication(trigger, options)[1]
    url, location = metadata.text("url", required=True) or "http://service", metadata.text("valueLocation") or ""
    parts = urlsplit(url)
    secret = parts.username is not None or any(is_secret_name(name) for name, _ in parse_qsl(parts.query))
    unsupported = {
        "url": "contains a secret, which is not copied" if secret else "",
        "format": "must be json" if (metadata.text("format") or "json") != "json" else "",
        "method": "must be GET" if (metadata.text("method") or "GET") != "GET" else "",
        "valueLocation": "must be names separated by dots" if not PLAIN_PATH.match(location) else "",
        "aggregateFromKubeServiceEndpoints": "adds up the replies of all pods"
        if metadata.flag("aggregateFromKubeServiceEndpoints")
        else "",
    }
    for key, rule in unsupported.items():
        if rule:
            metadata.skip(*metadata.data)
            hint = "configure an http_json source by hand, or export the number to Prometheus"
            raise Unsupported(metadata.place_of(key), rule, hint)
    if metadata.has("authMode", "authModes"):
        key = "authMode" if metadata.has("authMode") else "authModes"
        hint = "set access.bearer_token, access.secret_headers, or access.username and access.password"
        rule = "the daemon needs its own secret to authenticate"
        remarks.append(metadata.reporter.lost(metadata.place_of(key), rule, hint))
    remarks += verified_tls(metadata)
    metadata.skip("authMode", "authModes", "aggregationType", "timeout", "keyParamName", "apiKeyMethod")
    name = promql.identifier(trigger.text("name") or location.rpartition(".")[2], options.quantity_names)
    values = {name: "/" + location.replace(".", "/")}
    source = SourceDraft("http_json", (("url", url), ("values", values)), tuple(remarks))
    return _signal(trigger, metadata, source, name, API), []


def postgresql(trigger: Cursor, metadata: Cursor, options: MigrationOptions) -> TriggerReading:
    """Read postgresql on the number that a query returns."""
    remarks = authentication(trigger, options)[1]
    settings: list[tuple[str, Any]] = []
    for setting, key in (("host", "host"), ("port", "port"), ("database", "dbName"), ("username", "userName")):
        value = metadata.integer(key, None) if key == "port" else metadata.text(key)
        if value is None:
            in_secret = metadata.has("connection", "connectionFromEnv")
            metadata.skip(*metadata.data)
            rule = "is only in the connection string, which is not copied" if in_secret else "is required"
            raise Unsupported(metadata.place_of(key), rule, "set host, port, dbName and userName")
        settings.append((setting, value))
    settings.append(("query", metadata.text("query", required=True) or "SELECT 0"))
    mode = metadata.text("sslmode") or ""
    if mode not in UNENCRYPTED:
        settings.append(("tls", {}))
        rule = f"{mode} becomes tls: {{}}, which verifies the certificate and the host name"
        remarks.append(metadata.reporter.differs(metadata.place_of("sslmode"), rule, "set tls.ca_file"))
    remarks += without_secrets(metadata, "connection", "connectionFromEnv")
    name = promql.identifier(trigger.text("name") or metadata.text("metricName") or "rows", options.quantity_names)
    settings.append(("columns", [name]))
    source = SourceDraft("postgresql", tuple(settings), tuple(remarks))
    return _signal(trigger, metadata, source, name, QUERY), []


def _signal(trigger: Cursor, metadata: Cursor, source: SourceDraft, name: str, keys: TargetKeys) -> Signal:
    """Return the signal of a number with a required target."""
    return Signal(
        place=trigger.place,
        type=str(trigger.data["type"]),
        source=source,
        quantities=(name,),
        target=float(metadata.number(keys.target, exclusive=True) or keys.default),
        label=keys.target,
        target_type=trigger.choice("metricType", METRIC_TYPES, "average_value"),  # type: ignore[arg-type]
        activation=float(metadata.number(keys.activation, 0.0)),
    )
