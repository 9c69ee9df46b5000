"""Sends traces and metrics to an OTLP collector, in threads of their own.

The environment configures it as for every program with OpenTelemetry: endpoint, headers, certificates, sampling,
intervals and resource attributes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics.export import MetricExportResult, MetricsData
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from prometheus_client import CollectorRegistry

from policies.model import Tick
from scaler.adapter_faults import CallTimes
from scaler.config.daemon import OpenTelemetry
from scaler.masking import remember
from scaler.ports import Clock, Misconfigured
from scaler.supervised_tasks import Tasks, in_daemon_thread
from scaler.telemetry.library_logs import reasons_of
from scaler.telemetry.log import log
from scaler.telemetry.otlp.metrics import metrics_data
from scaler.telemetry.otlp.traces import TickTraces

LIBRARY: Final = logging.getLogger("opentelemetry")
PROTOCOL: Final = "http/protobuf"
DEFAULT_INTERVAL_MS: Final = 60_000
CLOSE_S: Final = 3.0
"""Time that the last spans and metrics get when the daemon stops. Seconds."""


class ExportReporter:
    """Logs the first failure of a series of exports, and their recovery."""

    def __init__(self, signal: str) -> None:
        self._signal = signal
        self._is_failing = False

    def run(self, export: Callable[[], bool]) -> bool:
        """Run an export in this thread, and return whether it succeeded."""
        with reasons_of(LIBRARY) as reasons:
            succeeded = export()
        if not succeeded and not self._is_failing:
            remedy = "it is retried; check OTEL_EXPORTER_OTLP_ENDPOINT and the collector"
            log.error("otlp failed", signal=self._signal, error=reasons.text() or "no reason given", remedy=remedy)
        elif succeeded and self._is_failing:
            log.info("otlp sent", signal=self._signal, remedy="the collector accepts data again")
        self._is_failing = not succeeded
        return succeeded


class ReportedSpanExporter(SpanExporter):
    """Exports spans, and reports failures."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._reporter = ExportReporter("traces")

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        succeeded = self._reporter.run(lambda: self._exporter.export(spans) is SpanExportResult.SUCCESS)
        return SpanExportResult.SUCCESS if succeeded else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return self._exporter.force_flush(timeout_millis)


class OtlpExport:
    """The export of one daemon: `observe` adds a tick, `start` sends the metrics."""

    def __init__(self, spec: OpenTelemetry, registry: CollectorRegistry, clock: Clock, version: str) -> None:
        """Raise `Misconfigured` for an interval of the environment that is no number."""
        self._registry, self._clock = registry, clock
        self._began_ns = round(clock.now() * 1e9)
        self._resource = _resource(version)
        self._scope = InstrumentationScope("forescale", version)
        self.times: CallTimes | None = None
        """Keeps the times of adapter calls; None without traces."""
        self._task: asyncio.Task[None] | None = None
        self._provider: TracerProvider | None = None
        self._traces: TickTraces | None = None
        self._exporter: OTLPMetricExporter | None = None
        self._reporter = ExportReporter("metrics")
        self._interval_s = _interval_s()
        if spec.traces and _is_on("TRACES"):
            self._provider = TracerProvider(resource=self._resource, shutdown_on_exit=False)
            self._provider.add_span_processor(BatchSpanProcessor(ReportedSpanExporter(OTLPSpanExporter())))
            self.times = CallTimes(clock)
            self._traces = TickTraces(self._provider.get_tracer("forescale", version), self.times, clock)
        if spec.metrics and _is_on("METRICS"):
            self._exporter = OTLPMetricExporter()

    def observe(self, tick: Tick) -> None:
        """Queue the spans of a tick. Where the queue is full, they are dropped."""
        if self._traces is not None:
            self._traces.observe(tick)

    def start(self, tasks: Tasks) -> None:
        """Send the metrics at an interval."""
        if self._exporter is not None:
            self._task = tasks.start("otlp metrics", self._follow)

    async def close(self) -> None:
        """Send what is left, within `CLOSE_S`, and stop."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        ends: list[asyncio.Future[None]] = []
        if self._task is not None:
            ends.append(asyncio.ensure_future(self._export_metrics()))
        if self._provider is not None:
            ends.append(in_daemon_thread("otlp traces", self._provider.shutdown))
        if ends:
            await asyncio.wait(ends, timeout=CLOSE_S)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(self._interval_s)
            await self._export_metrics()

    async def _export_metrics(self) -> None:
        """Collect the metrics here, where nothing changes them meanwhile, and send them in a thread."""
        now_ns = round(self._clock.now() * 1e9)
        data = metrics_data(self._registry.collect(), self._resource, self._scope, self._began_ns, now_ns)
        await in_daemon_thread("otlp metrics", lambda: self._reporter.run(lambda: self._send(data)))

    def _send(self, data: MetricsData) -> bool:
        assert self._exporter is not None  # noqa: S101 - `start` checks it
        return self._exporter.export(data) is MetricExportResult.SUCCESS


def check_environment(environment: Mapping[str, str]) -> None:
    """Raise `Misconfigured` for an exporter or a protocol that is not supported."""
    for signal in ("TRACES", "METRICS"):
        name = f"OTEL_{signal}_EXPORTER"
        if environment.get(name, "otlp") not in {"otlp", "none"}:
            raise Misconfigured(f"{name} must be otlp or none, not {environment[name]!r}")
        for key in (f"OTEL_EXPORTER_OTLP_{signal}_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
            if key in environment:
                if environment[key] != PROTOCOL:
                    remedy = "use the collector's HTTP port, 4318 by default"
                    raise Misconfigured(f"{key} must be {PROTOCOL}, not {environment[key]!r}; {remedy}")
                break


def _is_on(signal: str) -> bool:
    """Return whether the environment leaves a signal on."""
    disabled = os.environ.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"
    return not disabled and os.environ.get(f"OTEL_{signal}_EXPORTER", "otlp") == "otlp"


def _interval_s() -> float:
    text = os.environ.get("OTEL_METRIC_EXPORT_INTERVAL", str(DEFAULT_INTERVAL_MS))
    try:
        interval_ms = float(text)
    except ValueError:
        interval_ms = 0.0
    if not 0 < interval_ms < threading.TIMEOUT_MAX:
        raise Misconfigured(f"OTEL_METRIC_EXPORT_INTERVAL must be a number of milliseconds above 0, not {text!r}")
    return interval_ms / 1000


def _resource(version: str) -> Resource:
    """Return the attributes of this process. Those of the environment take precedence."""
    given = OTELResourceDetector().detect().attributes
    return Resource.create({"service.name": "forescale", "service.version": version, **given})


def remember_headers(environment: Mapping[str, str]) -> None:
    """Have the values of headers masked: they hold the collector's token."""
    for name, text in environment.items():
        if name.startswith("OTEL_EXPORTER_OTLP") and name.endswith("HEADERS"):
            remember(*(value.strip() for pair in text.split(",") for value in [pair.partition("=")[2]]))
