"""An OTLP collector: it parses the protocol's messages, and keeps their spans and metrics."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from tests.servers.site import listening


@dataclass
class Collector:
    """What the collector has received."""

    port: int = 0
    hang: bool = False
    spans: list[Span] = field(default_factory=list)
    metrics: dict[str, Metric] = field(default_factory=dict)
    """The last state of each metric."""
    resource: dict[str, Any] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    requests: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def receive(self, request: web.Request) -> web.Response:
        self.requests += 1
        self.headers = dict(request.headers)
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip" and body.startswith(b"\x1f\x8b"):
            body = gzip.decompress(body)
        if self.hang:
            await asyncio.Event().wait()
        if request.path == "/v1/traces":
            for traces in ExportTraceServiceRequest.FromString(body).resource_spans:
                self.resource = attributes(traces.resource.attributes)
                self.spans += [span for scope in traces.scope_spans for span in scope.spans]
        else:
            for metrics in ExportMetricsServiceRequest.FromString(body).resource_metrics:
                self.resource = attributes(metrics.resource.attributes)
                self.metrics |= {m.name: m for scope in metrics.scope_metrics for m in scope.metrics}
        return web.Response(content_type="application/x-protobuf")


@asynccontextmanager
async def collector() -> AsyncIterator[Collector]:
    """Receive traces and metrics on a free port."""
    received = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", received.receive)
    app.router.add_post("/v1/metrics", received.receive)
    async with listening(app) as received.port:
        yield received


def attributes(pairs: Any) -> dict[str, Any]:
    """Return attributes as a mapping; a list as the text of its values."""

    def value(pair: KeyValue) -> Any:
        kind = pair.value.WhichOneof("value")
        return getattr(pair.value, kind) if kind is not None else None

    return {pair.key: value(pair) for pair in pairs}
