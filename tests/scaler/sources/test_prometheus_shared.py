"""One query for many workloads reads the same as a query for each one, on a real Prometheus."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import aiohttp
import pytest
from aiohttp import web

from policies.model import Absent, Fresh
from policies.model.names import RATE_WINDOW
from scaler.clock import SystemClock
from scaler.clouds.engines.presets import PRESETS
from scaler.config.kinds.prometheus import Prometheus
from scaler.ports import Misconfigured
from scaler.shared_resources import AdapterContext, Resources
from scaler.sources.prometheus import open_prometheus
from scaler.sources.prometheus_shared import is_shareable
from tests.factories import DEADLINE_S
from tests.fuzz.rng import Rng
from tests.servers.prometheus import PrometheusServer, needs_prometheus, prometheus
from tests.servers.site import listening

Outcome = Mapping[str, Fresh[float] | Absent] | str
MODELS: Final = ("a", "ab", "a.b", "a|b", "(a", "a+", "[a]", "^a$", "a\\b", 'a"b', "a b", "ä-1/{2}", *"cdefghijkl")
BOUNDS: Final = ("0.1", "1.0", "10.0", "+Inf")
SPAN_S, SCRAPE_S = 600, 15
SLO_LIMITS_S: Final = {"ttft_s": 1.0, "itl_s": 0.1, "e2e_s": 10.0}


@dataclass
class Front:
    """Forwards requests to Prometheus; instant queries are evaluated at one time."""

    server: PrometheusServer
    at: float
    port: int = 0
    queries: list[str] = field(default_factory=list)
    spoil: Callable[[str], web.Response | None] = lambda _: None

    async def answer(self, request: web.Request) -> web.Response:
        form = dict(await request.post())
        if "query" in form:
            query = str(form["query"])
            self.queries.append(query)
            if (spoiled := self.spoil(query)) is not None:
                return spoiled
            form["time"] = f"{self.at:.3f}"
        async with (
            aiohttp.ClientSession() as session,
            session.request(request.method, self.server.url + request.path_qs, data=form or None) as response,
        ):
            return web.Response(status=response.status, body=await response.read(), content_type="application/json")


def past(rng: Rng, until: int) -> str:
    """Return random samples of all models, in OpenMetrics format."""
    lines = [line for model in MODELS for line in _of_model(rng, model, until)]
    return "\n".join([*lines, "# EOF\n"])


def _of_model(rng: Rng, model: str, until: int) -> Iterator[str]:
    """Yield samples of some replicas of a model.

    Replicas miss metrics, have older names, restart, and end before `until`, with or without a failed scrape.
    """
    label = model.replace("\\", "\\\\").replace('"', '\\"')
    for replica in range(rng.choice((0, 1, 1, 2, 3))):
        instance = f'job="llm",instance="{MODELS.index(model)}-{replica}"'
        ended = until if rng.random() < 0.8 else until - rng.choice((30, 120, 400))
        times = range(until - SPAN_S + rng.randrange(SCRAPE_S), ended, SCRAPE_S)
        for series in _series(rng):
            metric, _, labels = series.partition("{")
            grows, value = "running" not in metric and "waiting" not in metric and "usage" not in metric, 0.0
            for at in times:
                step = rng.random() * rng.choice((0.0, 0.1, 7.0))
                value = value + step if grows and rng.random() < 0.98 else step
                yield f'{metric}{{model="{label}",{instance}{labels}}} {value!r} {at}'
        yield f"up{{{instance}}} 1 {ended - 1}"
        if ended < until and rng.random() < 0.5:
            yield f"up{{{instance}}} 0 {until - 1}"


def _series(rng: Rng) -> Iterator[str]:
    """Yield the series of a replica: metric and further labels."""
    for recipe in PRESETS["vllm"].values():
        for name in recipe.names:
            if rng.random() < 0.3 or (recipe.is_latency and recipe.aggregation != "p95"):
                continue
            if recipe.uses_buckets:
                yield from (f'{name}_bucket{{,le="{bound}"' for bound in BOUNDS)
                yield from (f"{name}_sum", f"{name}_count")
            else:
                yield from (f'{name}{{,engine="{rank}"' for rank in range(rng.choice((1, 2))))


@asynccontextmanager
async def front(text: str, at: float) -> AsyncIterator[Front]:
    async with prometheus((), past=text) as server:
        opened = Front(server, at)
        app = web.Application(client_max_size=2**24)
        app.router.add_route("*", "/{path:.*}", opened.answer)
        async with listening(app) as opened.port:
            yield opened


async def read(opened: Front, context: AdapterContext, specs: Sequence[Prometheus], *, jointly: bool) -> list[Outcome]:
    """Return the readings of each source, or the error."""
    sources = [await open_prometheus(spec, context) for spec in specs]

    async def outcome(number: int) -> Outcome:
        try:
            readings = await sources[number].sample()
        except Misconfigured as e:
            return str(e)
        return {quantity: reading for quantity, reading in readings.items() if quantity != RATE_WINDOW}

    if jointly:
        return list(await asyncio.gather(*(outcome(number) for number in range(len(specs)))))
    return [await outcome(number) for number in range(len(specs))]


def specs(opened: Front, read: tuple[str, ...] | None) -> list[Prometheus]:
    url = f"http://127.0.0.1:{opened.port}"
    return [Prometheus(url=url, preset="vllm", match={"model": model}, read=read) for model in MODELS]


@pytest.mark.slow
@needs_prometheus
async def test_joint_query_reads_the_same_as_separate_ones() -> None:
    until = int(time.time())
    text = past(Rng(7, "shared"), until)
    quantities = tuple(PRESETS["vllm"])
    async with front(text, until - 1) as opened, Resources() as resources:
        context = AdapterContext(resources, SystemClock(), DEADLINE_S, SLO_LIMITS_S)
        separate = await read(opened, context, specs(opened, quantities), jointly=False)
        assert len(opened.queries) == len(MODELS)
        opened.queries.clear()
        joint = await read(opened, context, specs(opened, quantities), jointly=True)
    without = [model for model in MODELS if f'model="{model}"' not in text]
    assert joint == separate
    readings = [reading for outcome in joint if not isinstance(outcome, str) for reading in outcome.values()]
    assert sum(isinstance(reading, Fresh) for reading in readings) > 100
    assert sum(isinstance(reading, Absent) for reading in readings) > 20
    assert any("=~" in query for query in opened.queries)
    assert len(opened.queries) <= 2 + len(without)


def failing(_query: str) -> web.Response:
    return web.json_response({"status": "error", "errorType": "execution", "error": "too many samples"}, status=422)


def partial(_query: str) -> web.Response:
    data = {"resultType": "vector", "result": []}
    return web.json_response({"status": "success", "data": data, "warnings": ["a store did not respond"]})


@pytest.mark.slow
@needs_prometheus
@pytest.mark.parametrize("answer", [failing, partial])
async def test_sources_send_their_own_queries_after_a_joint_one_failed(answer: Callable[[str], web.Response]) -> None:
    until = int(time.time())
    text = "\n".join(f'vllm:num_requests_running{{model="{model}"}} 3 {until - 1}' for model in "ab") + "\n# EOF\n"
    async with front(text, until) as opened, Resources() as resources:
        context = AdapterContext(resources, SystemClock(), DEADLINE_S)
        opened.spoil = lambda query: answer(query) if "=~" in query else None
        two = [spec for spec in specs(opened, ("running",)) if spec.match["model"] in {"a", "ab"}]
        two = [two[0], Prometheus(url=two[0].url, preset="vllm", match={"model": "b"}, read=("running",))]
        for _ in range(2):
            outcomes = await read(opened, context, two, jointly=True)
            assert [o["running"] for o in outcomes if not isinstance(o, str)] == [Fresh(3.0, until - 1)] * 2
        assert ["=~" in query for query in opened.queries] == [True, False, False, False, False]


def source(match: Mapping[str, str], preset: str = "vllm", queries: Mapping[str, str] | None = None) -> Prometheus:
    return Prometheus(url="http://p", preset=preset, match=match, queries=queries or {})  # type: ignore[arg-type]


def test_a_source_shares_its_query_if_the_labels_of_each_series_tell_the_source() -> None:
    assert is_shareable(source({"model": "a"}))
    assert not is_shareable(source({}))
    assert not is_shareable(source({"model": ""}))
    assert not is_shareable(source({"model": "a"}, queries={"two": "1 + 1"}))
    assert not is_shareable(source({"priority": "1"}, preset="sglang"))
    assert not is_shareable(source({"le": "1"}))
    assert not is_shareable(source({"forescale": "1"}))
