"""Azure Monitor of the Azure on 127.0.0.1: metrics of one resource by Resource Manager, and of many in one call."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from aiohttp import web

from scaler.clock import SystemClock
from tests.servers.azure import Azure, denied, refusal

READ: Final = "Microsoft.Insights/metrics/read"
LATE_S: Final = 2.0
"""Time after which an ended minute is reported: a read just before its end would take it for a filling one. Seconds."""
ENTITY: Final = re.compile(r"^(?:EntityName|ModelDeploymentName) eq '([^']+)'( and IsSpillover eq 'True')?$")
SPILLED: Final = " (spillover)"
"""Suffix of an entity's name in the samples of the requests that it did not serve."""


@dataclass
class Monitor:
    """Samples by resource, metric and entity: the newest minute's value, or None where it has none."""

    cloud: Azure
    values: dict[tuple[str, str, str], Any] = field(default_factory=dict)
    history: dict[str, Callable[[int], float | None]] = field(default_factory=dict)
    """By metric: its value in a minute since the epoch, for longer spans."""
    by_dimensions: dict[tuple[str, str], Callable[[], list[tuple[dict[str, str], float]]]] = field(default_factory=dict)
    """By resource and metric: the series that a filter on their dimensions splits it into, each with its value."""
    ahead_s: float = 0.0
    calls: list[int] = field(default_factory=list)
    """Resources of each batch."""
    empty: bool = False

    def set(self, resource: str, metric: str, value: Any, entity: str = "") -> None:
        self.values[resource.lower(), metric, entity] = value
        self.cloud.resources[f"{resource}/providers/Microsoft.Insights/metrics".lower()] = self.one
        defined = sorted({n for r, n, _ in self.values if r == resource.lower()})
        definitions = [{"name": {"value": name}} for name in defined]
        self.cloud.lists[f"{resource}/providers/Microsoft.Insights/metricDefinitions".lower()] = lambda _: definitions

    async def one(self, request: web.Request) -> web.StreamResponse:
        resource = request.path.lower().removesuffix("/providers/microsoft.insights/metrics")
        return web.json_response(self._response(resource, request, entity_of(request.query.get("$filter", ""))))

    async def batch(self, request: web.Request) -> web.StreamResponse:
        self.cloud.requests[READ] += 1
        if not self.cloud.grants(READ):
            return denied(READ)
        resources = (await request.json())["resourceids"]
        if len(resources) > 50:
            return refusal(400, "BadRequest", "At most 50 resources.")
        self.calls.append(len(resources))
        entity = entity_of(request.query.get("filter", ""))
        values = [{"resourceid": r, **self._response(r.lower(), request, entity)} for r in resources]
        return web.json_response({"values": values})

    def _response(self, resource: str, request: web.Request, entity: str) -> dict[str, Any]:
        names = request.query["metricnames"].split(",")
        aggregation = request.query["aggregation"].lower()
        return {"value": [self._metric(resource, name, aggregation, entity, request) for name in names]}

    def _metric(self, resource: str, name: str, aggregation: str, entity: str, request: web.Request) -> dict[str, Any]:
        span = self._span(name, aggregation, request) if name in self.history else []
        if name in self.history:
            return {"name": {"value": name}, "timeseries": [{"metadatavalues": [], "data": span}]}
        if split := self.by_dimensions.get((resource, name)):
            return {"name": {"value": name}, "errorCode": "Success", "timeseries": self._split(split, aggregation)}
        series = [
            {"data": [self._point(4, {aggregation: 99}), self._point(1, {aggregation: value}), self._point(0, {})]}
            for (r, n, e), value in self.values.items()
            if (r, n) == (resource, name) and (not entity or e == entity)
        ]
        return {"name": {"value": name}, "errorCode": "Success", "timeseries": [] if self.empty else series}

    def _split(self, series: Callable[[], list[tuple[dict[str, str], float]]], by: str) -> list[dict[str, Any]]:
        return [
            {
                "metadatavalues": [{"name": {"value": n.lower()}, "value": v} for n, v in dimensions.items()],
                "data": [self._point(1, {by: value}), self._point(0, {})],
            }
            for dimensions, value in ([] if self.empty else series())
        ]

    def _span(self, name: str, aggregation: str, request: web.Request) -> list[dict[str, Any]]:
        since, until = (datetime.fromisoformat(request.query[k]).timestamp() // 60 for k in ("starttime", "endtime"))
        values = {m: self.history[name](m) for m in range(int(since), int(until))}
        return [{"timeStamp": _stamp(m), **({aggregation: v} if v is not None else {})} for m, v in values.items()]

    def _point(self, minutes_ago: int, values: dict[str, Any]) -> dict[str, Any]:
        minute = (SystemClock().now() + self.ahead_s - LATE_S) // 60 - minutes_ago
        present = {k: v for k, v in values.items() if v is not None}
        return {"timeStamp": _stamp(minute), **present}


def entity_of(text: str) -> str:
    """Return the entity that a filter selects; empty for all."""
    match = ENTITY.match(text)
    return f"{match[1]}{SPILLED if match[2] else ''}" if match else ""


def _stamp(minute: float) -> str:
    return datetime.fromtimestamp(minute * 60, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def monitor(cloud: Azure) -> Monitor:
    """Add it to the subscription."""
    added = Monitor(cloud)
    cloud.batch = added.batch
    return added
