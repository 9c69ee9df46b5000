"""Responses of Prometheus, over a socket."""

from __future__ import annotations

import json
from typing import Any, Final

from aiohttp import web

from scaler.adapters import open_source
from scaler.config.kinds.prometheus import Prometheus
from scaler.ports import PortError
from tests.fuzz.kinds.loop import loop
from tests.fuzz.kinds.readings import encoding_problem, invalid_reading
from tests.fuzz.mutate import json_text
from tests.fuzz.rng import Rng

NAMES: Final = ("running", "waiting", "kv_cache_usage", "requests_per_s", "ttft_p95_s")
AT: Final = 1_790_000_000.0


def _vector() -> dict[str, Any]:
    rows = []
    for name in NAMES:
        for key, value in ((f"value:{name}", "3"), (f"time:{name}", str(AT))):
            rows.append({"metric": {"forescale": key, "job": "vllm"}, "value": [AT, value]})
    rows.append({"metric": {"forescale": "lost"}, "value": [AT, "1"]})
    return {"status": "success", "data": {"resultType": "vector", "result": rows}, "warnings": ["slow"], "infos": []}


def _scalar() -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": "scalar", "result": [AT, "3"]}}


def mutated(rng: Rng) -> bytes:
    error = {"status": "error", "errorType": "bad_data", "error": "parse error"}
    return json_text(rng, rng.choice((_vector(), _vector(), _vector(), _scalar(), error)))


def check(data: bytes) -> str:
    return loop().run(_check(data))


async def _check(data: bytes) -> str:
    event_loop = loop()
    event_loop.answer = lambda _: web.Response(body=data, content_type="application/json")
    preset = Prometheus(url=f"http://127.0.0.1:{event_loop.port}", preset="vllm", read=NAMES)
    by_queries = Prometheus(url=f"http://127.0.0.1:{event_loop.port}", queries={"running": "sum(running)"})
    for spec in (preset, by_queries):
        source = await open_source(spec, event_loop.context)
        for _ in range(2):
            try:
                readings = await source.sample()
            except PortError as e:
                if problem := encoding_problem(str(e)):
                    return problem
                continue
            if problem := invalid_reading(readings):
                return problem
            json.dumps({q: repr(r) for q, r in readings.items()})
    return ""
