"""Prometheus: an engine's or exporter's metrics by preset, and anything else by PromQL.

A turn is one request: all quantities of a source in one query, with the time of their oldest sample, so that a reading
is as old as what it was made from and not as the answer. Workloads that share a server share its connections; each
asks for itself, some milliseconds a query. Beyond some hundred queries a second, record them as rules in Prometheus.

What is missing is never zero, nor a smaller sum:

- No series now, but in the last day: absent. No series in a day: absent, and the reason begins with "misconfigured",
  names what was looked for and what comes near it. Where that holds for every quantity, `Misconfigured` is raised;
  while one can be told it is not, since the others must not hide it.
- A target that answered in the last five minutes and cannot be scraped now makes the preset's totals lower bounds,
  which may raise and not lower, and its means absent: Prometheus leaves such replicas out, and the rest would look like
  the whole.
- A warning in the answer (Thanos: a store did not answer) makes all that came with it absent.
- A query given that fails makes its own quantities absent; the others are asked without it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from policies.model.field_metadata import FieldMetadata
from scaler.clouds import http_client
from scaler.clouds.engines import presets
from scaler.clouds.http_access import Access
from scaler.ports import Context
from scaler.sources.prometheus_api import PrometheusApi
from scaler.sources.prometheus_source import PrometheusSource


@dataclass(frozen=True, kw_only=True)
class Prometheus:
    """Metrics in Prometheus, or in what speaks its query API."""

    url: Annotated[
        str,
        FieldMetadata(
            "Base address, with the path prefix if there is one.",
            pattern=r"^https?://[^/@\s?#]+(/[^\s?#]*)?$",
            example="http://prometheus.monitoring:9090",
        ),
    ]
    preset: Annotated[
        presets.Preset | None, FieldMetadata("Whose metrics to read; null: only the queries below.", example="vllm")
    ] = None
    match: Annotated[
        Mapping[str, str],
        FieldMetadata("Labels that the preset's series must have, exactly.", example={"namespace": "llm"}),
    ] = field(default_factory=dict)
    read: Annotated[
        tuple[str, ...] | None,
        FieldMetadata(
            "Which of the preset's quantities; null: all but rates and latencies, which are read when named here.",
            example=[
                "running",
                "waiting",
                "kv_cache_usage",
                "requests_per_s",
                "prompt_tokens_per_s",
                "generation_tokens_per_s",
            ],
        ),
    ] = None
    queries: Annotated[
        Mapping[str, str],
        FieldMetadata(
            "PromQL by the name of the quantity it gives; one number or one series each. Goes before the preset's."
        ),
    ] = field(default_factory=dict)
    timestamp_queries: Annotated[
        Mapping[str, str],
        FieldMetadata(
            "PromQL for when a query's samples were taken, as in min(timestamp(x)). Without it a query's value counts"
            " as measured when it is evaluated, though its samples may be up to five minutes old."
        ),
    ] = field(default_factory=dict)
    window_s: Annotated[
        float, FieldMetadata("Over which rates and latencies are taken; span four scrapes. Seconds.", gt=0, le=86400)
    ] = 120.0
    max_age_s: Annotated[
        float,
        FieldMetadata(
            "Older samples are stale; twice the scrape interval at least. An exporter's own delay adds. Seconds.", gt=0
        ),
    ] = 60.0
    access: Annotated[Access, FieldMetadata("How to be let in.")] = field(default_factory=Access)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from presets.problems(self.preset, self.read, self.match)
        for quantity in self.queries:
            if not quantity.isascii() or not quantity.isidentifier():
                yield "queries", f"{quantity!r} is not a quantity's name: letters, digits and _"
        for quantity in self.timestamp_queries.keys() - self.queries.keys():
            yield "timestamp_queries", f"there is no query {quantity!r}"
        if not self.quantities():
            yield "", "reads nothing: name a preset or give queries"

    def recipes(self) -> dict[str, presets.Recipe]:
        """The preset's part of what is read."""
        chosen = presets.recipes(self.preset, self.read)
        return {quantity: recipe for quantity, recipe in chosen.items() if quantity not in self.queries}

    def quantities(self) -> Mapping[str, float]:
        return dict.fromkeys([*self.recipes(), *self.queries], self.max_age_s)

    async def open(self, context: Context) -> PrometheusSource:
        session = await http_client.session(context, self.url, self.access.ca_file)
        api = PrometheusApi(self.url, self.access, context.clock, session, context.deadline_s)
        return PrometheusSource(self, api, context)
