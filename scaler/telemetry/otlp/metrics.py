"""Translates the metrics of GET /metrics to OTLP.

Both come from one registry: a metric has the same name, labels and value on either way. A counter keeps its suffix
`_total`, as on the page.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from opentelemetry.sdk.metrics.export import (
    AggregationTemporality,
    Gauge,
    Histogram,
    HistogramDataPoint,
    Metric,
    MetricsData,
    NumberDataPoint,
    ResourceMetrics,
    ScopeMetrics,
    Sum,
)
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client.core import Metric as Family
from prometheus_client.samples import Sample

CUMULATIVE: Final = AggregationTemporality.CUMULATIVE


def metrics_data(
    families: Iterable[Family], resource: Resource, scope: InstrumentationScope, began_ns: int, now_ns: int
) -> MetricsData:
    """Return the metrics at a time.

    Counters and histograms count since `began_ns`. Unix times in nanoseconds.
    """
    metrics = [metric for family in families if (metric := _metric(family, began_ns, now_ns)) is not None]
    return MetricsData([ResourceMetrics(resource, [ScopeMetrics(scope, metrics, "")], "")])


def _metric(family: Family, began_ns: int, now_ns: int) -> Metric | None:
    """Return a metric; None for one without a sample: missing is not zero."""
    if family.type == "histogram":
        points = list(_histogram_points(family, began_ns, now_ns))
        data: Gauge | Histogram | Sum = Histogram(points, CUMULATIVE)
        return Metric(family.name, family.documentation, family.unit, data) if points else None
    is_counter = family.type == "counter"
    samples = [s for s in family.samples if not s.name.endswith("_created")]
    if not samples:
        return None
    numbers = [NumberDataPoint(s.labels, began_ns if is_counter else 0, now_ns, s.value) for s in samples]
    data = Sum(numbers, CUMULATIVE, is_monotonic=True) if is_counter else Gauge(numbers)
    return Metric(samples[0].name, family.documentation, family.unit, data)


def _histogram_points(family: Family, began_ns: int, now_ns: int) -> Iterator[HistogramDataPoint]:
    """Yield one point for each set of labels.

    Prometheus' buckets are cumulative, those of OTLP are not.
    """
    for labels, samples in _by_labels(family.samples).items():
        values = {s.name.removeprefix(family.name): s.value for s in samples}
        buckets = [(float(s.labels["le"]), int(s.value)) for s in samples if s.name.endswith("_bucket")]
        counts = [n for _, n in buckets]
        yield HistogramDataPoint(
            attributes=dict(labels),
            start_time_unix_nano=began_ns,
            time_unix_nano=now_ns,
            count=int(values["_count"]),
            sum=values["_sum"],
            bucket_counts=[n - before for before, n in itertools.pairwise([0, *counts])],
            explicit_bounds=[bound for bound, _ in buckets[:-1]],
            min=None,  # type: ignore[arg-type]  # unknown, and optional in the protocol
            max=None,  # type: ignore[arg-type]
        )


def _by_labels(samples: Iterable[Sample]) -> Mapping[tuple[tuple[str, str], ...], list[Sample]]:
    """Return a histogram's samples by their labels without the bucket."""
    groups: dict[tuple[tuple[str, str], ...], list[Sample]] = {}
    for sample in samples:
        labels = tuple((key, value) for key, value in sample.labels.items() if key != "le")
        groups.setdefault(labels, []).append(sample)
    return groups
