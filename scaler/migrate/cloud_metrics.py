"""Translates KEDA's triggers on clouds' metrics to sources."""

from __future__ import annotations

from typing import Any, Final

from scaler.migrate import promql
from scaler.migrate.autoscaler_ir import Signal, SourceDraft
from scaler.migrate.findings import Unsupported
from scaler.migrate.manifest_reader import Cursor
from scaler.migrate.options import MigrationOptions, authentication
from scaler.migrate.queues import METRIC_TYPES, TriggerReading, by_role

PERIOD_S: Final = 300
"""Default of ``metricStatPeriod``. Seconds."""
MAX_AGE_PERIODS: Final = 3
"""Maximum age of a sample in periods: it is two periods old before the next one is complete, and that comes late."""


def cloudwatch(trigger: Cursor, metadata: Cursor, options: MigrationOptions) -> TriggerReading:
    """Read aws-cloudwatch on one metric.

    Credentials are not carried over: the SDK finds its own.
    """
    remarks = [*authentication(trigger, options)[1], *by_role(metadata, "ReadMetrics")]
    if metadata.has("expression"):
        hint = "use its input metrics directly, or publish the result as a CloudWatch metric"
        raise Unsupported(
            metadata.place_of("expression"), "is metric math, which the cloudwatch source does not support", hint
        )
    metric = metadata.text("metricName", required=True) or "metric"
    period_s = metadata.integer("metricStatPeriod", PERIOD_S, minimum=1) or PERIOD_S
    metric_settings: dict[str, Any] = {
        "namespace": metadata.text("namespace", required=True) or "",
        "metric": metric,
        "dimensions": _dimensions(metadata),
        "stat": metadata.text("metricStat", "Average"),
        "period_s": period_s,
    }
    if metadata.has("minMetricValue"):
        rule = "has no counterpart: a missing sample counts as missing, not as a value, and blocks scale-in"
        remarks.append(metadata.reporter.differs(metadata.place_of("minMetricValue"), rule))
    if metadata.has("metricUnit"):
        rule = "is not used to select the metric"
        hint = "make sure that the metric is published in one unit only"
        remarks.append(metadata.reporter.lost(metadata.place_of("metricUnit"), rule, hint))
    metadata.skip("minMetricValue", "metricUnit", "metricCollectionTime", "metricEndTimeOffset", "ignoreNullValues")
    name = promql.identifier(trigger.text("name") or metric, options.quantity_names)
    account = {
        key: value
        for key, value in (
            ("region", metadata.text("awsRegion", required=True)),
            ("endpoint_url", metadata.text("awsEndpoint")),
        )
        if value is not None
    }
    settings = (
        ("metrics", {name: metric_settings}),
        ("account", account),
        ("max_age_s", max(300, MAX_AGE_PERIODS * period_s)),
    )
    signal = Signal(
        place=trigger.place,
        type="aws-cloudwatch",
        source=SourceDraft("cloudwatch", settings, tuple(remarks)),
        quantities=(name,),
        target=float(metadata.number("targetMetricValue", exclusive=True) or 1.0),
        label="targetMetricValue",
        target_type=trigger.choice("metricType", METRIC_TYPES, "average_value"),  # type: ignore[arg-type]
        activation=float(metadata.number("activationTargetMetricValue", 0.0)),
    )
    return signal, []


def _dimensions(metadata: Cursor) -> dict[str, str]:
    """Return the dimensions, whose names and values are two lists separated by semicolons.

    Raises `Unsupported`.
    """
    names, values = (
        (metadata.text(key, required=True) or "").split(";") for key in ("dimensionName", "dimensionValue")
    )
    if len(names) != len(values):
        rule = f"has {len(values)} values for the {len(names)} names of dimensionName"
        raise Unsupported(metadata.place_of("dimensionValue"), rule, "list one value per name, separated by ;")
    return dict(zip(names, values, strict=True))
