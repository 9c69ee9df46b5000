"""Prometheus: an engine's or exporter's metrics by preset, and anything else by PromQL.

A turn is one request: all quantities of a source in one query, with the time of their oldest sample, so that a reading
is as old as what it was made from and not as the answer. Workloads that share a server share its connections; each
asks for itself, some milliseconds a query. Beyond some hundred queries a second, record them as rules in Prometheus.

What is missing is never zero, nor a smaller sum:

- No series now, but in the last day: absent. No series in a day: absent, and the reason begins with "misconfigured",
  names what was looked for and what comes near it. Where that holds for every quantity, `Misconfigured` is raised;
  while one can be told it is not, since the others must not hide it.
- A target that answered in the last five minutes and cannot be scraped now makes the preset's totals lower bounds,
  which may raise and not lower, and its means absent: Prometheus leaves such replicas out, and the rest would look like
  the whole.
- A warning in the answer (Thanos: a store did not answer) makes all that came with it absent.
- A query given that fails makes its own quantities absent; the others are asked without it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from policies.model import Absent, Fresh
from scaler.clouds import http_client
from scaler.clouds.engines.histogram import beyond, bounded_by
from scaler.clouds.engines.presets import Recipe, slo_bounds, without_slo_latencies
from scaler.clouds.response_validation import validated
from scaler.config.kinds.prometheus import Prometheus
from scaler.ports import Context, Misconfigured, Unavailable
from scaler.sources.missing_series import HUMAN, Gone, Sought
from scaler.sources.prometheus_api import PrometheusApi, QueryResult, QuerySample, Refused
from scaler.sources.prometheus_past import PrometheusPast
from scaler.sources.promql import LABEL, LOST, LOST_S, joint, metric_names, missing_metrics, time_of, value_of
from scaler.sources.sanitize import sanitize

if TYPE_CHECKING:
    from numpy.typing import NDArray

Found = tuple[QuerySample, ...] | Absent


async def open_prometheus(spec: Prometheus, context: Context) -> PrometheusSource:
    """Open the source. Raises `Misconfigured`."""
    session = await http_client.session(context, spec.url, spec.access.ca_file)
    api = PrometheusApi(spec.url, spec.access, context.clock, session, context.deadline_s)
    return PrometheusSource(spec, api, context)


class PrometheusSource:
    """A source on one server.

    A query that was given is first asked on its own. That tells whether Prometheus takes it and whether it gives a
    number or a series; what it takes joins the common query of all later turns, and what it does not stays apart.
    """

    def __init__(self, spec: Prometheus, api: PrometheusApi, context: Context) -> None:
        self._api = api
        self._spec = spec
        self._gone = Gone(api, context.clock)
        self._deadline_s = context.deadline_s
        self._promised_s = context.slo_limits_s
        self._window_s = spec.window_s
        self._recipes = recipes = spec.recipes()
        self._preset = {f"value:{q}": value_of(r, spec.match, spec.window_s) for q, r in recipes.items()}
        self._preset |= {f"time:{q}": time_of(r, spec.match) for q, r in recipes.items()}
        if recipes:  # one exporter gives them all, so that any of them tells
            self._preset[LOST] = missing_metrics(min(recipes.values(), key=lambda r: r.buckets), spec.match)
        self._given = {f"value:{q}": text for q, text in spec.queries.items()}
        self._given |= {f"time:{q}": text for q, text in spec.timestamp_queries.items()}
        self._kinds: dict[str, str] = {}
        self._sought = {q: Sought(r.series, {**spec.match, **r.labels}) for q, r in recipes.items()}
        self._sought |= {q: Sought(metric_names(text)) for q, text in spec.queries.items()}

    @validated("Prometheus")
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        try:
            async with asyncio.timeout(http_client.DEADLINE_SHARE * self._deadline_s) as limit:
                found = await self._ask()
        except TimeoutError as e:
            raise Unavailable(f"Prometheus at {self._api.url}: no answer in time") from e
        readings = {q: self._reading(q, found) for q in self._sought}
        missing = {q: self._sought[q] for q, reading in readings.items() if reading is None}
        reasons = await self._gone.reasons(missing, limit.when())
        whole = {q: Absent(reasons[q]) if reading is None else reading for q, reading in readings.items()}
        wrong = [r.reason for r in whole.values() if isinstance(r, Absent) and r.reason.startswith(HUMAN)]
        if wrong and len(wrong) == len(whole):
            first, *others = dict.fromkeys(reason.removeprefix(HUMAN) for reason in wrong)
            raise Misconfigured(first + (f" (and {len(others)} more)" if others else ""))
        return whole

    @validated("Prometheus")
    async def past(
        self, quantities: Collection[str], since: float, until: float, step_s: float
    ) -> Mapping[str, NDArray[np.float64]]:
        return await PrometheusPast(self._api, since, until, step_s).read(self._spec, quantities)

    async def _ask(self) -> dict[str, Found]:
        """Return what each part gave: all in one query, but for those not yet known to be sound."""
        apart = [key for key in self._given if key not in self._kinds]
        joined = {key: _as_series(text, self._kinds[key]) for key, text in self._given.items() if key in self._kinds}
        together, alone = await asyncio.gather(self._together(joined), self._each_alone(apart))
        return together | alone

    async def _together(self, joined: Mapping[str, str]) -> dict[str, Found]:
        try:
            return await self._joint({**self._preset, **joined})
        except Refused as e:
            if not joined:
                return dict.fromkeys(self._preset, Absent(f"{HUMAN}{e}"))
        self._kinds.clear()  # one of those given is at fault: they are asked apart, and the preset without them
        found, alone = await asyncio.gather(self._together({}), self._each_alone(joined))
        return found | alone

    async def _each_alone(self, keys: Collection[str]) -> dict[str, Found]:
        return dict(zip(keys, await asyncio.gather(*(self._alone(key) for key in keys)), strict=True))

    async def _joint(self, terms: Mapping[str, str]) -> dict[str, Found]:
        if not terms:
            return {}
        answer = await self._api.query(joint(terms))
        return {key: _found(answer, (r for r in answer.rows if r.labels.get(LABEL) == key)) for key in terms}

    async def _alone(self, key: str) -> Found:
        try:
            answer = await self._api.query(self._given[key])
        except Refused as e:
            return Absent(f"{HUMAN}{e}")
        if answer.kind not in {"scalar", "vector"}:
            return Absent(f"{HUMAN}the query gives a {answer.kind}, not a number")
        self._kinds[key] = answer.kind
        return _found(answer, answer.rows)

    def _reading(self, quantity: str, found: Mapping[str, Found]) -> Fresh[float] | Absent | None:
        """Return the reading of a quantity; None where it has no series."""
        recipe = self._recipes.get(quantity)
        values, times, down = (found.get(key) for key in (f"value:{quantity}", f"time:{quantity}", LOST))
        if recipe and (nothing := without_slo_latencies(recipe, self._promised_s)):
            return nothing
        if recipe and recipe.across == "late" and isinstance(values, tuple) and values:
            values = self._late(recipe, values)
        for part in (values, times):
            if isinstance(part, Absent):
                return part
            if part is not None and len(part) > 1:
                return Absent(f"{len(part)} series where one is expected: aggregate the query, as in sum(...)")
        if not values or (recipe and not times):
            return None
        assert isinstance(values, tuple)  # noqa: S101 - the loop above saw to it
        if recipe and recipe.latency and values[0].value == "NaN":
            return Absent(self._nothing)
        at: object = values[0].at
        if isinstance(times, tuple):
            if not times:
                return Absent("the timestamp query gives no series")
            at = times[0].value
        try:
            reading = sanitize(quantity, values[0].value, float(str(at)))
        except ValueError:
            return Absent(f"the timestamp query gives {at!r}")
        if recipe and isinstance(down, tuple) and down:
            lost = f"{down[0].value} targets that answered in the last {LOST_S} s cannot be scraped now"
            return slo_bounds(reading, recipe, lost)
        return reading

    def _late(self, recipe: Recipe, buckets: tuple[QuerySample, ...]) -> tuple[QuerySample, ...] | Absent:
        """Return the share of late ones of a histogram, a row a bucket, as a row."""
        try:
            counts = bounded_by((row.labels.get("le"), row.value) for row in buckets)
        except ValueError as e:
            return Absent(f"{recipe.series[0]} is no histogram: {e}")
        found = beyond(self._promised_s[recipe.promise] * recipe.divisor, counts)
        return Absent(self._nothing) if found is None else (replace(buckets[0], value=str(found)),)

    @property
    def _nothing(self) -> str:
        return f"nothing was observed in the last {self._window_s:g} s"


def _found(answer: QueryResult, rows: Iterable[QuerySample]) -> Found:
    """Rows, unless the server says that it left some out."""
    return Absent(f"a partial answer: {answer.partial}") if answer.partial else tuple(rows)


def _as_series(text: str, kind: str) -> str:
    return f"vector({text}\n)" if kind == "scalar" else text
