"""Prometheus, or what speaks its query API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated

from policies.model.field_metadata import FieldMetadata
from scaler.clouds.engines import presets
from scaler.clouds.http_access import Access


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
        """Return the recipes of the preset's quantities that `queries` does not replace."""
        recipes = presets.recipes(self.preset, self.read)
        return {quantity: recipe for quantity, recipe in recipes.items() if quantity not in self.queries}

    def quantities(self) -> Mapping[str, float]:
        return dict.fromkeys([*self.recipes(), *self.queries], self.max_age_s)
