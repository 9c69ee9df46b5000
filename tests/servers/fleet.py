"""A Prometheus that scrapes one engine for each case of a test, distinguished by the label ``case``."""

from __future__ import annotations

import math
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.servers.exporter import Engine, Exporter, State, dcgm, exporter, gauges, histogram, sglang, vllm
from tests.servers.prometheus import PrometheusServer, Target, prometheus

WEIRD = 'a "quoted" back\\slash, {brace} and ü\nline'
OLD = {"kv_cache_usage_perc": "gpu_cache_usage_perc"}
BUSY = {"num_requests_running": 12, "num_requests_waiting": 5, "kv_cache_usage_perc": 0.4}


def counting() -> str:
    """Return counters that grow by 1,000 per second, and TTFT with a 95th percentile of 4.58 s."""
    since_s = time.time() % 86_400
    buckets = {"1.0": 0, "2.5": 9, "5.0": 9.6, "+Inf": 10}
    text = [f'vllm:generation_tokens_total{{engine="0"}} {1000 * since_s}']
    text += [f'vllm:time_to_first_token_seconds_bucket{{le="{le}"}} {n * since_s}' for le, n in buckets.items()]
    return "\n".join([*text, ""])


def growing(text: str) -> Callable[[], str]:
    """Return a page of counters that grow by the text's values per second."""

    def page() -> str:
        since_s = time.time() % 86_400
        lines = (line if line.startswith("#") else grown(line, since_s) for line in text.splitlines())
        return "\n".join([*lines, ""])

    def grown(line: str, since_s: float) -> str:
        series, _, value = line.rpartition(" ")
        return f"{series} {float(value) * since_s!r}"

    return page


def upgraded() -> str:
    """Return a page with mean times per token of requests, and token gaps in other buckets, which are not used then."""
    requests = histogram("vllm:request_time_per_output_token_seconds", {"0.01": 6, "0.05": 8, "+Inf": 8}, 0.08)
    gaps = histogram("vllm:inter_token_latency_seconds", {"0.01": 0, "0.02": 300, "0.05": 300, "+Inf": 400}, 100)
    return requests + gaps


def older() -> str:
    return histogram("vllm:time_per_output_token_seconds", {"0.01": 0, "0.05": 2, "+Inf": 12}, 0.6)


def triton() -> str:
    counts = {"100": 1, "500": 5, "2000": 9, "5000": 10, "+Inf": 10}
    return histogram("nv_inference_first_response_histogram_ms", counts, 6500)


def held(began: float, ages_s: list[float]) -> str:
    """Return a page whose samples have fixed timestamps."""
    now_ms = math.floor(began * 1000)
    return "".join(
        gauges("vllm:num_requests_running", {f'engine="{i}"': 1}, now_ms - round(1000 * age_s))
        for i, age_s in enumerate(ages_s)
    )


def trtllm() -> str:
    requests = {f'model="m",request_type="{kind}"': n for kind, n in (("waiting", 4), ("scheduled", 9), ("max", 512))}
    blocks = {f'model="m",kv_cache_block_type="{kind}"': n for kind, n in (("fraction", 0.25), ("max", 6448))}
    return gauges("nv_trt_llm_request_metrics", requests) + gauges("nv_trt_llm_kv_cache_block_metrics", blocks)


def cases(began: float) -> dict[str, Engine]:
    """Return an engine for each case; ``-2`` is the second engine of a case."""
    return {
        "recorded": Engine(vllm(BUSY)),
        "old": Engine(vllm({**BUSY, "kv_cache_usage_perc": 0.3}, renamed=OLD)),
        "mixed": Engine(vllm(BUSY)),
        "mixed-2": Engine(vllm({**BUSY, "kv_cache_usage_perc": 0.8}, renamed=OLD)),
        "both": Engine(vllm(BUSY) + gauges("vllm:gpu_cache_usage_perc", {'engine="0",model_name="llama-3.1-8b"': 0.4})),
        "gone": Engine(vllm(BUSY)),
        "lost": Engine(vllm(BUSY)),
        "lost-2": Engine(vllm(BUSY)),
        "starting": Engine(vllm(BUSY)),
        "starting-2": Engine(""),
        "partly": Engine(gauges("vllm:num_requests_running", {"": 3}) + gauges("vllm:kv_cache_used_perc", {"": 0.5})),
        "held": Engine(held(began, [20, 40])),
        "weird": Engine(gauges("vllm:num_requests_running", {"": 6})),
        "nan": Engine(
            gauges("vllm:num_requests_running", {"": "NaN"}) + gauges("vllm:num_requests_waiting", {"": "+Inf"})
        ),
        "negative": Engine(
            gauges("vllm:num_requests_running", {"": -1}) + gauges("vllm:kv_cache_usage_perc", {"": 40})
        ),
        "counting": Engine(counting),
        "growing": Engine(growing(vllm({}))),
        "upgrade": Engine(growing(upgraded())),
        "upgrade-2": Engine(growing(older())),
        "parted": Engine(growing(vllm({}))),
        "parted-2": Engine(growing(vllm({}))),
        "triton": Engine(growing(triton())),
        "dcgm": Engine(dcgm([90, 30, 0])),
        "trtllm": Engine(trtllm()),
        "sglang": Engine(sglang({"1": 4, "2": 3}, running=8)),
    }


@dataclass(frozen=True)
class Fleet:
    """The engines that the tests set, and the time of their start."""

    began: float
    engines: Mapping[str, Engine]
    pages: Exporter
    server: PrometheusServer


@asynccontextmanager
async def scraped() -> AsyncIterator[Fleet]:
    began = time.time()
    engines = cases(began)
    engines["starting-2"].state = State.DOWN
    async with exporter(engines) as pages:
        targets = [
            Target(
                f"127.0.0.1:{pages.port}",
                f"/{name}/metrics",
                {"case": WEIRD if name == "weird" else name.partition("-")[0]},
            )
            for name in engines
        ]
        async with prometheus(targets) as server:
            await server.until("count(count_over_time(up[1m]) >= 3)", lambda values: values == [len(engines)])
            yield Fleet(began, engines, pages, server)
