"""Prometheus's HTTP API: queries now and over a range, metric names.

Thanos, Mimir, Cortex and VictoriaMetrics speak it too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import aiohttp

from scaler.clouds import http_client
from scaler.clouds.http_access import Access
from scaler.clouds.http_answers import decode_json, off_loop
from scaler.clouds.response_validation import one_line, understood
from scaler.ports import Clock, Misconfigured, Unavailable

T = TypeVar("T")
MAX_BODY: Final = 2**20
"""Bytes of the answer to a query now: ours have some kilobytes, and one that was not aggregated 300 bytes a series."""
MAX_RANGE_BODY: Final = 8 * 2**20
"""Bytes of the answer to a query over a range: 14 quantities at 11,000 times, the most in one request, have 5 MB."""
REMEDY: Final = "aggregate the query, as in sum(...)"


class Refused(Misconfigured):
    """The query itself is at fault, in Prometheus's words."""


@dataclass(frozen=True, slots=True)
class QuerySample:
    """One series of an answer: its labels, when it was evaluated, and the value as it was sent."""

    labels: Mapping[str, str]
    at: float
    value: object


@dataclass(frozen=True, slots=True)
class QueryResult:
    """What a query gave. `partial` holds the server's warnings: something is missing from it."""

    kind: str
    rows: tuple[QuerySample, ...]
    partial: str


@dataclass(frozen=True, slots=True)
class RangeSeries:
    """One series of a range: its labels, and each time with its value as it was sent. Histograms have no values."""

    labels: Mapping[str, str]
    values: tuple[tuple[float, object], ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """What a query over a range gave, and the server's warnings, as in an `QueryResult`."""

    series: tuple[RangeSeries, ...]
    partial: str


class PrometheusApi:
    """One server, as one source may ask it."""

    def __init__(
        self, url: str, access: Access, clock: Clock, session: aiohttp.ClientSession, deadline_s: float
    ) -> None:
        self.url = url.rstrip("/")
        self._access = access
        self._clock = clock
        self._session = session
        self._deadline_s = deadline_s

    async def query(self, promql: str) -> QueryResult:
        """An instant query, now. Raises `Refused` and the port errors."""
        form = {"query": promql, "timeout": f"{round(self._deadline_s * 1000)}ms"}
        return await self._ask(_answer, "POST", "query", data=form)

    async def query_range(self, promql: str, start: float, end: float, step_s: float, deadline_s: float) -> Matrix:
        """A query at `start` and every step from there to `end`. Raises `Refused` and the port errors."""
        times = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step_s:.3f}"}
        form = {"query": promql, "timeout": f"{round(deadline_s * 1000)}ms", **times}
        return await self._ask(_matrix, "POST", "query_range", deadline_s, MAX_RANGE_BODY, data=form)

    async def names(self, selectors: Sequence[str], since_s: float) -> list[str]:
        """The metrics that have had series matching any of the selectors in the last `since_s`."""
        params = [("match[]", s) for s in selectors] + [("start", f"{self._clock.now() - since_s:.0f}")]
        return await self._ask(_names, "GET", "label/__name__/values", params=params)

    async def _ask(
        self,
        read: Callable[[Mapping[str, Any]], T],
        method: str,
        path: str,
        deadline_s: float | None = None,
        max_bytes: int = MAX_BODY,
        **sent: Any,
    ) -> T:
        """Return what `read` makes of the answer's document. Raises `Refused` and the port errors."""
        what = f"Prometheus at {self.url}"
        asked = self._session.request(
            method,
            f"{self.url}/api/v1/{path}",
            headers=self._access.sent(),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=deadline_s or self._deadline_s),
            **sent,
        )
        status, content = await http_client.body(what, asked, max_bytes, self._clock.now(), REMEDY)
        return await off_loop(len(content), _read, what, status, content, read)


def _read(what: str, status: int, content: bytes, read: Callable[[Mapping[str, Any]], T]) -> T:
    """Return what `read` makes of an answer. Raises `Refused`, and `Unavailable` for a malformed one."""
    try:
        document = decode_json(what, content)
    except Unavailable as e:
        if status != 200:
            raise Refused(f"{what}: HTTP {status}: {one_line(content)}") from e
        raise
    if not isinstance(document, dict):
        raise Unavailable(f"{what}: {type(document).__name__} where an object was expected")
    error = one_line(document.get("error", "no reason given"))
    if status != 200:
        raise Refused(f"{what}: {one_line(document.get('errorType', status))}: {error}")
    if document.get("status") != "success":
        raise Unavailable(f"{what}: {error}")
    with understood(what):
        return read(document)


def _names(document: Mapping[str, Any]) -> list[str]:
    names = document.get("data")
    return [name for name in names if isinstance(name, str)] if isinstance(names, list) else []


def _matrix(document: Mapping[str, Any]) -> Matrix:
    data = document["data"]
    if data["resultType"] != "matrix":
        raise ValueError(data["resultType"])
    series = tuple(
        RangeSeries(_labels(r["metric"]), tuple((_time(at), value) for at, value in r.get("values", ())))
        for r in data["result"]
    )
    return Matrix(series, _warnings(document))


def _answer(document: Mapping[str, Any]) -> QueryResult:
    data = document["data"]
    kind, result = str(data["resultType"]), data["result"]
    series = [({}, result)] if kind in {"scalar", "string"} else [(r["metric"], r.get("value")) for r in result]
    rows = tuple(QuerySample(_labels(labels), *_sample(value)) for labels, value in series) if kind != "matrix" else ()
    return QueryResult(kind, rows, _warnings(document))


def _labels(metric: object) -> Mapping[str, str]:
    """Return a series' labels. Raises `TypeError` for anything but texts by name."""
    if not isinstance(metric, dict) or not all(isinstance(value, str) for value in metric.values()):
        raise TypeError(f"the labels {one_line(repr(metric))} are no mapping of texts")
    return metric


def _time(at: object) -> float:
    """Return a sample's time, a JSON number and so finite. Raises `TypeError`."""
    if isinstance(at, bool) or not isinstance(at, int | float):
        raise TypeError(f"the time {one_line(repr(at))} is no number")
    return float(at)


def _warnings(document: Mapping[str, Any]) -> str:
    warnings = document.get("warnings") or ()
    # 2.x puts its remarks on the query's style among the warnings; they say nothing about the data.
    return one_line("; ".join(str(w) for w in warnings if not str(w).startswith("PromQL info")))


def _sample(sample: Any) -> tuple[float, object]:
    """Time and value; a native histogram has none and is left to be refused."""
    if sample is None:
        return 0.0, "a histogram"
    at, value = sample
    return _time(at), value
