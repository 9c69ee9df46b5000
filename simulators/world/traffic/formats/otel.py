"""Reader of OpenTelemetry spans of GenAI requests: OTLP JSON and Jaeger's JSON.

OTLP JSON is one document, or one object a line.

A request is a span with token counts. Of nested ones, such as an agent's span around the client's around the engine's,
only the innermost counts: the same tokens would count twice.
Sources: open-telemetry/opentelemetry-proto, trace.proto and its JSON mapping; open-telemetry/semantic-conventions,
gen-ai-spans.md; vllm-project/vllm, vllm/tracing; Arize-ai/openinference; jaegertracing/jaeger, model/json.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from scaler.config.problems import value_text
from simulators.world.traffic.formats.cells import printable
from simulators.world.traffic.formats.json_rows import LIST, fill
from simulators.world.traffic.formats.json_values import UnreadableLine
from simulators.world.traffic.formats.layouts import Layout
from simulators.world.traffic.formats.options import ReadOptions
from simulators.world.traffic.formats.tables import Table
from simulators.world.traffic.trace import RequestTrace, TraceError

RESOURCES: Final = "resourceSpans"
PROMPT: Final = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt")
OUTPUT: Final = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens", "llm.token_count.completion")
"""Attributes of the token counts: the semantic conventions, their older names, OpenInference."""
MODEL: Final = ("gen_ai.request.model", "gen_ai.response.model", "llm.model_name")
OPERATION: Final = "gen_ai.operation.name"
ERROR: Final = "error"
USED: Final = frozenset({*PROMPT, *OUTPUT, *MODEL, OPERATION, ERROR})
GENERATES: Final = frozenset({"chat", "text_completion", "generate_content"})
WRAPS: Final = frozenset({"invoke_agent", "create_agent", "invoke_workflow", "execute_tool", "embeddings", "retrieval"})
"""Operations that generate nothing themselves: they contain requests, or compute embeddings."""
OTLP_ERRORS: Final = (2, "2", "STATUS_CODE_ERROR")
OTLP: Final = Layout(arrival="startTimeUnixNano", prompt=PROMPT[0], output=OUTPUT[0], model=MODEL[0], unit="ns")
JAEGER: Final = Layout(arrival="startTime", prompt=PROMPT[0], output=OUTPUT[0], model=MODEL[0], unit="us")

SpanKey = tuple[str, str]
"""Ids of a trace and a span."""


@dataclass(frozen=True, slots=True)
class TraceSpan:
    """A span of either format, with the attributes in `USED`."""

    place: str
    key: SpanKey
    parents: tuple[SpanKey, ...]
    start: Any
    attributes: Mapping[str, Any]
    failed: bool

    @property
    def is_request(self) -> bool:
        operation = str(self.attributes.get(OPERATION))
        has_usage = any(name in self.attributes for name in (*PROMPT, *OUTPUT))
        return operation not in WRAPS and (has_usage or operation in GENERATES)

    def first(self, names: tuple[str, ...]) -> Any:
        """Return the first attribute of `names` that the span has."""
        return next((self.attributes[name] for name in names if name in self.attributes), None)


def fits(value: Any) -> bool:
    """Return whether a JSON value has spans."""
    return isinstance(value, Mapping) and (RESOURCES in value or bool(_jaeger_traces(value)))


def read(path: Path, values: Iterable[tuple[str, Any]], options: ReadOptions, name: str) -> RequestTrace:
    """Return a trace of the innermost requests.

    Raises `TraceError` for spans without token counts.
    """
    requests: list[TraceSpan] = []
    bad: list[tuple[str, Any]] = []
    parents: dict[SpanKey, tuple[SpanKey, ...]] = {}
    layout = OTLP
    for place, value in values:
        if isinstance(value, Mapping) and _jaeger_traces(value):
            layout = JAEGER
        for span in _spans(place or "the document", value):
            if isinstance(span, UnreadableLine):
                bad.append((place, span))
                continue
            parents[span.key] = span.parents
            if span.is_request:
                requests.append(span)
    if not requests:
        rule = f"none of its {len(parents):,} spans has {PROMPT[0]} or {OUTPUT[0]}"
        raise TraceError(f"{path}: {rule}: export the spans of the engine, or of an instrumented client or gateway")
    inner = _innermost(requests, parents)
    served = [span for span in inner if not (span.failed and span.first(OUTPUT) is None)]
    table = Table(path, layout, [*layout.required, MODEL[0]], options)
    table.cleaner.repairs["spans without tokens skipped"] = len(parents) - len(requests)
    table.cleaner.repairs["spans around another request skipped"] = len(requests) - len(inner)
    table.cleaner.repairs["failed requests skipped"] = len(inner) - len(served)
    fill(table, ((span.place, _row(span, layout)) for span in served))
    fill(table, bad)
    return table.trace(name)


def _row(span: TraceSpan, layout: Layout) -> dict[str, Any]:
    """Return the cells of a request."""
    found = {names[0]: span.first(names) for names in (PROMPT, OUTPUT, MODEL)}
    return {layout.arrival: span.start, **found}


def _innermost(requests: list[TraceSpan], parents: Mapping[SpanKey, tuple[SpanKey, ...]]) -> list[TraceSpan]:
    """Return the requests without another request below them."""
    around: set[SpanKey] = set()
    waiting = [parent for span in requests for parent in span.parents]
    while waiting:
        key = waiting.pop()
        if key not in around:
            around.add(key)
            waiting += parents.get(key, ())
    return [span for span in requests if span.key not in around]


def _spans(place: str, value: Any) -> Iterator[TraceSpan | UnreadableLine]:
    """Yield the spans of a JSON value of either format."""
    if not isinstance(value, Mapping):
        yield value if isinstance(value, UnreadableLine) else UnreadableLine(value_text(value), "must be a JSON object")
        return
    for resource in _entries(value, RESOURCES):
        for scope in _entries(resource, "scopeSpans"):
            for span in _entries(scope, "spans"):
                yield _otlp(place, span) if isinstance(span, Mapping) else _no_span(span)
    for trace in _jaeger_traces(value):
        for span in _entries(trace, "spans"):
            yield _jaeger(place, span) if isinstance(span, Mapping) else _no_span(span)


def _no_span(value: Any) -> UnreadableLine:
    return UnreadableLine(value_text(value), "a span must be a JSON object")


def _otlp(place: str, span: Mapping[str, Any]) -> TraceSpan:
    trace_id, span_id, parent = str(span.get("traceId")), str(span.get("spanId")), span.get("parentSpanId")
    status = span.get("status")
    return TraceSpan(
        f"{place}, span {printable(span_id)}",
        (trace_id, span_id),
        ((trace_id, str(parent)),) if parent else (),
        span.get("startTimeUnixNano"),
        _attributes(span, "attributes"),
        isinstance(status, Mapping) and status.get("code") in OTLP_ERRORS,
    )


def _jaeger_traces(value: Mapping[str, Any]) -> list[Any]:
    """Return the traces of Jaeger's JSON (``/api/traces``, or a download from its page)."""
    traces = value.get(LIST)
    is_jaeger = isinstance(traces, list) and all(isinstance(t, Mapping) and "spans" in t for t in traces)
    return traces if is_jaeger and isinstance(traces, list) else []


def _jaeger(place: str, span: Mapping[str, Any]) -> TraceSpan:
    trace_id, span_id = str(span.get("traceID")), str(span.get("spanID"))
    references = [r for r in _entries(span, "references") if isinstance(r, Mapping)]
    attributes = _attributes(span, "tags")
    return TraceSpan(
        f"{place}, span {printable(span_id)}",
        (trace_id, span_id),
        tuple((trace_id, str(r.get("spanID"))) for r in references),
        span.get("startTime"),
        attributes,
        attributes.get(ERROR) in (True, "true"),
    )


def _entries(record: Any, key: str) -> Iterator[Any]:
    """Yield the entries of the list under a key, if there is one."""
    entries = record.get(key) if isinstance(record, Mapping) else None
    if isinstance(entries, list):
        yield from entries


def _attributes(span: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the used attributes of a list of ``{"key": ..., "value": ...}``.

    OTLP wraps a value in its type: ``{"intValue": "12"}``.
    """
    found: dict[str, Any] = {}
    for pair in _entries(span, key):
        name = pair.get("key") if isinstance(pair, Mapping) else None
        if isinstance(name, str) and name in USED:
            value = pair.get("value")
            found[name] = next(iter(value.values()), None) if isinstance(value, Mapping) else value
    return found
