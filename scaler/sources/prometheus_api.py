"""Prometheus's HTTP API: instant and range queries, and metric names.

Thanos, Mimir, Cortex and VictoriaMetrics have the same API.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import aiohttp

from scaler.clouds import http_client
from scaler.clouds.http_access import Access
from scaler.clouds.http_answers import decode_json, off_loop
from scaler.clouds.response_validation import one_line, unavailable_if_malformed
from scaler.ports import Clock, Misconfigured, Unavailable

T = TypeVar("T")
MAX_BODY: Final = 2**20
"""Bytes of the response to an instant query: some kilobytes, and 300 bytes per series of an unaggregated query."""
MAX_RANGE_BODY: Final = 8 * 2**20
"""Bytes of the response to a range query: the maximum of one request, 14 quantities at 11,000 times, has 5 MB."""
REMEDY: Final = "aggregate the query, as in sum(...)"


class Refused(Misconfigured):
    """Prometheus refuses the query itself."""


@dataclass(frozen=True, slots=True)
class QuerySample:
    """One series of a result.

    It has labels, the evaluation time (seconds since the Unix epoch), and the value as sent.
    """

    labels: Mapping[str, str]
    at: float
    value: object


@dataclass(frozen=True, slots=True)
class QueryResult:
    """Result of an instant query.

    `partial` has the server's warnings that something is missing. It is empty if there are none.
    """

    kind: str
    rows: tuple[QuerySample, ...]
    partial: str


@dataclass(frozen=True, slots=True)
class RangeSeries:
    """One series of a range: labels, and pairs of time and value as sent.

    Native histograms have no values.
    """

    labels: Mapping[str, str]
    values: tuple[tuple[float, object], ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """Result of a range query, with the server's warnings as in `QueryResult`."""

    series: tuple[RangeSeries, ...]
    partial: str


class PrometheusApi:
    """Client of one server, for one source."""

    def __init__(
        self, url: str, access: Access, clock: Clock, session: aiohttp.ClientSession, deadline_s: float
    ) -> None:
        self.url = url.rstrip("/")
        self._access = access
        self._clock = clock
        self._session = session
        self._deadline_s = deadline_s

    async def query(self, promql: str, max_bytes: int = MAX_BODY) -> QueryResult:
        """Return the result of an instant query. Raises `Refused` and port errors."""
        form = {"query": promql, "timeout": f"{round(self._deadline_s * 1000)}ms"}
        return await self._request(_parse_result, "POST", "query", max_bytes=max_bytes, data=form)

    async def query_range(self, promql: str, start: float, end: float, step_s: float, deadline_s: float) -> Matrix:
        """Return the result of a query at `start` and every step up to `end`.

        Raises `Refused` and port errors.
        """
        times = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step_s:.3f}"}
        form = {"query": promql, "timeout": f"{round(deadline_s * 1000)}ms", **times}
        return await self._request(_parse_matrix, "POST", "query_range", deadline_s, MAX_RANGE_BODY, data=form)

    async def names(self, selectors: Sequence[str], since_s: float) -> list[str]:
        """Return the metrics with series that match any of the selectors.

        The series have samples in the last `since_s` seconds.
        """
        params = [("match[]", s) for s in selectors] + [("start", f"{self._clock.now() - since_s:.0f}")]
        return await self._request(_parse_names, "GET", "label/__name__/values", params=params)

    async def _request(
        self,
        parse: Callable[[Mapping[str, Any]], T],
        method: str,
        path: str,
        deadline_s: float | None = None,
        max_bytes: int = MAX_BODY,
        **kwargs: Any,
    ) -> T:
        """Return the result of `parse` on the response's document. Raises `Refused` and port errors."""
        what = f"Prometheus at {self.url}"
        request = self._session.request(
            method,
            f"{self.url}/api/v1/{path}",
            headers=self._access.request_headers(),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=deadline_s or self._deadline_s),
            **kwargs,
        )
        status, content = await http_client.body(what, request, max_bytes, self._clock.now(), REMEDY)
        return await off_loop(len(content), _parse, what, status, content, parse)


def _parse(what: str, status: int, content: bytes, parse: Callable[[Mapping[str, Any]], T]) -> T:
    """Return the result of `parse` on a response.

    Raises `Refused`, and `Unavailable` for a malformed one.
    """
    try:
        document = decode_json(what, content)
    except Unavailable as e:
        if status != 200:
            raise Refused(f"{what}: HTTP {status}: {one_line(content)}") from e
        raise
    if not isinstance(document, dict):
        raise Unavailable(f"{what}: malformed response: not a JSON object")
    error = one_line(document.get("error", "no reason reported"))
    if status != 200:
        raise Refused(f"{what}: {one_line(document.get('errorType', status))}: {error}")
    if document.get("status") != "success":
        raise Unavailable(f"{what}: {error}")
    with unavailable_if_malformed(what):
        return parse(document)


def _parse_names(document: Mapping[str, Any]) -> list[str]:
    names = document.get("data")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _parse_matrix(document: Mapping[str, Any]) -> Matrix:
    data = document["data"]
    if data["resultType"] != "matrix":
        raise ValueError(data["resultType"])
    series = tuple(
        RangeSeries(_labels(item["metric"]), tuple((_time(time), value) for time, value in item.get("values", ())))
        for item in data["result"]
    )
    return Matrix(series, _warnings(document))


def _parse_result(document: Mapping[str, Any]) -> QueryResult:
    data = document["data"]
    kind, result = str(data["resultType"]), data["result"]
    series = [({}, result)] if kind in {"scalar", "string"} else [(r["metric"], r.get("value")) for r in result]
    rows = (
        tuple(QuerySample(_labels(labels), *_parse_sample(value)) for labels, value in series)
        if kind != "matrix"
        else ()
    )
    return QueryResult(kind, rows, _warnings(document))


def _labels(metric: object) -> Mapping[str, str]:
    """Return a series' labels. Raises `TypeError` for anything but a mapping of texts."""
    if not isinstance(metric, dict) or not all(isinstance(value, str) for value in metric.values()):
        raise TypeError(f"malformed labels: {one_line(repr(metric))}")
    return metric


def _time(value: object) -> float:
    """Return a sample's time, a finite JSON number. Raises `TypeError`."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"malformed time: {one_line(repr(value))}")
    return float(value)


def _warnings(document: Mapping[str, Any]) -> str:
    warnings = document.get("warnings") or ()
    # Prometheus 2.x reports remarks on the query's style as warnings; they are not about the data.
    return one_line("; ".join(str(w) for w in warnings if not str(w).startswith("PromQL info")))


def _parse_sample(sample: Any) -> tuple[float, object]:
    """Return time and value; a native histogram has none, and its placeholder is refused later."""
    if sample is None:
        return 0.0, "a histogram"
    at, value = sample
    return _time(at), value
