"""Cloud Monitoring: time series by filter, and PromQL, with its REST API."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from aiohttp import web

from tests.servers.gcp_compute import stamp
from tests.servers.gcp_container import status

TERM = re.compile(r'(metric\.type|(?:metric|resource)\.labels?\.\w+)\s*=\s*(?:one_of\(([^)]*)\)|"([^"]*)")')

ALIGNERS: dict[str, Callable[[list[float], float], float]] = {
    "ALIGN_MAX": lambda values, _: max(values),
    "ALIGN_MEAN": lambda values, _: sum(values) / len(values),
    "ALIGN_RATE": lambda values, period_s: sum(values) / period_s,
}
"""Aligners; a rate is that of a metric of kind DELTA."""
REDUCERS: dict[str, Callable[[list[float]], float]] = {
    "REDUCE_MEAN": lambda values: sum(values) / len(values),
    "REDUCE_SUM": sum,
    "REDUCE_MAX": max,
    "REDUCE_MIN": min,
}


@dataclass
class Series:
    """One series and its points (time, value), oldest first."""

    metric: str
    labels: dict[str, str] = field(default_factory=dict)
    resource: dict[str, str] = field(default_factory=dict)
    resource_type: str = "pubsub_subscription"
    points: list[tuple[float, float]] = field(default_factory=list)

    def matches(self, terms: dict[str, set[str]]) -> bool:
        known = {"metric.type": self.metric}
        known |= {f"metric.labels.{k}": v for k, v in self.labels.items()}
        known |= {f"resource.labels.{k}": v for k, v in self.resource.items()}
        return all(known.get(name) in values for name, values in terms.items())


class Monitoring:
    """The measurements. `garbled` replaces values."""

    def __init__(self) -> None:
        self.series: list[Series] = []
        self.errors: list[dict[str, Any]] = []
        self.garbled: object = None
        self.prometheus: dict[str, Any] | None = None
        self.page = 100_000
        self.filters: list[str] = []
        self.aligners: list[str] = []
        self.refresh: Callable[[], None] = lambda: None
        """Called before each list, so that a server adds its samples."""

    def record(
        self, metric: str, value: float, at: float, *, labels: dict[str, str] | None = None, **resource: str
    ) -> None:
        """Add a point to a series, which is created if needed."""
        for one in self.series:
            if (one.metric, one.labels, one.resource) == (metric, labels or {}, resource):
                one.points.append((at, value))
                return
        self.series.append(Series(metric, labels or {}, resource, points=[(at, value)]))

    async def list(self, request: web.Request) -> web.Response:
        self.refresh()
        query = request.query
        self.filters.append(query["filter"])
        self.aligners.append(query.get("aggregation.perSeriesAligner", ""))
        terms: dict[str, set[str]] = {}
        for name, several, one in TERM.findall(query["filter"]):
            key = name.replace(".label.", ".labels.")
            terms[key] = {w.strip().strip('"') for w in several.split(",")} if several else {one}
        if "metric.type" not in terms:
            return status(
                400, "INVALID_ARGUMENT", "The supplied filter does not specify a valid combination of metric."
            )
        since = datetime.fromisoformat(query["interval.startTime"]).timestamp()
        until = datetime.fromisoformat(query["interval.endTime"]).timestamp()
        series = [self._time_series(s, since, until, query) for s in self.series if s.matches(terms)]
        series = _reduced([one for one in series if one["points"]], query.get("aggregation.crossSeriesReducer", ""))
        first = int(query.get("pageToken", "0"))
        body: dict[str, Any] = {"timeSeries": series[first : first + self.page]} if series else {}
        if first + self.page < len(series):
            body["nextPageToken"] = str(first + self.page)
        if self.errors:
            body["executionErrors"] = self.errors
        return web.json_response(body)

    def _time_series(self, s: Series, since: float, until: float, query: Any) -> dict[str, Any]:
        points = [p for p in s.points if since < p[0] <= until]
        period = float(query.get("aggregation.alignmentPeriod", "0s").removesuffix("s"))
        aligner = query.get("aggregation.perSeriesAligner", "")
        if aligner and points:
            points = _aligned(points, until, period, aligner)
        return {
            "metric": {"type": s.metric, "labels": s.labels},
            "resource": {"type": s.resource_type, "labels": s.resource},
            "metricKind": "GAUGE",
            "valueType": "DOUBLE",
            "points": [self._point(at, value) for at, value in reversed(points)],
        }

    def _point(self, at: float, value: float) -> dict[str, Any]:
        number: dict[str, Any] = {"int64Value": str(int(value))} if value == int(value) else {"doubleValue": value}
        if self.garbled is not None:
            number = {"doubleValue": self.garbled}
        return {"interval": {"startTime": stamp(at), "endTime": stamp(at)}, "value": number}

    async def promql(self, request: web.Request) -> web.Response:
        form = request.query
        if self.prometheus is None:
            result: list[Any] = []
        else:
            result = list(self.prometheus.get(str(form["query"]), []))
        return web.json_response({"status": "success", "data": {"resultType": "vector", "result": result}})


def _aligned(points: list[tuple[float, float]], until: float, period: float, aligner: str) -> list[tuple[float, float]]:
    """Return one value of each period, which ends a whole number of periods before `until`; oldest first."""
    slots: dict[float, list[float]] = {}
    for at, value in points:
        slots.setdefault(until - ((until - at) // period) * period, []).append(value)
    align = ALIGNERS.get(aligner, ALIGNERS["ALIGN_MEAN"])
    return sorted((end, align(values, period)) for end, values in slots.items())


def _reduced(series: list[dict[str, Any]], reducer: str) -> list[dict[str, Any]]:
    """Return all series reduced to one, by period."""
    if reducer in {"", "REDUCE_NONE"} or not series:
        return series
    slots: dict[str, list[float]] = {}
    for one in series:
        for point in one["points"]:
            value = point["value"]
            slots.setdefault(point["interval"]["endTime"], []).append(float(next(iter(value.values()))))
    how = REDUCERS[reducer]
    points = [
        {"interval": {"startTime": end, "endTime": end}, "value": {"doubleValue": how(values)}}
        for end, values in sorted(slots.items(), reverse=True)
    ]
    return [{**series[0], "points": points}]
