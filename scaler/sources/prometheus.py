"""Prometheus: metrics of engines and exporters by preset, and any other metric by PromQL.

Each tick sends one request: one query with all quantities of a source, and the time of each one's oldest sample, so
that a reading has the age of its samples and not of the response. Workloads on one server share its connections, and
those that read the same quantities of a preset share one query (`prometheus_shared.py`). A source with configured
queries sends its own, which takes the server some milliseconds. Beyond some hundred queries a second, use recording
rules.

A missing value is never zero, nor a smaller sum:

- No series now, but within a day: absent. No series within a day: absent, and the reason begins with "misconfigured"
  and names the metric and similar ones. If that holds for every quantity, `Misconfigured` is raised.
- A target that responded within five minutes and cannot be scraped now makes the preset's totals lower bounds, which
  may raise the size but not lower it, and its means absent: Prometheus omits such replicas.
- A warning in the response (Thanos: a store did not respond) makes all its quantities absent.
- A configured query that fails makes only its own quantities absent.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import numpy as np

from policies.model import Absent, Fresh
from policies.model.names import RATE_WINDOW
from scaler.clouds import http_client
from scaler.clouds.engines.histogram import parse_buckets, share_above
from scaler.clouds.engines.presets import Recipe, missing_slo, with_missing
from scaler.clouds.response_validation import validated
from scaler.config.kinds.prometheus import Prometheus, window_of_scrapes
from scaler.ports import Context, Misconfigured, Unavailable
from scaler.sources.missing_series import MISCONFIGURED, MetricSelector, MissingSeries
from scaler.sources.prometheus_api import PrometheusApi, QueryResult, QuerySample, Refused
from scaler.sources.prometheus_past import PrometheusPast
from scaler.sources.prometheus_shared import SharedQueries, is_shareable, open_shared, preset_quantities, selected_by
from scaler.sources.promql import (
    LABEL,
    LOST,
    LOST_S,
    SCRAPES,
    SEEN_S,
    joint_query,
    metric_names,
    preset_queries,
)
from scaler.sources.sanitize import sanitize

if TYPE_CHECKING:
    from numpy.typing import NDArray

QueryPart = tuple[QuerySample, ...] | Absent
USUAL_SCRAPES_S: Final = (1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0)
"""Usual scrape intervals. The count of samples in five minutes is one off, by its phase. Seconds."""
UNSEEN_WINDOW_S: Final = 120.0
"""Window until the scrape interval was seen: four scrapes of 30 s, a usual interval. Seconds."""


async def open_prometheus(spec: Prometheus, context: Context) -> PrometheusSource:
    """Open the source. Raises `Misconfigured`."""
    session = await http_client.session(context, spec.url, spec.access.ca_file)
    api = PrometheusApi(spec.url, spec.access, context.clock, session, context.deadline_s)
    shared = await open_shared(spec, context, session) if is_shareable(spec) else None
    return PrometheusSource(spec, api, context, shared)


class PrometheusSource:
    """The source's port.

    A configured query is first sent alone, which shows whether Prometheus accepts it and whether it returns a scalar or
    a vector. An accepted one joins the joint query of all later ticks; a refused one stays separate.
    """

    def __init__(
        self, spec: Prometheus, api: PrometheusApi, context: Context, shared: SharedQueries | None = None
    ) -> None:
        self._api = api
        self._shared = shared
        self._spec = spec
        self._missing_series = MissingSeries(api, context.clock)
        self._deadline_s = context.deadline_s
        self._slo_limits_s = context.slo_limits_s
        self._clock = context.clock
        self._recipes = spec.recipes()
        self._sees_scrapes = RATE_WINDOW in preset_quantities(spec)
        self._set_window(UNSEEN_WINDOW_S if spec.window_s is None else spec.window_s)
        self._configured = {f"value:{q}": text for q, text in spec.queries.items()}
        self._configured |= {f"time:{q}": text for q, text in spec.timestamp_queries.items()}
        self._result_kinds: dict[str, str] = {}

    @validated("Prometheus")
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        try:
            async with asyncio.timeout(http_client.DEADLINE_SHARE * self._deadline_s) as limit:
                parts = await self._query_all()
        except TimeoutError as e:
            raise Unavailable(f"Prometheus at {self._api.url}: no response in time") from e
        window = self._window_reading(parts.get(SCRAPES))
        readings = {q: self._reading(q, parts) for q in (*self._recipes, *self._spec.queries)}
        missing = {q: self._selector(q) for q, reading in readings.items() if reading is None}
        reasons = await self._missing_series.reasons(missing, limit.when())
        complete = {q: Absent(reasons[q]) if reading is None else reading for q, reading in readings.items()}
        errors = [r.reason for r in complete.values() if isinstance(r, Absent) and r.reason.startswith(MISCONFIGURED)]
        if errors and len(errors) == len(complete):
            first, *others = dict.fromkeys(reason.removeprefix(MISCONFIGURED) for reason in errors)
            raise Misconfigured(first + (f" (and {len(others)} more)" if others else ""))
        return window | complete

    @validated("Prometheus")
    async def past(
        self, quantities: Collection[str], since: float, until: float, step_s: float
    ) -> Mapping[str, NDArray[np.float64]]:
        return await PrometheusPast(self._api, since, until, step_s).read(self._spec, quantities)

    def _set_window(self, window_s: float) -> None:
        """Set the window of rates, and what contains it."""
        self._window_s = window_s
        self._preset_queries: Mapping[str, str] | None = None
        self._selected = None if self._shared is None else selected_by(self._spec, window_s)

    @property
    def _preset(self) -> Mapping[str, str]:
        """The queries of the preset.

        They are built at the first call: a source that shares a query needs none.
        """
        if self._preset_queries is None:
            match, window_s = self._spec.match, self._window_s
            self._preset_queries = preset_queries(self._recipes, match, window_s, sees_scrapes=self._sees_scrapes)
        return self._preset_queries

    def _selector(self, quantity: str) -> MetricSelector:
        """Return the metrics that a quantity is read from."""
        recipe = self._recipes.get(quantity)
        if recipe is None:
            return MetricSelector(metric_names(self._spec.queries[quantity]))
        return MetricSelector(recipe.series, {**self._spec.match, **recipe.labels})

    def _window_reading(self, scrapes: QueryPart | None) -> dict[str, Fresh[float] | Absent]:
        """Return the window of this tick's rates, and let that of the next tick follow the scrapes.

        Example: 18 to 23 samples in 300 s are scrapes every 15 s, and the window is 60 s.
        """
        if not self._sees_scrapes:
            return {}
        reading: dict[str, Fresh[float] | Absent] = {RATE_WINDOW: Fresh(self._window_s, self._clock.now())}
        count = sanitize(SCRAPES, scrapes[0].value, scrapes[0].at) if isinstance(scrapes, tuple) and scrapes else None
        if isinstance(count, Fresh) and count.value >= 1.0:
            window_s = window_of_scrapes(_usual_interval_s(SEEN_S / count.value))
            if window_s != self._window_s:
                self._set_window(window_s)
        return reading

    async def _query_all(self) -> dict[str, QueryPart]:
        """Return the result of each part.

        There is one joint query, and separate ones for queries not yet accepted.
        """
        unknown = [key for key in self._configured if key not in self._result_kinds]
        joined = {
            key: _as_series(text, self._result_kinds[key])
            for key, text in self._configured.items()
            if key in self._result_kinds
        }
        if not unknown:
            return await self._query_jointly(joined)
        joint, separate = await asyncio.gather(self._query_jointly(joined), self._query_each(unknown))
        return joint | separate

    async def _query_jointly(self, joined: Mapping[str, str]) -> dict[str, QueryPart]:
        if self._shared is not None and self._selected is not None:
            parts = await self._shared.read(self._selected)
            if parts is not None:
                return dict(parts)
        try:
            return await self._query_terms({**self._preset, **joined})
        except Refused as e:
            if not joined:
                return dict.fromkeys(self._preset, Absent(f"{MISCONFIGURED}{e}"))
        self._result_kinds.clear()  # one of the configured queries is refused: send each separately
        presets, separate = await asyncio.gather(self._query_jointly({}), self._query_each(joined))
        return presets | separate

    async def _query_each(self, keys: Collection[str]) -> dict[str, QueryPart]:
        return dict(zip(keys, await asyncio.gather(*(self._query_one(key) for key in keys)), strict=True))

    async def _query_terms(self, terms: Mapping[str, str]) -> dict[str, QueryPart]:
        if not terms:
            return {}
        result = await self._api.query(joint_query(terms))
        return {key: _query_part(result, (row for row in result.rows if row.labels.get(LABEL) == key)) for key in terms}

    async def _query_one(self, key: str) -> QueryPart:
        try:
            result = await self._api.query(self._configured[key])
        except Refused as e:
            return Absent(f"{MISCONFIGURED}{e}")
        if result.kind not in {"scalar", "vector"}:
            return Absent(f"{MISCONFIGURED}the query returns a {result.kind}, not a number")
        self._result_kinds[key] = result.kind
        return _query_part(result, result.rows)

    def _reading(self, quantity: str, parts: Mapping[str, QueryPart]) -> Fresh[float] | Absent | None:
        """Return the reading of a quantity; None where it has no series."""
        recipe = self._recipes.get(quantity)
        values, times, lost_targets = (parts.get(key) for key in (f"value:{quantity}", f"time:{quantity}", LOST))
        if recipe and (no_slo := missing_slo(recipe, self._slo_limits_s)):
            return no_slo
        if recipe and recipe.aggregation == "late" and isinstance(values, tuple) and values:
            values = self._late_share(recipe, values)
        for part in (values, times):
            if isinstance(part, Absent):
                return part
            if part is not None and len(part) > 1:
                return Absent(f"the query returns {len(part)} series; aggregate it to one, as in sum(...)")
        if not values or (recipe and not times):
            return None
        assert isinstance(values, tuple)  # noqa: S101 - the loop above returns an Absent
        if recipe and recipe.is_latency and values[0].value == "NaN":
            return Absent(self._no_observations)
        time: object = values[0].at
        if isinstance(times, tuple):
            if not times:
                return Absent("the timestamp query returns no series")
            time = times[0].value
        try:
            reading = sanitize(quantity, values[0].value, float(str(time)))
        except ValueError:
            return Absent(f"the timestamp query returns {time!r}, not a time")
        if recipe and isinstance(lost_targets, tuple) and lost_targets:
            missing = f"{lost_targets[0].value} targets that were up in the last {LOST_S} s cannot be scraped now"
            return with_missing(reading, recipe, missing)
        return reading

    def _late_share(self, recipe: Recipe, buckets: tuple[QuerySample, ...]) -> tuple[QuerySample, ...] | Absent:
        """Return the late share of a histogram, given as one row per bucket, as one row."""
        try:
            counts = parse_buckets((row.labels.get("le"), row.value) for row in buckets)
        except ValueError as e:
            return Absent(f"{recipe.series[0]} is not a valid histogram: {e}")
        share = share_above(self._slo_limits_s[recipe.slo] * recipe.divisor, counts)
        return Absent(self._no_observations) if share is None else (replace(buckets[0], value=str(share)),)

    @property
    def _no_observations(self) -> str:
        return f"no observations in the last {self._window_s:g} s"


def _query_part(result: QueryResult, rows: Iterable[QuerySample]) -> QueryPart:
    """Return the rows, or why they are incomplete."""
    return Absent(f"partial response: {result.partial}") if result.partial else tuple(rows)


def _usual_interval_s(interval_s: float) -> float:
    """Return the usual scrape interval nearest to one: 30 for 33 (9 or 10 samples in 300 s)."""
    return min(USUAL_SCRAPES_S, key=lambda usual_s: abs(math.log(usual_s / interval_s)))


def _as_series(text: str, kind: str) -> str:
    return f"vector({text}\n)" if kind == "scalar" else text
