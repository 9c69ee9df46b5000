"""Import of KEDA's trigger on CloudWatch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from policies.recommend.peers.keda import Keda, Trigger
from scaler.config.kinds.aws_sources import CloudWatch, CloudWatchMetric
from scaler.migrate.manifests import Imported
from scaler.registry import kind_of
from tests.scaler.migrate.importing import KEDA, SQS, changed, import_manifests, load_imported

TRIGGER: dict[str, Any] = {
    "type": "aws-cloudwatch",
    "metadata": {
        "namespace": "AWS/SageMaker",
        "metricName": "ConcurrentRequestsPerModel",
        "dimensionName": "EndpointName;VariantName",
        "dimensionValue": "llama;main",
        "targetMetricValue": "2.5",
        "minMetricValue": "0",
        "awsRegion": "eu-west-1",
    },
}


def import_trigger(folder: Path, *, native: bool = False, **metadata: Any) -> Imported:
    trigger = changed(TRIGGER, **{f"metadata__{k}": v for k, v in metadata.items()})
    return import_manifests(folder, changed(KEDA, spec__triggers=[trigger, SQS]), native=native)


def test_cloudwatch_trigger_imports_the_metric_with_dimensions(tmp_path: Path) -> None:
    result = import_trigger(tmp_path, metricStat="Maximum", metricStatPeriod="60", activationTargetMetricValue="1")
    (spec,) = load_imported(tmp_path, result)
    source = next(s for s in spec.sources.values() if isinstance(s, CloudWatch))
    dimensions = {"EndpointName": "llama", "VariantName": "main"}
    metric = CloudWatchMetric(
        namespace="AWS/SageMaker",
        metric="ConcurrentRequestsPerModel",
        dimensions=dimensions,
        stat="Maximum",
        period_s=60,
    )
    assert dict(source.metrics) == {"concurrentrequestspermodel": metric}
    assert source.account.region == "eu-west-1"
    (policy,) = spec.policies.values()
    assert isinstance(policy, Keda)
    assert policy.triggers[0] == Trigger(
        quantities=("concurrentrequestspermodel",), target=2.5, activation=1, source="cloudwatch"
    )
    assert not result.findings.lost
    assert any(p.path.endswith("minMetricValue") for p in result.findings.differs)


def test_cloudwatch_trigger_defaults_match_the_source(tmp_path: Path) -> None:
    (spec,) = load_imported(tmp_path, import_trigger(tmp_path))
    source = next(s for s in spec.sources.values() if isinstance(s, CloudWatch))
    (metric,) = source.metrics.values()
    assert (metric.stat, metric.period_s) == ("Average", 300)
    assert source.max_age_s >= 2 * metric.period_s


def test_native_import_of_a_cloudwatch_trigger_is_a_metric_policy(tmp_path: Path) -> None:
    (spec,) = load_imported(tmp_path, import_trigger(tmp_path, native=True))
    kinds = [kind_of("policy", policy) for policy in spec.policies.values()]
    assert kinds == ["metric", "queue_depth"]


@pytest.mark.parametrize(
    ("metadata", "key", "rule"),
    [
        ({"expression": "SELECT 1"}, "expression", "is metric math"),
        ({"dimensionValue": "llama"}, "dimensionValue", "has 1 values for the 2 names"),
        ({"metricUnit": "Count"}, "metricUnit", "is not used to select the metric"),
        ({"awsAccessKeyIDFromEnv": "KEY"}, "", "keys are not copied"),
    ],
)
def test_unsupported_cloudwatch_metadata_is_reported_as_lost(
    tmp_path: Path, metadata: dict[str, Any], key: str, rule: str
) -> None:
    (lost,) = import_trigger(tmp_path, **metadata).findings.lost
    assert lost.path == f"spec.triggers[0].metadata.{key}".rstrip(".")
    assert rule in lost.rule
