"""Reads KEDA's triggers by type.

It reports the ones that cannot be translated, each with the remedy.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from scaler.migrate import brokers, cron, promql, services
from scaler.migrate.autoscaler_ir import CronSchedule, Signal, SourceDraft
from scaler.migrate.cloud_metrics import cloudwatch
from scaler.migrate.findings import Remark, Unsupported
from scaler.migrate.hpa import PodUsage, usage_signal
from scaler.migrate.manifest_reader import Cursor, quantity
from scaler.migrate.options import MigrationOptions, authentication
from scaler.migrate.queues import METRIC_TYPES, azure_servicebus, gcp_pubsub, sqs
from scaler.registry import did_you_mean

PUBLIC_HEADERS: Final = frozenset({"x-scope-orgid", "accept", "user-agent"})
"""Headers that hold no secret."""
ADDRESS: Final = re.compile(r"^(https?://)([^/@\s]*@)?([^/@\s?#]+(?:/[^\s?#]*)?)$")
EXPORTED: Final = (
    "export it to Prometheus and import a prometheus trigger, or add a source for it; without it the workload may get"
    " fewer replicas than today"
)


def read(trigger: Cursor, options: MigrationOptions) -> tuple[Signal | CronSchedule | None, list[Remark]]:
    """Return a trigger's signal or schedule, or None where it cannot be read, and remarks."""
    kind = trigger.text("type", required=True)
    if kind is None:
        return None, []
    if kind not in READERS:
        rule = f"{kind!r} is not a supported trigger"
        near = did_you_mean(kind, list(READERS))
        hint = f"{near} Otherwise {EXPORTED}" if near else EXPORTED
        trigger.skip("metadata", "authenticationRef", "metricType", "name", "useCachedMetrics")
        return None, [trigger.reporter.lost(trigger.place_of("type"), rule, hint, names=(kind,)), *trigger.unread()]
    metadata = trigger.mapping("metadata", required=True)
    metadata.secret = True
    try:
        reading, remarks = READERS[kind](trigger, metadata, options)
    except Unsupported as e:
        return None, [trigger.reporter.lost(e.place, e.rule, e.hint, names=(kind,))]
    if trigger.flag("useCachedMetrics"):
        rule = "has no counterpart: each tick reads each source once"
        remarks.append(trigger.reporter.differs(trigger.place_of("useCachedMetrics"), rule))
    trigger.skip("name", "metricType")
    return reading, [*remarks, *metadata.unread(), *trigger.unread()]


TriggerReading = tuple[Signal | CronSchedule | None, list[Remark]]


def _prometheus(trigger: Cursor, metadata: Cursor, options: MigrationOptions) -> TriggerReading:
    remarks: list[Remark] = []
    query = metadata.text("query", required=True) or ""
    source = _server(trigger, metadata, options)
    target = metadata.number("threshold", exclusive=True) or 1.0
    if metadata.flag("ignoreNullValues", default=True):
        rule = "is true: KEDA counts an empty result as 0; here it counts as missing and blocks scale-in"
        hint = "if no series means no work, write the query as (...) or vector(0)"
        remarks.append(metadata.reporter.differs(metadata.place_of("ignoreNullValues"), rule, hint))
    for key, rule in (
        ("namespace", "is a request parameter that the prometheus source does not send"),
        ("queryParameters", "are request parameters that the prometheus source does not send"),
    ):
        if metadata.has(key):
            remarks.append(metadata.reporter.lost(metadata.place_of(key), rule, "select by a label of the query"))
    if metadata.has("timeout"):
        rule = "becomes the workload's deadline_s, which applies to all reads"
        remarks.append(metadata.reporter.differs(metadata.place_of("timeout"), rule))
    metadata.skip("namespace", "queryParameters", "timeout", "metricName", "awsRegion", "identityOwner")
    name = promql.identifier(
        trigger.text("name") or metadata.text("metricName") or _name_of(query), options.quantity_names
    )
    signal = Signal(
        place=trigger.place,
        type="prometheus",
        source=source,
        quantities=(name,),
        target=float(target),
        label="threshold",
        target_type=trigger.choice("metricType", METRIC_TYPES, "average_value"),  # type: ignore[arg-type]
        activation=float(metadata.number("activationThreshold", 0.0)),
        queries={name: query},
        remarks=tuple(remarks),
    )
    return signal, []


def _name_of(query: str) -> str:
    """Return the name of the first metric in a query."""
    words = re.findall(r"[a-zA-Z_:][a-zA-Z0-9_:]*(?=\s*[{\[]|\s*\)|\s*$)", query)
    return next((w for w in words if w not in {"by", "without", "sum", "avg"}), "value")


