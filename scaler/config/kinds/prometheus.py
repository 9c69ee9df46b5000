"""Prometheus, and servers with the same query API."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata
from policies.model.names import RATE_WINDOW
from scaler.clouds.engines import presets
from scaler.clouds.http_access import BASE_URL, Access

SCRAPES_PER_WINDOW: Final = 4
"""Scrape intervals in a rate window: a rate takes two samples, one may be late, and one lost."""
MIN_WINDOW_S, MAX_WINDOW_S = 60.0, 600.0
"""Limits of a window that follows the scrapes. Shorter ones count too few requests. Seconds."""


def window_of_scrapes(interval_s: float) -> float:
    """Return the window of rates for a scrape interval, both in seconds: 60 for 15, 120 for 30."""
    return min(max(MIN_WINDOW_S, SCRAPES_PER_WINDOW * interval_s), MAX_WINDOW_S)


@dataclass(frozen=True, kw_only=True)
class Prometheus:
    """Metrics in Prometheus, or in a server with the same query API (such as Thanos or Mimir)."""

    url: Annotated[
        str,
        FieldMetadata(
            "Base URL of the server, with its path prefix if it has one.",
            pattern=BASE_URL,
            example="http://prometheus.monitoring:9090",
        ),
    ]
    preset: Annotated[
        presets.Preset | None,
        FieldMetadata(
            "Engine or exporter whose metric names to read. Default: null, only those in queries.", example="vllm"
        ),
    ] = None
    match: Annotated[
        Mapping[str, str],
        FieldMetadata(
            "Labels and exact values that the preset's series must have. Default: none, all series.",
            example={"namespace": "llm"},
        ),
    ] = field(default_factory=dict)
    read: Annotated[
        tuple[str, ...] | None,
        FieldMetadata(
            "Quantities of the preset to read. Default: null, the gauges of the preset, and the rates and latencies"
            " that the policies and the SLO need.",
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
            "PromQL queries, keyed by the name of the quantity that each provides. Each must return one number or one"
            " series. They override the preset. Default: none."
        ),
    ] = field(default_factory=dict)
    timestamp_queries: Annotated[
        Mapping[str, str],
        FieldMetadata(
            "PromQL queries for the time of a query's samples, such as min(timestamp(x)), keyed by quantity. Default:"
            " none; a value then counts as measured at the query, although its samples may be five minutes old."
        ),
    ] = field(default_factory=dict)
    window_s: Annotated[
        float | None,
        FieldMetadata(
            "Window over which rates and latencies are computed; policies follow it. null takes four scrape intervals,"
            " as seen in the samples, from 60 to 600, and 120 until five minutes of them were seen. Set it for queries"
            " of your own with another window. Seconds.",
            gt=0,
            le=86400,
            example=60,
        ),
    ] = None
    max_age_s: Annotated[
        float,
        FieldMetadata(
            "Treat older samples as stale. The default of 60 is two scrapes of 30 s. Use at least two scrape"
            " intervals, plus an exporter's own delay. Seconds.",
            gt=0,
        ),
    ] = 60.0
    access: Annotated[
        Access, FieldMetadata("Credentials and trusted certificates for the requests. Default: no credentials.")
    ] = field(default_factory=Access)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from presets.problems(self.preset, self.read, self.match)
        for quantity in self.queries:
            if not quantity.isascii() or not quantity.isidentifier():
                yield (
                    "queries",
                    f"{quantity!r} is not a valid quantity name: use letters, digits and _, such as queue_depth",
                )
        for quantity in self.timestamp_queries.keys() - self.queries.keys():
            yield "timestamp_queries", f"names {quantity!r}, which is not in queries"
        if not self.quantities():
            yield "", "reads no metric; set preset or queries"

    def recipes(self) -> dict[str, presets.Recipe]:
        """Return the recipes of the preset's quantities that `queries` does not replace."""
        recipes = presets.recipes(self.preset, self.read)
        return {quantity: recipe for quantity, recipe in recipes.items() if quantity not in self.queries}

    def quantities(self) -> Mapping[str, float]:
        recipes = self.recipes()
        seen = [RATE_WINDOW] if self.window_s is None and any(r.needs_history for r in recipes.values()) else []
        return dict.fromkeys([*recipes, *seen, *self.queries], self.max_age_s)
