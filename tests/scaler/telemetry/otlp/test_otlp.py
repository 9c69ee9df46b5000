"""Traces and metrics of a daemon at a collector that parses the protocol."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from opentelemetry.exporter.otlp.proto.common.metrics_encoder import encode_metrics
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry, Histogram
from prometheus_client.parser import text_string_to_metric_families

from policies.model import Result
from scaler.ports import Misconfigured
from scaler.telemetry.metrics import Metrics
from scaler.telemetry.otlp.export import check_environment
from scaler.telemetry.otlp.metrics import metrics_data
from tests.scaler.live_daemon import live
from tests.scaler.telemetry.notices.ticks import budget, tick
from tests.servers.daemon import daemon, until
from tests.servers.otlp import Collector, attributes, collector

Sample = tuple[str, frozenset[tuple[str, str]]]


def page(text: str) -> dict[Sample, float]:
    """Return the samples of a page, without the buckets of histograms and the times of their creation."""
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }


def sent(metrics: Mapping[str, Metric]) -> dict[Sample, float]:
    """Return the points of OTLP metrics as samples."""
    samples: dict[Sample, float] = {}
    for name, metric in metrics.items():
        for point in getattr(metric, str(metric.WhichOneof("data"))).data_points:
            labels = frozenset(attributes(point.attributes).items())
            if metric.HasField("histogram"):
                samples |= {(f"{name}_count", labels): point.count, (f"{name}_sum", labels): point.sum}
            else:
                samples[name, labels] = point.as_double if point.HasField("as_double") else point.as_int
    return samples


def encoded(registry: CollectorRegistry) -> dict[str, Metric]:
    data = metrics_data(registry.collect(), Resource({}), InstrumentationScope("forescale"), 1, 2)
    (resource,) = encode_metrics(data).resource_metrics
    return {metric.name: metric for scope in resource.scope_metrics for metric in scope.metrics}


def test_otlp_has_the_samples_of_the_page() -> None:
    metrics = Metrics("1.0")
    metrics.observe(tick(slo=budget(0.02), result=Result.OUT_OF_QUOTA, pool_errors={"gpus": "403"}))
    metrics.observe(tick(15, slo=budget(0.02)))
    assert sent(encoded(metrics.registry)) == page(metrics.exposition().decode())
    ticks = encoded(metrics.registry)["forescale_ticks_total"].sum
    assert (ticks.is_monotonic, ticks.data_points[0].start_time_unix_nano) == (True, 1)


def test_buckets_of_a_histogram_are_not_cumulative() -> None:
    registry = CollectorRegistry()
    histogram = Histogram("waits", "Waits.", ["api"], buckets=(0.1, 1.0), registry=registry)
    for wait_s in (0.05, 0.5, 0.6, 9.0):
        histogram.labels("a").observe(wait_s)
    (point,) = encoded(registry)["waits"].histogram.data_points
    assert list(point.explicit_bounds) == [0.1, 1.0]
    assert list(point.bucket_counts) == [1, 2, 1]
    assert not point.HasField("min")


@pytest.mark.parametrize(
    ("environment", "rule"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL must be http/protobuf, not 'grpc'"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL must be http/protobuf"),
        ({"OTEL_METRICS_EXPORTER": "prometheus"}, "OTEL_METRICS_EXPORTER must be otlp or none"),
    ],
)
def test_unsupported_environment_is_refused(environment: dict[str, str], rule: str) -> None:
    with pytest.raises(Misconfigured) as error:
        check_environment(environment)
    assert rule in str(error.value)


def test_supported_environment_is_accepted() -> None:
    check_environment({})
    check_environment({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc", **SIGNALS})


SIGNALS = {f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL": "http/protobuf" for signal in ("TRACES", "METRICS")}


def environment(received: Collector) -> dict[str, str]:
    return {
        "OTEL_EXPORTER_OTLP_ENDPOINT": received.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-collector-key=b1946ac92492d2347c6235b4d2611184",
        "OTEL_RESOURCE_ATTRIBUTES": "k8s.cluster.name=east",
        "OTEL_METRIC_EXPORT_INTERVAL": "500",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
    }


def traces_of(spans: list[Span]) -> list[tuple[Span, list[Span]]]:
    """Return each tick's span with those below it."""
    roots = [span for span in spans if span.name == "tick"]
    return [(root, [span for span in spans if span.parent_span_id == root.span_id]) for root in roots]