def _server(trigger: Cursor, metadata: Cursor, options: MigrationOptions) -> SourceDraft:
    """Return the server of a prometheus trigger, without the secrets in its settings."""
    remarks: list[Remark] = []
    address = metadata.text("serverAddress", required=True) or "http://prometheus"
    parts = ADDRESS.match(address.rstrip("/"))
    if parts is None:
        metadata.report_error("serverAddress", "must be an http or https URL without a query")
        return SourceDraft("prometheus", (("url", "http://prometheus"),))
    if parts[2]:
        rule = "contains a user name and password, which are not copied"
        remarks.append(
            metadata.reporter.lost(metadata.place_of("serverAddress"), rule, "set access.username and access.password")
        )
    headers: dict[str, str] = {}
    for pair in (metadata.text("customHeaders") or "").split(","):
        name, _, value = (part.strip() for part in pair.partition("="))
        if name.lower() in PUBLIC_HEADERS:
            headers[name] = value
        elif name:
            rule = f"{name} may hold a secret and is not copied"
            remarks.append(
                metadata.reporter.lost(metadata.place_of("customHeaders"), rule, "set access.headers or bearer_token")
            )
    if metadata.has("cortexOrgID"):
        headers["X-Scope-OrgID"] = metadata.text("cortexOrgID") or ""
    metadata.skip("cortexOrgID")
    if metadata.flag("unsafeSsl"):
        rule = "has no counterpart: certificates are always verified"
        remarks.append(metadata.reporter.lost(metadata.place_of("unsafeSsl"), rule, "set access.ca_file"))
    modes = metadata.text("authModes")
    if modes:
        rule = f"{modes}: the daemon needs its own secret to authenticate"
        hint = "set access.bearer_token: {env: NAME}, or access.username and access.password"
        remarks.append(metadata.reporter.lost(metadata.place_of("authModes"), rule, hint))
    remarks += authentication(trigger, options)[1]
    settings: list[tuple[str, Any]] = [("url", parts[1] + parts[3])]
    if headers:
        settings.append(("access", {"headers": headers}))
    return SourceDraft("prometheus", tuple(settings), tuple(remarks))


def _resource(trigger: Cursor, metadata: Cursor, options: MigrationOptions) -> TriggerReading:
    """Read cpu or memory, which KEDA passes to the HPA."""
    name = str(trigger.data["type"])
    kind = trigger.text("metricType") or metadata.text("type") or "Utilization"
    metadata.skip("type")
    value = quantity(metadata.raw("value"))
    if kind not in {"Utilization", "AverageValue"}:
        trigger.report_error("metricType", "must be Utilization or AverageValue for cpu and memory")
    if value is None or value <= 0:
        metadata.report_error("value", "is required: a quantity above 0")
        return None, []
    share = value / 100 if kind == "Utilization" else None
    remarks = authentication(trigger, options)[1]
    metadata.skip("activationValue")
    use = PodUsage(name, f"value, {kind}", share, value, metadata.text("containerName"))
    return usage_signal(trigger, "type", use, options), remarks


def _cron(trigger: Cursor, metadata: Cursor, _: MigrationOptions) -> TriggerReading:
    zone, replicas = metadata.text("timezone", required=True), metadata.integer("desiredReplicas", None)
    start, end = metadata.text("start", required=True), metadata.text("end", required=True)
    if not metadata.has("desiredReplicas"):
        metadata.report_missing("desiredReplicas")
    trigger.skip("authenticationRef")
    if zone is None or replicas is None or start is None or end is None:
        return None, []
    try:
        windows = cron.windows(start, end)
    except cron.CronError as e:
        raise Unsupported(
            metadata.place_of("start"), str(e), "write it as weekly windows of a schedule policy, or set an override"
        ) from e
    return CronSchedule(trigger.place, replicas, windows, zone, f"{start} to {end}"), []


Reader = Callable[[Cursor, Cursor, MigrationOptions], TriggerReading]
READERS: Final[Mapping[str, Reader]] = {
    "aws-cloudwatch": cloudwatch,
    "aws-sqs-queue": sqs,
    "azure-servicebus": azure_servicebus,
    "cpu": _resource,
    "cron": _cron,
    "gcp-pubsub": gcp_pubsub,
    "kafka": brokers.kafka,
    "memory": _resource,
    "metrics-api": services.metrics_api,
    "postgresql": services.postgresql,
    "prometheus": _prometheus,
    "rabbitmq": brokers.rabbitmq,
    "redis": brokers.redis,
    "redis-streams": brokers.redis_streams,
}
"""The reader of each type of trigger. To add a type, write a function here or in another module and add its row."""
