"""What Azure Monitor would have told: means over even steps, of the minutes that it kept.

Azure keeps minutes for 93 days. A step of which a minute is missing is not known, in any of the series.
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

    from scaler.config.kinds.azure_sources import AzureMonitor

SPAN_S: Final = 86_400.0
"""Of one question: a day's minutes of one series are some 100 kB."""


class AzureMonitorPast:
    """The steps of `step_s` from `since` until `until`, in seconds since the Unix epoch."""

    def __init__(self, spec: AzureMonitor, asking: MetricsBatches, since: float, until: float, step_s: float) -> None:
        self._spec = spec
        self._batches = asking
        self._since = since
        self._step_s = step_s
        self.steps = max(0, math.floor((until - since) / step_s + 1e-6))
        self._first = math.floor(since / BUCKET_S)
        self._minutes = math.ceil((since + self.steps * step_s) / BUCKET_S) - self._first

    async def read(self, quantity: str) -> NDArray[np.float64]:
        """A quantity's mean in each step; NaN where it is not known. Raises port errors."""
        name, aggregation = self._spec.metrics[quantity], self._spec.aggregation_of(quantity)
        asked = MetricsQuery(self._spec.metric_namespace, (name,), aggregation, self._spec.filter)
        known: dict[str, NDArray[np.float64]] = {}
        for since, until in self._spans():
            body = await self._batches.ask(replace(asked, span=(since, until)), self._spec.resource)
            self._take(body, name, aggregation, known)
        if not known:
            return np.full(self.steps, np.nan)
        return self._stepped(quantity, self._combined(np.stack(list(known.values()))))

    def _spans(self) -> Iterator[tuple[float, float]]:
        began, end = self._first * BUCKET_S, (self._first + self._minutes) * BUCKET_S
        while began < end:
            yield float(began), float(min(end, began + SPAN_S))
            began += int(SPAN_S)

    def _take(self, body: Body, name: str, aggregation: str, known: dict[str, NDArray[np.float64]]) -> None:
        """Each series' minutes, by its dimensions."""
        for one in metric(body, name).get("timeseries") or ():
            minutes = known.setdefault(str(one.get("metadatavalues")), np.full(self._minutes, np.nan))
            for point in one.get("data") or ():
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

    def _stepped(self, quantity: str, minutes: NDArray[np.float64]) -> NDArray[np.float64]:
        """The mean of the minutes that each step touches."""
        values = minutes * self._spec.scale.get(quantity, 1.0)
        if quantity in SHARES:
            values[values > 1 + SHARE_SLACK] = np.nan
        edges = self._since + self._step_s * np.arange(self.steps + 1)
        first = np.floor(edges[:-1] / BUCKET_S + 1e-9).astype(int) - self._first
        last = np.ceil(edges[1:] / BUCKET_S - 1e-9).astype(int) - self._first
        return np.array([values[a:b].mean() for a, b in zip(first, last, strict=True)])


def _number(point: Mapping[str, Any], aggregation: str) -> float:
    value = point.get(aggregation)
    told = isinstance(value, int | float) and not isinstance(value, bool) and value >= 0
    return float(value) if told and value is not None else math.nan
