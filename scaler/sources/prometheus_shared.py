"""One query for the presets of many workloads on one server.

Sources that read the same quantities over the same window, selected by the same labels, differ in the labels' values
only. Their queries within a moment go as one: it selects all values, and keeps these labels. Example: three workloads
with `match: {model: ...}` send `sum by (model)(vllm:num_requests_running{model=~"a|b|c"})`.

A source whose labels have no series in the result sends its own query. So do all for a while after a joint query failed
or was incomplete.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final, TypeAlias

import aiohttp

from policies.model.names import RATE_WINDOW
from scaler.clock import stopwatch_s
from scaler.clouds.batching import Batch
from scaler.clouds.engines import presets
from scaler.config.kinds.prometheus import Prometheus
from scaler.ports import Clock, Context, PortError, Unavailable
from scaler.sources.prometheus_api import MAX_RANGE_BODY, PrometheusApi, QueryResult, QuerySample
from scaler.sources.promql import LABEL, joint_query, preset_queries

Rows: TypeAlias = Mapping[str, tuple[QuerySample, ...]]
"""The rows of each part of a query."""
MAX_WORKLOADS: Final = 100
"""Workloads of one query: Prometheus looks up at most 256 values of a label by its index."""
SEPARATE_S: Final = 300.0
"""Time without joint queries after one that was refused or incomplete. Seconds."""
UNAVAILABLE_S: Final = 30.0
"""Time without joint queries after one without a response. It is short, since separate ones are more work. Seconds."""
DEADLINE_SHARE: Final = 0.4
"""Share of the deadline for a joint query, so that separate ones have time after it."""
RESERVED: Final = frozenset({"le", LABEL})
"""Labels that queries set themselves."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The properties that queries must have in common to go as one."""

    preset: presets.Preset
    quantities: tuple[str, ...]
    labels: tuple[str, ...]
    window_s: float
    sees_scrapes: bool


@dataclass(frozen=True, slots=True)
class Selected:
    """The series of one source: a shape, and the values of its labels."""

    shape: Shape
    values: tuple[str, ...]


def preset_quantities(spec: Prometheus) -> frozenset[str]:
    """Return the quantities of a source that its own queries do not provide."""
    return frozenset(spec.quantities()) - frozenset(spec.queries)


def is_shareable(spec: Prometheus) -> bool:
    """Return whether the labels of each series of a source tell which source it belongs to."""
    fixed = {label for recipe in spec.recipes().values() for label in recipe.labels}
    labels = spec.match.keys()
    return bool(
        spec.preset and labels and not spec.queries and all(spec.match.values()) and not labels & (RESERVED | fixed)
    )


def selected_by(spec: Prometheus, window_s: float) -> Selected:
    """Return the series of a shareable source."""
    assert spec.preset is not None  # noqa: S101 - `is_shareable`
    labels = tuple(sorted(spec.match))
    sees_scrapes = RATE_WINDOW in preset_quantities(spec)
    shape = Shape(spec.preset, tuple(spec.recipes()), labels, window_s, sees_scrapes)
    return Selected(shape, tuple(spec.match[label] for label in labels))


async def open_shared(spec: Prometheus, context: Context, session: aiohttp.ClientSession) -> SharedQueries:
    """Return the queries of all sources with this server, access and deadline."""
    api = PrometheusApi(spec.url, spec.access, context.clock, session, DEADLINE_SHARE * context.deadline_s)
    key = ("prometheus-shared", spec.url, repr(spec.access), context.deadline_s)
    return await context.shared(key, lambda: aclosing(SharedQueries(context.clock, api)))


class SharedQueries:
    """Gathers the queries of a server's sources."""

    def __init__(self, clock: Clock, api: PrometheusApi) -> None:
        self._api = api
        self._batch: Batch[Selected, Rows] = Batch(
            clock, self._fetch, MAX_WORKLOADS, cloud="Prometheus", group=lambda selected: selected.shape
        )
        self._separate_until_s: dict[Shape, float] = {}

    async def read(self, selected: Selected) -> Rows | None:
        """Return the rows of a source; None if it must send its own query."""
        if stopwatch_s() < self._separate_until_s.get(selected.shape, 0.0):
            return None
        _, rows = await self._batch.get(selected)
        return rows

    async def aclose(self) -> None:
        await self._batch.aclose()

    async def _fetch(self, keys: Sequence[Selected], *, urgent: bool) -> Mapping[Selected, Rows]:
        """Return the rows of those sources that have any in a joint query."""
        shape = keys[0].shape
        if len(keys) == 1 or stopwatch_s() < self._separate_until_s.get(shape, 0.0):
            return {}
        terms = _terms(keys)
        pause_s = SEPARATE_S
        try:
            result = await self._api.query(joint_query(terms), MAX_RANGE_BODY)
            if not result.partial:
                return _by_source(result, keys, terms)
        except Unavailable:
            pause_s = UNAVAILABLE_S
        except PortError:
            pass
        self._separate_until_s[shape] = stopwatch_s() + pause_s
        return {}


def _terms(keys: Sequence[Selected]) -> Mapping[str, str]:
    """Return the queries of all sources by the keys of their parts."""
    shape = keys[0].shape
    values = zip(*(key.values for key in keys), strict=True)
    match = {label: tuple(dict.fromkeys(of_label)) for label, of_label in zip(shape.labels, values, strict=True)}
    recipes = presets.recipes(shape.preset, shape.quantities)
    return preset_queries(recipes, match, shape.window_s, shape.labels, sees_scrapes=shape.sees_scrapes)


def _by_source(result: QueryResult, keys: Sequence[Selected], terms: Mapping[str, str]) -> Mapping[Selected, Rows]:
    """Return the rows of each source with a value among them."""
    labels = keys[0].shape.labels
    found: defaultdict[tuple[str, ...], defaultdict[str, list[QuerySample]]] = defaultdict(lambda: defaultdict(list))
    for row in result.rows:
        found[tuple(row.labels.get(label, "") for label in labels)][row.labels.get(LABEL, "")].append(row)
    complete = (key for key in keys if any(part.startswith("value:") for part in found.get(key.values, ())))
    return {key: {part: tuple(found[key.values].get(part, ())) for part in terms} for key in complete}
