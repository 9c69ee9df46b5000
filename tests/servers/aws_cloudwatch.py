"""A CloudWatch server for GetMetricData, with pages, statuses, refusals and samples at any time."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.servers.site import listening
from tests.servers.spoiling import Mangle, mangled


@dataclass
class CloudWatchServer:
    """`calls` are the numbers of queries of each call, `windows` their start, end and period.

    `page`: samples per page; 0: all. A metric in `wrong` makes its whole call fail.
    """

    url: str = ""
    samples: dict[str, dict[float, float]] = field(default_factory=lambda: defaultdict(dict))
    statuses: dict[str, str] = field(default_factory=dict)
    wrong: set[str] = field(default_factory=set)
    calls: list[int] = field(default_factory=list)
    windows: list[tuple[float, float, int]] = field(default_factory=list)
    page: int = 0
    mangle: Mangle | None = None
    """Changes each accepted response."""

    def put(self, name: str, at: float, value: float) -> None:
        self.samples[name][at] = value

    def answer(self, request_body: dict[str, Any]) -> dict[str, Any]:
        queries, start, end = request_body["MetricDataQueries"], request_body["StartTime"], request_body["EndTime"]
        first = int(request_body.get("NextToken", "0"))
        self.calls.append(len(queries))
        results, more = list[dict[str, Any]](), False
        for query in queries:
            stat = query["MetricStat"]
            name = stat["Metric"]["MetricName"]
            self.windows.append((start, end, stat["Period"]))
            samples = sorted(((t, v) for t, v in self.samples[name].items() if start <= t < end), reverse=True)
            shown = samples[first : first + self.page] if self.page else samples
            more = more or bool(self.page and len(samples) > first + self.page)
            status = self.statuses.get(name, "Complete")
            times, values = [t for t, _ in shown], [v for _, v in shown]
            results.append({"Id": query["Id"], "Timestamps": times, "Values": values, "StatusCode": status})
        return {"MetricDataResults": results, **({"NextToken": str(first + self.page)} if more else {})}

    async def serve(self, request: web.Request) -> web.Response:
        request_body = json.loads(await request.read())
        kind = "application/x-amz-json-1.0"
        if self.wrong & {q["MetricStat"]["Metric"]["MetricName"] for q in request_body["MetricDataQueries"]}:
            error = {"__type": "com.amazonaws.cloudwatch#ValidationError", "message": "a query is not valid"}
            return web.Response(status=400, text=json.dumps(error), content_type=kind)
        response = web.Response(text=json.dumps(self.answer(request_body)), content_type=kind)
        return mangled("cloudwatch:GetMetricData", response, self.mangle)


@asynccontextmanager
async def cloudwatch() -> AsyncIterator[CloudWatchServer]:
    it = CloudWatchServer()
    app = web.Application()
    app.router.add_post("/{path:.*}", it.serve)
    async with listening(app) as port:
        it.url = f"http://127.0.0.1:{port}"
        yield it
