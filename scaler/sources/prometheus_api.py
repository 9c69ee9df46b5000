"""Prometheus's HTTP API: queries now and over a range, metric names.

Thanos, Mimir, Cortex and VictoriaMetrics speak it too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import aiohttp

from scaler.ports import Clock, Misconfigured, Unavailable
from scaler.sources import http

MAX_BODY: Final = 8 * 2**20
"""Of an answer. Ours are some hundred bytes; a query that was not aggregated gives 300 bytes a series."""


class Refused(Misconfigured):
    """The query itself is at fault, in Prometheus's words."""


@dataclass(frozen=True, slots=True)
class Row:
    """One series of an answer: its labels, when it was evaluated, and the value as it was sent."""

    labels: Mapping[str, str]
    at: float
    value: object


@dataclass(frozen=True, slots=True)
class Answer:
    """What a query gave. `partial` holds the server's warnings: something is missing from it."""

    kind: str
    rows: tuple[Row, ...]
    partial: str


@dataclass(frozen=True, slots=True)
class Series:
    """One series of a range: its labels, and each time with its value as it was sent. Histograms have no values."""

    labels: Mapping[str, str]
    values: tuple[tuple[float, object], ...]


@dataclass(frozen=True, slots=True)
class Matrix:
    """What a query over a range gave, and the server's warnings, as in an `Answer`."""

    series: tuple[Series, ...]
    partial: str


class PrometheusApi:
    """One server, as one source may ask it."""

    def __init__(
        self, url: str, access: http.Access, clock: Clock, session: aiohttp.ClientSession, deadline_s: float
    ) -> None:
        self.url = url.rstrip("/")
        self._access = access
        self._clock = clock
        self._session = session
        self._deadline_s = deadline_s

    async def query(self, promql: str) -> Answer:
        """An instant query, now. Raises `Refused` and the port errors."""
        form = {"query": promql, "timeout": f"{round(self._deadline_s * 1000)}ms"}
        document = await self._ask("POST", "query", data=form)
        try:
            return _answer(document)
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise Unavailable(f"Prometheus at {self.url}: an answer that we do not understand: {e!r}") from e

    async def query_range(self, promql: str, start: float, end: float, step_s: float, deadline_s: float) -> Matrix:
        """A query at `start` and every step from there to `end`. Raises `Refused` and the port errors."""
        times = {"start": f"{start:.3f}", "end": f"{end:.3f}", "step": f"{step_s:.3f}"}
        form = {"query": promql, "timeout": f"{round(deadline_s * 1000)}ms", **times}
        document = await self._ask("POST", "query_range", deadline_s, data=form)
        try:
            return _matrix(document)
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise Unavailable(f"Prometheus at {self.url}: an answer that we do not understand: {e!r}") from e

    async def names(self, selectors: Sequence[str], since_s: float) -> list[str]:
        """The metrics that have had series matching any of the selectors in the last `since_s`."""
        params = [("match[]", s) for s in selectors] + [("start", f"{self._clock.now() - since_s:.0f}")]
        found = (await self._ask("GET", "label/__name__/values", params=params)).get("data")
        return [str(name) for name in found] if isinstance(found, list) else []

    async def _ask(self, method: str, path: str, deadline_s: float | None = None, **sent: Any) -> dict[str, Any]:
        what = f"Prometheus at {self.url}"
        asked = self._session.request(
            method,
            f"{self.url}/api/v1/{path}",
            headers=self._access.sent(),
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=deadline_s or self._deadline_s),
            **sent,
        )
        status, content = await http.body(what, asked, MAX_BODY, self._clock.now())
        try:
            document = json.loads(content)
        except ValueError as e:
            text = " ".join(content[: http.SHOWN].decode(errors="replace").split())
            if status != 200:
                raise Refused(f"{what}: HTTP {status}: {text}") from e
            raise Unavailable(f"{what}: not JSON: {text!r}") from e
        if not isinstance(document, dict):
            raise Unavailable(f"{what}: {type(document).__name__} where an object was expected")
        if status != 200:
            raise Refused(f"{what}: {document.get('errorType', status)}: {document.get('error', 'no reason given')}")
        if document.get("status") != "success":
            raise Unavailable(f"{what}: {document.get('error', 'no success')}")
        return document


def _matrix(document: Mapping[str, Any]) -> Matrix:
    data = document["data"]
    if data["resultType"] != "matrix":
        raise ValueError(data["resultType"])
    series = tuple(
        Series(r["metric"], tuple((float(at), value) for at, value in r.get("values", ()))) for r in data["result"]
    )
    if not all(math.isfinite(at) for one in series for at, _ in one.values):
        raise ValueError("a time that is none")
    return Matrix(series, _warnings(document))


def _answer(document: Mapping[str, Any]) -> Answer:
    data = document["data"]
    kind, result = str(data["resultType"]), data["result"]
    series = [({}, result)] if kind in {"scalar", "string"} else [(r["metric"], r.get("value")) for r in result]
    rows = tuple(Row(labels, *_sample(value)) for labels, value in series) if kind != "matrix" else ()
    return Answer(kind, rows, _warnings(document))


def _warnings(document: Mapping[str, Any]) -> str:
    warnings = document.get("warnings") or ()
    # 2.x puts its remarks on the query's style among the warnings; they say nothing about the data.
    return "; ".join(str(w) for w in warnings if not str(w).startswith("PromQL info"))


def _sample(sample: Any) -> tuple[float, object]:
    """Time and value; a native histogram has none and is left to be refused."""
    if sample is None:
        return 0.0, "a histogram"
    at, value = sample
    return float(at), value
