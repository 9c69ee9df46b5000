"""What a Prometheus source would have told: means over even steps, by the same recipes, in one request or few.

Rates are taken over the step itself, so that each tells of all of it; gauges and queries given are looked at once a
step. Steps in which a target could not be scraped are gaps for all totals: Prometheus leaves such replicas out.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.model import Fresh
from scaler.clouds.http_answers import off_loop
from scaler.ports import Misconfigured, Unavailable
from scaler.sources.promql import LABEL, LOST, joint, missing_metrics, value_of
from scaler.sources.sanitize import sanitize

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from scaler.config.kinds.prometheus import Prometheus
    from scaler.sources.prometheus_api import PrometheusApi, RangeSeries

MAX_POINTS: Final = 11_000
"""Points of a series that Prometheus answers with at the most: a longer past is asked for in parts."""
SAMPLE_BYTES: Final = 25
"""Of one sample in an answer, by which a series is large enough for the parser thread."""
DEADLINE_S: Final = 20.0
"""Of a request: two weeks at five minutes take a Prometheus some hundred milliseconds an engine."""


class PrometheusPast:
    """The means of some quantities over the steps from `since` to `until` (seconds since the Unix epoch)."""

    def __init__(self, api: PrometheusApi, since: float, until: float, step_s: float) -> None:
        self._api = api
        self._since = since
        self._step_s = step_s
        self.steps = max(0, math.floor((until - since) / step_s + 1e-6))

    async def read(self, spec: Prometheus, quantities: Collection[str]) -> dict[str, NDArray[np.float64]]:
        """Raises the port errors."""
        recipes = {q: r for q, r in spec.recipes().items() if q in quantities and r.across != "late"}
        terms = {q: value_of(r, spec.match, self._step_s) for q, r in recipes.items()}
        found: dict[str, NDArray[np.float64]] = {}
        if terms:
            one = min(recipes.values(), key=lambda r: r.buckets)
            whole = await self._joint({**terms, LOST: missing_metrics(one, spec.match)})
            unseen = whole.pop(LOST) > 0
            found = {q: np.where(unseen, np.nan, values) for q, values in whole.items()}
        for quantity, text in spec.queries.items():
            if quantity in quantities:
                found[quantity] = await self._alone(quantity, text)
        return {q: found.get(q, np.full(self.steps, np.nan)) for q in quantities}

    async def _joint(self, terms: Mapping[str, str]) -> dict[str, NDArray[np.float64]]:
        """Many in one query, as a turn asks for them."""
        found = {key: np.full(self.steps, np.nan) for key in terms}
        async for series in self._series(joint(terms)):
            key = series.labels.get(LABEL, "")
            if key in found:
                await self._fill_from(found[key], key, series)
        return found

    async def _alone(self, quantity: str, text: str) -> NDArray[np.float64]:
        """Return one that was given: a number at every step, or one series."""
        found, labels = np.full(self.steps, np.nan), set[frozenset[tuple[str, str]]]()
        async for series in self._series(text):
            labels.add(frozenset(series.labels.items()))
            await self._fill_from(found, quantity, series)
        if len(labels) > 1:
            raise Misconfigured(f"{quantity}: {len(labels)} series where one is expected: aggregate the query")
        return found

    async def _series(self, promql: str) -> AsyncIterator[RangeSeries]:
        for first, last in self._parts():
            start, end = (self._since + self._step_s * (i + 1) for i in (first, last))
            matrix = await self._api.query_range(promql, start, end, self._step_s, DEADLINE_S)
            if matrix.partial:
                raise Unavailable(f"Prometheus at {self._api.url}: a partial answer: {matrix.partial}")
            for series in matrix.series:
                yield series

    def _parts(self) -> Iterator[tuple[int, int]]:
        """Yield the first and the last step of each request."""
        for first in range(0, self.steps, MAX_POINTS):
            yield first, min(first + MAX_POINTS, self.steps) - 1

    async def _fill_from(self, means: NDArray[np.float64], quantity: str, series: RangeSeries) -> None:
        await off_loop(SAMPLE_BYTES * len(series.values), self._fill, means, quantity, series)

    def _fill(self, means: NDArray[np.float64], quantity: str, series: RangeSeries) -> None:
        """Fill each step with its mean, which is reported at its end."""
        for at, value in series.values:
            place = round((at - self._since) / self._step_s) - 1
            reading = sanitize(quantity, value, at)
            if 0 <= place < self.steps and isinstance(reading, Fresh):
                means[place] = reading.value
