"""KEDA's triggers on clouds' metrics, as sources of this daemon."""

from __future__ import annotations

from typing import Any, Final

from scaler.migrate import promql
from scaler.migrate.autoscaler_ir import Signal, SourceDraft
from scaler.migrate.findings import Named
from scaler.migrate.manifest_reader import Cursor
from scaler.migrate.options import MigrationOptions, authentication
from scaler.migrate.queues import METRIC_TYPES, Read, by_role

PERIOD_S: Final = 300
"""``metricStatPeriod``'s default."""
PERIODS_KEPT: Final = 3
"""A sample is two periods old before the next can be there, and comes late."""


def cloudwatch(trigger: Cursor, metadata: Cursor, given: MigrationOptions) -> Read:
    """aws-cloudwatch on one metric. Credentials come by the SDK's own chain, so none are carried over."""
    remarks = [*authentication(trigger, given)[1], *by_role(metadata, "ReadMetrics")]
    if metadata.has("expression"):
        hint = "name the metrics it is made of, or have a CloudWatch metric made of it"
        raise Named(metadata.at("expression"), "is metric math, which the cloudwatch source does not ask for", hint)
    metric = metadata.text("metricName", required=True) or "metric"
    period_s = metadata.whole("metricStatPeriod", PERIOD_S, least=1) or PERIOD_S
    asked: dict[str, Any] = {
        "namespace": metadata.text("namespace", required=True) or "",
        "metric": metric,
        "dimensions": _dimensions(metadata),
        "stat": metadata.text("metricStat", "Average"),
        "period_s": period_s,
    }
    if metadata.has("minMetricValue"):
        rule = "in place of no sample has no counterpart: what is missing is missing, and nothing shrinks on that"
        remarks.append(metadata.voice.differs(metadata.at("minMetricValue"), rule))
    if metadata.has("metricUnit"):
        rule = "does not narrow the metric here"
        hint = "see that the metric is sent in one unit only"
        remarks.append(metadata.voice.lost(metadata.at("metricUnit"), rule, hint))
    metadata.skip("minMetricValue", "metricUnit", "metricCollectionTime", "metricEndTimeOffset", "ignoreNullValues")
    name = promql.identifier(trigger.text("name") or metric, given.names)
    account = {
        key: value
        for key, value in (
            ("region", metadata.text("awsRegion", required=True)),
            ("endpoint_url", metadata.text("awsEndpoint")),
        )
        if value is not None
    }
    settings = (("metrics", {name: asked}), ("account", account), ("max_age_s", max(300, PERIODS_KEPT * period_s)))
    signal = Signal(
        place=trigger.place,
        type="aws-cloudwatch",
        source=SourceDraft("cloudwatch", settings, tuple(remarks)),
        quantities=(name,),
        target=float(metadata.number("targetMetricValue", above=True) or 1.0),
        said="targetMetricValue",
        target_type=trigger.choice("metricType", METRIC_TYPES, "average_value"),  # type: ignore[arg-type]
        activation=float(metadata.number("activationTargetMetricValue", 0.0)),
    )
    return signal, []


def _dimensions(metadata: Cursor) -> dict[str, str]:
    """Names and values stand in lists of their own, parted by semicolons. Raises `Named` where they do not match."""
    names, values = (
        (metadata.text(key, required=True) or "").split(";") for key in ("dimensionName", "dimensionValue")
    )
    if len(names) != len(values):
        rule = f"has {len(values)} values for the {len(names)} names of dimensionName"
        raise Named(metadata.at("dimensionValue"), rule, "give one value a name, parted by ;")
    return dict(zip(names, values, strict=True))