@pytest.mark.slow
async def test_daemon_sends_a_trace_of_each_tick_and_its_metrics(tmp_path: Path) -> None:
    closed: dict[str, Any] = {"kind": "scrape", "preset": "vllm", "urls": ["http://127.0.0.1:9/metrics"]}
    async with live(tmp_path) as servers, collector() as received:
        servers.daemon_settings(opentelemetry={})
        engines = {"kind": "scrape", "preset": "vllm", "urls": [servers.engines.url("one")]}
        policies = {"busy": {"kind": "concurrency", "source": "engines", "target_per_replica": 2}}
        servers.write(sources={"engines": engines, "closed": closed}, policies=policies)
        arguments = (str(servers.config), "--for", "20")
        async with daemon(*arguments, journal=servers.journal, env=environment(received)) as running:
            await until(
                lambda: (
                    any(s.name == "resize pool" for s in received.spans) and "forescale_ticks_total" in received.metrics
                ),
                running,
            )
            _, text = await running.get("metrics")
            assert await running.stop() == 0
        names = {name for name, _ in page(text)} - {"forescale_tick_duration_seconds_count"}
        assert names <= {name for name, _ in sent(received.metrics)} | {"forescale_tick_duration_seconds_count"}
    assert received.resource["service.name"] == "forescale"
    assert received.resource["k8s.cluster.name"] == "east"
    assert received.headers["x-collector-key"] == "b1946ac92492d2347c6235b4d2611184"
    assert "b1946ac92492d2347c6235b4d2611184" not in "\n".join(running.lines)
    traces = traces_of(received.spans)
    assert len(traces) == len(running.ticks()), "the last spans are sent at the end"
    root, parts = next(trace for trace in traces if any(s.name == "resize pool" for s in trace[1]))
    assert {s.trace_id for s in parts} == {root.trace_id}
    assert sorted(s.name for s in parts) == ["decide", "read pool", "read source", "read source", "resize pool"]
    assert all(root.start_time_unix_nano <= s.start_time_unix_nano <= s.end_time_unix_nano for s in parts)
    facts = {(s.name, attributes(s.attributes).get("forescale.source")): attributes(s.attributes) for s in parts}
    assert facts["read source", "engines"]["forescale.outcome"] == "ok"
    assert facts["read source", "closed"]["forescale.outcome"] == "failed"
    resize = facts["resize pool", None]
    assert (resize["forescale.workload"], resize["forescale.pool"]) == ("llm", "gpus")
    assert (resize["forescale.current"], resize["forescale.target"], resize["forescale.outcome"]) == (2, 4, "accepted")
    assert attributes(root.attributes)["forescale.outcome"] == "read failed"


@pytest.mark.slow
async def test_hanging_collector_delays_no_tick_and_no_end(tmp_path: Path) -> None:
    async with live(tmp_path) as servers, collector() as received:
        received.hang = True
        servers.daemon_settings(opentelemetry={})
        async with daemon(str(servers.config), journal=servers.journal, env=environment(received)) as running:
            await until(lambda: received.requests >= 2, running)
            hung = len(running.ticks())
            await until(lambda: len(running.ticks()) >= hung + 6, running)
            assert await running.stop() == 0


@pytest.mark.slow
async def test_environment_turns_the_export_off(tmp_path: Path) -> None:
    async with live(tmp_path) as servers, collector() as received:
        servers.daemon_settings(opentelemetry={"traces": False})
        env = {**environment(received), "OTEL_SDK_DISABLED": "true"}
        async with daemon(str(servers.config), journal=servers.journal, env=env) as running:
            await until(lambda: len(running.ticks()) >= 4, running)
            assert await running.stop() == 0
    assert received.requests == 0


@pytest.mark.slow
async def test_missing_collector_is_logged_once(tmp_path: Path) -> None:
    async with collector() as received:
        env = {**environment(received), "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
    async with live(tmp_path) as servers:
        servers.daemon_settings(opentelemetry={"traces": False})
        async with daemon(str(servers.config), journal=servers.journal, env=env) as running:
            await until(lambda: len(running.ticks()) >= 10, running)
            assert await running.stop() == 0
    failures = [event for event in running.events() if event.get("event") == "otlp failed"]
    assert [event["signal"] for event in failures] == ["metrics"]
