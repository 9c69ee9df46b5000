"""Past readings of an Azure Monitor source: means of its stored minutes over even steps.

Azure stores minutes for 93 days. A step with a missing minute in any of the series is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from policies.signals.plausibility import SHARE_SLACK, SHARES
from scaler.clouds.azure.metrics import BUCKET_S, MetricsBatches, MetricsQuery, metric
from scaler.clouds.rest import Body
from scaler.clouds.timestamps import seconds_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scaler.config.kinds.azure_sources import AzureMetric, AzureMonitor

SPAN_S: Final = 86_400.0
"""Time range of one request: a day's minutes of one series have some 100 kB. Seconds."""


class AzureMonitorPast:
    """Means over steps of `step_s` seconds, from `since` to `until`.

    `since` and `until` are in seconds since the Unix epoch.
    """

    def __init__(self, spec: AzureMonitor, batches: MetricsBatches, since: float, until: float, step_s: float) -> None:
        self._spec = spec
        self._batches = batches
        self._since = since
        self._step_s = step_s
        self.steps = max(0, math.floor((until - since) / step_s + 1e-6))
        self._first = math.floor(since / BUCKET_S)
        self._minutes = math.ceil((since + self.steps * step_s) / BUCKET_S) - self._first

    async def read(self, quantity: str, name: str, of: AzureMetric) -> NDArray[np.float64]:
        """Return a quantity's mean in each step; NaN where unknown.

        `name` is that of its metric `of`. The shape is (`steps`,). Raises port errors.
        """
        aggregation = of.aggregation
        query = MetricsQuery(self._spec.metric_namespace, (name,), aggregation, of.filter)
        minutes_by_series: dict[str, NDArray[np.float64]] = {}
        for since, until in self._spans():
            body = await self._batches.read(replace(query, span=(since, until)), self._spec.resource)
            self._add_minutes(body, name, aggregation, minutes_by_series)
        if not minutes_by_series:
            return np.full(self.steps, np.nan)
        minutes = self._combined(np.stack(list(minutes_by_series.values()))) * of.scale
        return self._step_means(quantity, minutes)

    def _spans(self) -> Iterator[tuple[float, float]]:
        start, end = self._first * BUCKET_S, (self._first + self._minutes) * BUCKET_S
        while start < end:
            yield float(start), float(min(end, start + SPAN_S))
            start += int(SPAN_S)

    def _add_minutes(
        self, body: Body, name: str, aggregation: str, minutes_by_series: dict[str, NDArray[np.float64]]
    ) -> None:
        """Add each series' minutes, by its dimensions."""
        for item in metric(body, name).get("timeseries") or ():
            minutes = minutes_by_series.setdefault(str(item.get("metadatavalues")), np.full(self._minutes, np.nan))
            for point in item.get("data") or ():
                i = math.floor(seconds_of(point.get("timeStamp"), -1.0) / BUCKET_S) - self._first
                if 0 <= i < self._minutes:
                    minutes[i] = _number(point, aggregation)

    def _combined(self, series: NDArray[np.float64]) -> NDArray[np.float64]:
        match self._spec.combine:
            case "mean":
                return np.asarray(series.mean(axis=0))
            case "max":
                return np.asarray(series.max(axis=0))
        return np.asarray(series.sum(axis=0))

    def _step_means(self, quantity: str, minutes: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the mean of the minutes that overlap each step.

        Example: a step from 12:00:30 to 12:02:00 is the mean of the minutes 12:00 and 12:01.
        """
        if quantity in SHARES:
            minutes[minutes > 1 + SHARE_SLACK] = np.nan
        edges = self._since + self._step_s * np.arange(self.steps + 1)
        first = np.floor(edges[:-1] / BUCKET_S + 1e-9).astype(int) - self._first
        last = np.ceil(edges[1:] / BUCKET_S - 1e-9).astype(int) - self._first
        return np.array([minutes[a:b].mean() for a, b in zip(first, last, strict=True)])


def _number(point: Mapping[str, Any], aggregation: str) -> float:
    value = point.get(aggregation)
    is_valid = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    return float(value) if is_valid and value is not None else math.nan
