"""A hostile metrics page or a huge response delays no other workload, and the workload's own ticks report it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any, Final

import pytest
from aiohttp import web

from policies.history.ticks import History
from policies.model import Absent, PoolName, SignalName, Tick
from scaler.adapters import open_source
from scaler.config.kinds.engines import Scrape
from scaler.config.kinds.prometheus import Prometheus
from scaler.config.load import workload_from
from scaler.controller import Controller
from scaler.setup import Setup
from scaler.shared_resources import AdapterContext, Resources
from tests.fakes import FakeActuator, ManualClock
from tests.servers.exporter import vllm
from tests.servers.site import listening

pytestmark = pytest.mark.slow

OTHERS: Final = 9
LABELS: Final = 150_000
SERIES: Final = 30_000
TICKS: Final = 3
HANG_S: Final = 120.0
DEADLINE_S: Final = 2.0
PAGE: Final = vllm({}).encode()
LONGEST_STEP_S: Final = 0.5
"""Maximum processor time of the event loop's thread between two wake-ups 5 ms apart; normally a few milliseconds."""


class Wall(ManualClock):
    """The wall clock, for fake pools."""

    def now(self) -> float:
        return time.time()

    async def sleep_until(self, t: float) -> None:
        await asyncio.sleep(max(0.0, t - time.time()))


class Daemon:
    """Workloads on one event loop, each with one source, their ticks, and the loop's longest step."""

    def __init__(self, resources: Resources) -> None:
        self.clock = Wall()
        self.context = AdapterContext(resources, self.clock, DEADLINE_S)
        self.ticks: dict[str, list[Tick]] = {}
        self.longest_step_s = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    async def add(self, name: str, source: Mapping[str, Any], spec: Any) -> None:
        document = {
            "workload": name,
            "max_replicas": 50,
            "interval_s": 2.0,
            "deadline_s": DEADLINE_S,
            "sources": {"engines": source},
            "policies": {"kv": {"kind": "kv_cache_usage", "source": "engines"}},
            "pools": {"main": {"kind": "embedded"}},
        }
        ticks = self.ticks[name] = []
        pools = {PoolName("main"): FakeActuator(self.clock)}
        setup = Setup(workload_from(document), {"engines": await open_source(spec, self.context)}, pools)
        controller = Controller(setup, self.clock, History(), ticks.append)
        self._tasks.append(asyncio.create_task(controller.run(self.clock.now())))

    async def until(self, name: str, count: int) -> None:
        """Wait until a workload has `count` ticks. Raises the exception that ended a loop."""
        watch = asyncio.create_task(self._watch())
        try:
            async with asyncio.timeout(HANG_S):
                while len(self.ticks[name]) < count:  # noqa: ASYNC110 - ticks have no event
                    await asyncio.sleep(0.01)
        finally:
            for task in (watch, *self._tasks):
                task.cancel()
            for task in (watch, *self._tasks):
                with suppress(asyncio.CancelledError):
                    await task

    async def _watch(self) -> None:
        while True:
            began = time.thread_time()
            await asyncio.sleep(0.005)
            self.longest_step_s = max(self.longest_step_s, time.thread_time() - began)


@asynccontextmanager
async def pages(answers: Mapping[str, Callable[[web.Request], Any]]) -> AsyncIterator[str]:
    app = web.Application()
    for path, answer in answers.items():
        app.router.add_route("*", path, answer)
    async with listening(app) as port:
        yield f"http://127.0.0.1:{port}"


def labelled() -> bytes:
    labels = ",".join(f'l{i}="{i % 10}"' for i in range(LABELS))
    return f"vllm:num_requests_running{{{labels}}} 1\n".encode() + PAGE


def huge() -> bytes:
    rows = [{"metric": {"forescale": "value:running", "pod": f"{i:0200}"}, "value": [1.0, "1"]} for i in range(SERIES)]
    return json.dumps({"status": "success", "data": {"resultType": "vector", "result": rows}}).encode()


def respond_with(body: bytes) -> Callable[[web.Request], Any]:
    async def answer(_: web.Request) -> web.Response:
        return web.Response(body=body)

    return answer


async def dripping(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse()
    await response.prepare(request)
    with suppress(ConnectionError):
        for i in range(len(PAGE)):
            await response.write(PAGE[i : i + 1])
            await asyncio.sleep(0.05)
    return response


def scraped(*urls: str) -> tuple[dict[str, Any], Scrape]:
    return {"kind": "scrape", "preset": "vllm", "urls": list(urls)}, Scrape(preset="vllm", urls=urls)


async def test_hostile_pages_delay_no_other_workload_and_are_reported() -> None:
    answers = {"/labelled": respond_with(labelled()), "/dripping": dripping}
    answers |= {f"/{i}": respond_with(PAGE) for i in range(OTHERS)}
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(pages(answers))
        daemon = Daemon(await stack.enter_async_context(Resources()))
        valid_pages = [f"{url}/{i}" for i in range(OTHERS)]
        await daemon.add("hostile", *scraped(f"{url}/labelled", f"{url}/dripping", *valid_pages))
        await daemon.add("labelled", *scraped(f"{url}/labelled"))
        for i, page in enumerate(valid_pages):
            await daemon.add(f"other-{i}", *scraped(page))
        await daemon.until("hostile", TICKS)
    mean = daemon.ticks["hostile"][-1].observation.readings[SignalName("engines.kv_cache_usage")]
    assert isinstance(mean, Absent)
    assert mean.reason.startswith("2 of 11 engines did not respond")
    assert "characters; the limit is 16384" in mean.reason
    assert "characters; the limit is 16384" in daemon.ticks["labelled"][-1].observation.source_errors["engines"]
    _check_other_workloads(daemon, "hostile")


async def test_huge_prometheus_response_delays_no_other_workload() -> None:
    async with AsyncExitStack() as stack:
        url = await stack.enter_async_context(pages({"/api/v1/query": respond_with(huge()), "/0": respond_with(PAGE)}))
        daemon = Daemon(await stack.enter_async_context(Resources()))
        read = {"kind": "prometheus", "preset": "vllm", "url": url}
        await daemon.add("hostile", read, Prometheus(preset="vllm", url=url))
        for i in range(OTHERS):
            await daemon.add(f"other-{i}", *scraped(f"{url}/0"))
        await daemon.until("hostile", TICKS)
    error = daemon.ticks["hostile"][-1].observation.source_errors["engines"]
    assert error.endswith("exceeds 1 MiB; aggregate the query, as in sum(...)")
    _check_other_workloads(daemon, "hostile")


def _check_other_workloads(daemon: Daemon, hostile: str) -> None:
    counts = {name: len(ticks) for name, ticks in daemon.ticks.items()}
    assert all(count >= counts[hostile] - 1 for count in counts.values()), counts  # they began a moment later
    for name, ticks in daemon.ticks.items():
        if name.startswith("other"):
            assert not any(tick.observation.source_errors for tick in ticks[1:]), name
    assert daemon.longest_step_s < LONGEST_STEP_S
