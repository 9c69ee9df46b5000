"""The scrape source: aggregation over engines, failures, restarted counters, and addresses."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest

from policies.model import Absent, Fresh
from scaler.clouds import http_client
from scaler.clouds.engines.page_set import resolve_addresses
from scaler.config.kinds.engines import Scrape
from scaler.ports import Misconfigured, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from scaler.sources.scrape import ScrapeSource, open_scrape
from tests.factories import DEADLINE_S
from tests.servers.exporter import Engine, Exporter, State, dcgm, exporter, gauges, vllm

COUNTER = "vllm:generation_tokens_total"


class SettableClock:
    """A clock that the test sets."""

    def __init__(self) -> None:
        self.time = 1000.0

    def now(self) -> float:
        return self.time

    async def sleep_until(self, t: float) -> None:
        self.time = max(self.time, t)

    def step_s(self) -> float:
        return 0.0


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock()


@pytest.fixture
async def opening(clock: SettableClock) -> AsyncIterator[AdapterContext]:
    async with Resources() as resources:
        yield AdapterContext(resources, clock, DEADLINE_S)


@pytest.fixture
async def engines() -> AsyncIterator[Exporter]:
    busy = {"num_requests_running": 12, "num_requests_waiting": 5, "kv_cache_usage_perc": 0.4}
    renamed = {"kv_cache_usage_perc": "gpu_cache_usage_perc"}
    pages_by_engine = {
        "a": Engine(vllm(busy)),
        "b": Engine(vllm({**busy, "kv_cache_usage_perc": 0.8}, renamed=renamed)),
    }
    async with exporter(pages_by_engine) as pages:
        yield pages


async def source(opening: AdapterContext, pages: Exporter, **fields: Any) -> ScrapeSource:
    spec = Scrape(urls=tuple(pages.url(name) for name in pages.engines), **{"preset": "vllm", **fields})
    return await open_scrape(spec, opening)


def counters(**values: float) -> str:
    return "".join(f'{COUNTER}{{engine="{engine}"}} {value}\n' for engine, value in values.items())


async def test_counts_are_summed_and_shares_averaged(opening: AdapterContext, engines: Exporter) -> None:
    readings = await (await source(opening, engines)).sample()
    assert readings == {
        "running": Fresh(24, 1000),
        "waiting": Fresh(10, 1000),
        "kv_cache_usage": Fresh((0.4 + 0.8) / 2, 1000),
    }


async def test_gpu_utilization_in_percent_is_read_as_a_share(opening: AdapterContext) -> None:
    async with exporter({"node-0": Engine(dcgm([90, 30])), "node-1": Engine(dcgm([0]))}) as pages:
        readings = await (await source(opening, pages, preset="dcgm", read=("utilization",))).sample()
    assert readings == {"utilization": Fresh(0.4, 1000)}


async def test_series_are_matched_by_their_own_labels(opening: AdapterContext, engines: Exporter) -> None:
    engines.engines["b"].page = vllm({"num_requests_running": 99}, model="another")
    readings = await (await source(opening, engines, match={"model_name": "llama-3.1-8b"}, read=("running",))).sample()
    assert readings == {"running": Fresh(12, 1000)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("state", "why"),
    [
        (State.DOWN, "HTTP 503"),
        (State.HANGING, "TimeoutError|not read and parsed within"),
        (State.CUT, "ends in the middle of a line"),
        (State.GARBAGE, "codec can't decode"),
    ],
)
async def test_failed_engine_makes_a_sum_a_lower_bound_and_a_mean_absent(
    opening: AdapterContext, engines: Exporter, state: State, why: str
) -> None:
    engines.engines["b"].state = state
    opening.deadline_s = 5.0
    readings = await (await source(opening, engines)).sample()
    running, usage = readings["running"], readings["kv_cache_usage"]
    assert isinstance(running, Fresh)
    assert (running.value, running.measured_at) == (12, 1000)
    assert isinstance(usage, Absent)
    for text in (running.missing, usage.reason):
        assert text.startswith("1 of 2 engines did not respond")
        assert re.search(why, text)


async def test_source_without_a_responding_engine_is_unavailable(opening: AdapterContext, engines: Exporter) -> None:
    engines.engines["a"].state = engines.engines["b"].state = State.DOWN
    with pytest.raises(Unavailable, match="none of 2 engines responded"):
        await (await source(opening, engines)).sample()


async def test_engine_without_the_metric_makes_the_reading_absent(opening: AdapterContext, engines: Exporter) -> None:
    engines.engines["b"].page = gauges("vllm:num_requests_running", {"": 3})
    readings = await (await source(opening, engines)).sample()
    assert readings["running"] == Fresh(15, 1000)
    assert readings["waiting"] == Absent("1 of 2 engines do not export vllm:num_requests_waiting")


@pytest.mark.parametrize(
    ("shown", "hint"),
    [
        (gauges("vllm:kv_cache_usage_percent", {"": 3}), "did you mean 'vllm:kv_cache_usage_percent'"),
        ("<html>\n", "the pages are empty"),
        ("", "the pages are empty"),
        ("up 1\n", "they export up"),
    ],
)
async def test_pages_without_any_of_the_metrics_are_misconfigured(
    opening: AdapterContext, shown: str, hint: str
) -> None:
    async with exporter({"a": Engine(shown)}) as pages:
        with pytest.raises(Misconfigured, match=hint):
            await (await source(opening, pages)).sample()


@pytest.mark.parametrize(
    "line", ["vllm:num_requests_running{", "vllm:num_requests_running many", "vllm:num_requests_running"]
)
async def test_malformed_line_of_a_read_metric_is_unavailable(opening: AdapterContext, line: str) -> None:
    async with exporter({"a": Engine(f"{line}\n")}) as pages:
        with pytest.raises(Unavailable):
            await (await source(opening, pages)).sample()


async def test_malformed_line_of_another_metric_is_ignored(opening: AdapterContext, engines: Exporter) -> None:
    engines.engines["a"].page = "python_info{{{ oops\n" + engines.engines["a"].text()
    assert isinstance((await (await source(opening, engines)).sample())["running"], Fresh)


async def test_nan_and_negative_values_are_absent(opening: AdapterContext) -> None:
    text = gauges("vllm:num_requests_running", {"": "NaN"}) + gauges("vllm:num_requests_waiting", {"": -1})
    async with exporter({"a": Engine(text)}) as pages:
        readings = await (await source(opening, pages, read=("running", "waiting"))).sample()
    assert readings == {"running": Absent("nan is not finite"), "waiting": Absent("-1 is negative")}


async def test_rate_needs_two_recent_samples(opening: AdapterContext, clock: SettableClock) -> None:
    engine = Engine(counters(a=500, b=40))
    async with exporter({"a": engine}) as pages:
        rates = await source(opening, pages, read=("generation_tokens_per_s",))
        assert await rates.sample() == {
            "generation_tokens_per_s": Absent("1 of 1 engines have one sample so far, and this needs two")
        }
        clock.time, engine.page = 1010.0, counters(a=1500, b=540)
        assert await rates.sample() == {"generation_tokens_per_s": Fresh(150, 1010)}
        clock.time, engine.page = 1020.0, counters(a=30, b=20)  # the engine restarted, and its counters with it
        assert await rates.sample() == {"generation_tokens_per_s": Fresh(5, 1020)}
        clock.time = 2020.0
        assert await rates.sample() == {"generation_tokens_per_s": Absent("two samples 1000 s apart give no rate")}


async def test_rate_is_absent_until_a_new_engine_has_two_samples(opening: AdapterContext, clock: SettableClock) -> None:
    engine, joined = Engine(counters(a=0)), Engine(counters(a=5000))
    async with exporter({"a": engine, "b": joined}) as pages:
        rates = await source(opening, pages, read=("generation_tokens_per_s",))
        joined.state = State.DOWN
        await rates.sample()
        clock.time, engine.page, joined.state = 1010.0, counters(a=100), State.UP
        assert isinstance((await rates.sample())["generation_tokens_per_s"], Absent)
        clock.time, engine.page, joined.page = 1020.0, counters(a=200), counters(a=5300)
        assert await rates.sample() == {"generation_tokens_per_s": Fresh(40, 1020)}


async def test_latency_covers_the_requests_between_two_samples(opening: AdapterContext, clock: SettableClock) -> None:
    def buckets(**counts: float) -> str:
        bounds = zip(("1.0", "2.5", "+Inf"), counts.values(), strict=True)
        return "".join(f'vllm:time_to_first_token_seconds_bucket{{le="{le}"}} {n}\n' for le, n in bounds)

    engine = Engine(buckets(a=100, b=100, c=100))
    async with exporter({"a": engine}) as pages:
        latency = await source(opening, pages, read=("ttft_p95_s",))
        await latency.sample()
        clock.time = 1010.0
        assert await latency.sample() == {"ttft_p95_s": Absent("no observations between the last two samples")}
        clock.time, engine.page = 1020.0, buckets(a=109, b=110, c=110)
        assert await latency.sample() == {"ttft_p95_s": Fresh(1.75, 1020)}


@pytest.mark.parametrize(
    ("resolved", "error", "why"),
    [
        ([], Unavailable, "no engine is ready"),
        (OSError("no such name"), Unavailable, "the name is wrong"),
        (
            [f"10.0.{i // 250}.{i % 250}" for i in range(501)],
            Misconfigured,
            "exceed the limit of 500; use kind prometheus",
        ),
    ],
)
async def test_service_without_usable_addresses_is_an_error_and_not_zero(
    opening: AdapterContext, resolved: list[str] | OSError, error: type[Exception], why: str
) -> None:
    with pytest.raises(error, match=why):
        await (await service(opening, 1, resolved)).sample()


async def test_service_addresses_are_resolved_on_every_tick(opening: AdapterContext, engines: Exporter) -> None:
    ips = ["127.0.0.1"]
    headless = await service(opening, engines.port, ips)
    assert (await headless.sample())["running"] == Fresh(12, 1000)
    ips.append("127.0.0.2")  # this exporter listens on the first only
    assert "1 of 2 engines did not respond" in str((await headless.sample())["running"])
    ips.pop()
    assert (await headless.sample())["running"] == Fresh(12, 1000)


async def test_dual_stack_name_resolves_to_one_address() -> None:
    assert await resolve_addresses("localhost", 80) == ["127.0.0.1"]


async def service(opening: AdapterContext, port: int, resolved: Sequence[str] | OSError) -> ScrapeSource:
    async def resolve(host: str, port: int) -> Sequence[str]:
        assert host == "engines.test"
        if isinstance(resolved, OSError):
            raise resolved
        return resolved

    spec = Scrape(preset="vllm", service=f"http://engines.test:{port}/a/metrics")
    session = await http_client.session(opening, "test", None)
    return ScrapeSource(spec, http_client.Pages(session, spec.access, opening.clock, 1.0), resolve=resolve)
