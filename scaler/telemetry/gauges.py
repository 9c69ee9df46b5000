"""Gauges of the last ticks, and those of their routes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from prometheus_client.core import GaugeMetricFamily, Metric

from policies.model import Tick
from policies.model.route import share_of

Labels = tuple[str, ...]
Samples = Iterable[tuple[Labels, float | None]]


def gauge(name: str, doc: str, labels: Labels, samples: Samples) -> Metric:
    family = GaugeMetricFamily(f"forescale_{name}", doc, labels=("workload", *labels))
    for values, value in samples:
        if value is not None:
            family.add_metric(values, value)
    return family


def route_series(ticks: Sequence[Tick]) -> Iterator[Metric]:
    """Yield the gauges of all routes. An unknown value has no sample."""
    splits = [((t.workload, name), split) for t in ticks for name, split in t.decision.routes.items()]
    yield gauge(
        "route_share",
        "Decided share of the requests that a backend gets.",
        ("route", "backend"),
        (((*route, name), share_of(split.weights, name)) for route, split in splits for name in split.weights),
    )
    yield gauge(
        "route_demand_replicas",
        "Demand of all requests of a route; no sample if it is not measured.",
        ("route",),
        ((route, split.demand) for route, split in splits),
    )
    yield gauge(
        "route_cost_usd_per_hour",
        "Cost of a route's requests to providers; no sample if it is unknown.",
        ("route",),
        ((route, split.usd_per_hour) for route, split in splits),
    )
    yield gauge(
        "route_rejects",
        "1 if a route rejects requests because no backend may get them, else 0.",
        ("route",),
        ((route, float(split.retry_after_s is not None)) for route, split in splits),
    )
