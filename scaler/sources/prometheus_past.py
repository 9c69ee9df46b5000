"""Past readings of a Prometheus source: means over even steps, by the same recipes, in few requests.

Rates cover the whole step; gauges and configured queries are sampled once a step. Steps in which a target could not be
scraped are gaps for all totals, since Prometheus omits such replicas.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.model import Fresh
from scaler.clouds.http_answers import off_loop
from scaler.ports import Misconfigured, Unavailable
from scaler.sources.promql import LABEL, LOST, joint_query, lost_targets_query, value_query
from scaler.sources.sanitize import sanitize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scaler.config.kinds.prometheus import Prometheus
    from scaler.sources.prometheus_api import PrometheusApi, RangeSeries

MAX_POINTS: Final = 11_000
"""Prometheus's maximum of points per series: a longer past takes several requests."""
SAMPLE_BYTES: Final = 25
"""Bytes of one sample in a response, to decide whether a series goes to the parser thread."""
DEADLINE_S: Final = 20.0
"""Time limit of a request: two weeks in steps of five minutes take some hundred milliseconds per engine. Seconds."""


class PrometheusPast:
    """Means of quantities over steps of `step_s` from `since` to `until` (seconds since the Unix epoch)."""

    def __init__(self, api: PrometheusApi, since: float, until: float, step_s: float) -> None:
        self._api = api
        self._since = since
        self._step_s = step_s
        self.steps = max(0, math.floor((until - since) / step_s + 1e-6))

    async def read(self, spec: Prometheus, quantities: Collection[str]) -> dict[str, NDArray[np.float64]]:
        """Return each quantity's mean in every step; NaN where unknown.

        Shape (`steps`,). Raises port errors.
        """
        recipes = {q: r for q, r in spec.recipes().items() if q in quantities and r.aggregation != "late"}
        terms = {q: value_query(r, spec.match, self._step_s) for q, r in recipes.items()}
        means: dict[str, NDArray[np.float64]] = {}
        if terms:
            probe = min(recipes.values(), key=lambda r: r.uses_buckets)
            joint_means = await self._joint({**terms, LOST: lost_targets_query(probe, spec.match)})
            has_gap = joint_means.pop(LOST) > 0
            means = {q: np.where(has_gap, np.nan, values) for q, values in joint_means.items()}
        for quantity, text in spec.queries.items():
            if quantity in quantities:
                means[quantity] = await self._configured(quantity, text)
        return {q: means.get(q, np.full(self.steps, np.nan)) for q in quantities}

    async def _joint(self, terms: Mapping[str, str]) -> dict[str, NDArray[np.float64]]:
        """Return several recipes' means by one joint query, as in a tick."""
        means = {key: np.full(self.steps, np.nan) for key in terms}
        async for series in self._series(joint_query(terms)):
            key = series.labels.get(LABEL, "")
            if key in means:
                await self._fill_from(means[key], key, series)
        return means

    async def _configured(self, quantity: str, text: str) -> NDArray[np.float64]:
        """Return the means of a configured query: a number at every step, or one series."""
        means, labels = np.full(self.steps, np.nan), set[frozenset[tuple[str, str]]]()
        async for series in self._series(text):
            labels.add(frozenset(series.labels.items()))
            await self._fill_from(means, quantity, series)
        if len(labels) > 1:
            raise Misconfigured(
                f"{quantity}: the query returns {len(labels)} series; aggregate it to one, as in sum(...)"
            )
        return means

    async def _series(self, promql: str) -> AsyncIterator[RangeSeries]:
        for first, last in self._parts():
            start, end = (self._since + self._step_s * (i + 1) for i in (first, last))
            matrix = await self._api.query_range(promql, start, end, self._step_s, DEADLINE_S)
            if matrix.partial:
                raise Unavailable(f"Prometheus at {self._api.url}: partial response: {matrix.partial}")
            for series in matrix.series:
                yield series

    def _parts(self) -> Iterator[tuple[int, int]]:
        """Yield the first and the last step of each request."""
        for first in range(0, self.steps, MAX_POINTS):
            yield first, min(first + MAX_POINTS, self.steps) - 1

    async def _fill_from(self, means: NDArray[np.float64], quantity: str, series: RangeSeries) -> None:
        await off_loop(SAMPLE_BYTES * len(series.values), self._fill, means, quantity, series)

    def _fill(self, means: NDArray[np.float64], quantity: str, series: RangeSeries) -> None:
        """Fill each step with its mean, which Prometheus reports at the step's end.

        Example: since 1000 and steps of 60 s, a value at 1120 is the mean of step 1, from 1060 to 1120.
        """
        for time_s, value in series.values:
            step = round((time_s - self._since) / self._step_s) - 1
            reading = sanitize(quantity, value, time_s)
            if 0 <= step < self.steps and isinstance(reading, Fresh):
                means[step] = reading.value
