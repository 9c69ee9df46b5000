"""Prometheus's responses to range queries, in the format of versions 2.53 and 3, from formulas instead of samples."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from tests.servers.site import listening

MAX_STEPS: Final = 11_000
TOO_FINE: Final = (
    "exceeded maximum resolution of 11,000 points per timeseries. Try decreasing the query resolution (?step=XX)"
)
PART: Final = re.compile(r'label_replace\(\n(.*?)\n, "forescale", "([^"]*)", "", ""\)', re.DOTALL)
Formula = Callable[[float], object | None]
"""A series: its value at a time as in JSON; None without one."""


@dataclass
class Ranges:
    """Formulas for each part of a joint query, and for each whole query."""

    parts: Mapping[str, Formula] = field(default_factory=dict)
    whole: Mapping[str, list[tuple[Mapping[str, str], Formula]]] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict)
    """Fields next to the data: warnings, infos."""
    fail: Callable[[int], web.Response | None] = field(default=lambda _: None)
    """Replacement responses, by the number of the request."""
    requests: list[dict[str, str]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        form = {key: str(value) for key, value in (await request.post()).items()}
        self.requests.append(form)
        instead = self.fail(len(self.requests) - 1)
        if instead is not None:
            return instead
        start, end, step = (float(form[key]) for key in ("start", "end", "step"))
        if (end - start) / step > MAX_STEPS:
            return web.json_response({"status": "error", "errorType": "bad_data", "error": TOO_FINE}, status=400)
        times = [start + step * i for i in range(int((end - start) / step + 1e-9) + 1)]
        formulas = [({"forescale": key}, self.parts.get(key)) for _, key in PART.findall(form["query"])]
        result = [
            {"metric": dict(labels), "values": values}
            for labels, formula in formulas or self.whole.get(form["query"], [])
            if formula and (values := [[at, value] for at in times if (value := formula(at)) is not None])
        ]
        return web.json_response({"status": "success", "data": {"resultType": "matrix", "result": result}, **self.more})


@asynccontextmanager
async def prometheus_ranges() -> AsyncIterator[Ranges]:
    ranges = Ranges()
    app = web.Application()
    app.router.add_post("/api/v1/query_range", ranges.answer)
    async with listening(app) as ranges.port:
        yield ranges
