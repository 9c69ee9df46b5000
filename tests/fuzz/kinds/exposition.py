"""An engine's metrics page, over a socket: first a valid one, then a mutated one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from aiohttp import web

from scaler.adapters import open_source
from scaler.config.kinds.engines import Scrape
from scaler.ports import PortError
from tests.fuzz.kinds.loop import loop
from tests.fuzz.kinds.readings import encoding_problem, invalid_reading
from tests.fuzz.mutate import DIGITS, text
from tests.fuzz.rng import Rng

PAGE: Final = (Path(__file__).parents[2] / "data" / "vllm-0.24-metrics.txt").read_bytes()
NAMES: Final = ("running", "waiting", "kv_cache_usage", "requests_per_s", "ttft_p95_s", "generation_tokens_per_s")
TOKENS: Final = (
    b"NaN",
    b"+Inf",
    b"-Inf",
    b"1e308",
    b"1e999",
    b"-5",
    DIGITS.encode(),
    b"0x10",
    b"\xff\xfe",
    b"\x00",
    b"{",
    b"}",
    b'"',
    b"\\",
    b'le="',
    b'le="0.1"',
    b"# EOF\n",
    b"# TYPE ",
    b"# HELP x \xed\xa0\x80\n",
    b"\r\n",
    b" 1 1 1",
    b"vllm:num_requests_running",
    b'vllm:num_requests_running{a="' + b"a" * 100_000 + b'"} 1\n',
    b"vllm:num_requests_running{" + b'a="1",' * 5000 + b"} 1\n",
    b"vllm:num_requests_waiting 1e308\n" * 3,
)


def _page() -> bytes:
    """Return the relevant lines, and a few others."""
    prefixes = (b"num_requests", b"kv_cache", b"request_success", b"time_to_first", b"generation_tokens", b"process_")
    lines = [line for line in PAGE.split(b"\n") if any(name in line for name in prefixes)]
    return b"\n".join(lines[:150]) + b"\n"


def mutated(rng: Rng) -> bytes:
    if rng.happens(0.02):
        return b"".join(b'vllm:num_requests_running{a="%d"} 1\n' % k for k in range(100_000))
    data = text(rng, _page(), TOKENS, changes=6)
    return data if rng.happens(0.3) else data.rstrip(b"\n") + b"\n"


def check(data: bytes) -> str:
    return loop().run(_check(data))


async def _check(data: bytes) -> str:
    event_loop = loop()
    source = await open_source(
        Scrape(preset="vllm", urls=(f"http://127.0.0.1:{event_loop.port}/metrics",), read=NAMES), event_loop.context
    )
    for body in (_page(), data, _page()):
        event_loop.answer = lambda _, body=body: web.Response(body=body, content_type="text/plain")  # type: ignore[misc]
        event_loop.clock.ahead_s += 15.0
        try:
            readings = await source.sample()
        except PortError as e:
            if problem := encoding_problem(str(e)):
                return problem
            continue
        if problem := invalid_reading(readings):
            return problem
    return ""
