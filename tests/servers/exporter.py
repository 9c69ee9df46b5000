"""Metrics pages of engines and exporters in the text format, with values that the test sets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from enum import StrEnum
from pathlib import Path

from aiohttp import web

from tests.servers.site import listening

RECORDED = Path(__file__).parent.parent / "data" / "vllm-0.24-metrics.txt"
"""vLLM 0.24's page after 2,131 requests on one H100, without the metrics that no test reads."""
MODEL = "llama-3.1-8b"


class State(StrEnum):
    UP = "up"
    DOWN = "down"  # responds with 503
    GARBAGE = "garbage"  # responds with bytes that are not a metrics page
    HANGING = "hanging"  # accepts requests and never responds
    CUT = "cut"  # ends in the middle of a number


class Engine:
    """One page. `page` may be set, or its recorded values changed by `set`."""

    def __init__(self, page: str | Callable[[], str] = "") -> None:
        self.page = page
        self.state = State.UP
        self.requests = 0

    def set(self, **values: float) -> None:
        """Show the recorded vLLM page with these values, by metric name without its prefix."""
        self.page = vllm(values)

    def text(self) -> str:
        return self.page if isinstance(self.page, str) else self.page()


def vllm(values: Mapping[str, float], model: str = MODEL, renamed: Mapping[str, str] | None = None) -> str:
    """Return the recorded page with changed values, another model, or renamed metrics."""
    lines = []
    for line in RECORDED.read_text(encoding="utf-8").splitlines():
        bare = line.partition("{")[0].removeprefix("vllm:")
        changed = f"{line.rpartition(' ')[0]} {values[bare]}" if bare in values else line
        for new, old in (renamed or {}).items():
            changed = changed.replace(f"vllm:{new}", f"vllm:{old}")
        lines.append(changed.replace(f'model_name="{MODEL}"', f'model_name="{model}"'))
    return "\n".join([*lines, ""])


def gauges(name: str, series: Mapping[str, object], at_ms: int | None = None) -> str:
    """Return a gauge's page from values by label text, with a timestamp if it is given."""
    stamp = "" if at_ms is None else f" {at_ms}"
    return "\n".join([f"# TYPE {name} gauge", *(f"{name}{{{labels}}} {v}{stamp}" for labels, v in series.items()), ""])


def histogram(name: str, counts: Mapping[str, float], total: float, rank: int = 0) -> str:
    """Return a histogram's page from its cumulative counts by bound, and the sum of the observations."""
    own = f'engine="{rank}"'
    buckets = "".join(f'{name}_bucket{{{own},le="{bound}"}} {count}\n' for bound, count in counts.items())
    return f"# TYPE {name} histogram\n{buckets}{name}_sum{{{own}}} {total}\n{name}_count{{{own}}} {counts['+Inf']}\n"


def dcgm(percents: list[float]) -> str:
    """Return dcgm-exporter's page for GPUs with these utilizations in percent."""
    labels = [
        f'gpu="{i}",UUID="GPU-{i:08d}",modelName="NVIDIA H100 80GB HBM3",Hostname="n0",pod="vllm-{i}"'
        for i in range(len(percents))
    ]
    busy = gauges("DCGM_FI_DEV_GPU_UTIL", dict(zip(labels, percents, strict=True)))
    tensor = gauges(
        "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE", {label: p / 400 for label, p in zip(labels, percents, strict=True)}
    )
    return busy + tensor


def sglang(waiting: Mapping[str, float], running: float) -> str:
    """Return SGLang's page with priority scheduling: the total has an empty priority."""
    parts = {"": sum(waiting.values()), **waiting}
    queue = {f'model_name="m",priority="{priority}"': n for priority, n in parts.items()}
    return (
        gauges("sglang:num_queue_reqs", queue)
        + gauges("sglang:num_running_reqs", {'model_name="m"': running})
        + gauges("sglang:token_usage", {'model_name="m"': 0.28})
    )


class Exporter:
    """Engines by name, each under ``/name/metrics`` of one port."""

    def __init__(self, engines: Mapping[str, Engine]) -> None:
        self.engines = dict(engines)
        self.port = 0

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}/metrics"

    async def answer(self, request: web.Request) -> web.StreamResponse:
        engine = self.engines[request.match_info["name"]]
        engine.requests += 1
        text = engine.text()
        match engine.state:
            case State.DOWN:
                return web.Response(status=503, text="starting")
            case State.GARBAGE:
                return web.Response(body=b"\x00\xff{vllm:num_requests_running nonsense\n" * 40)
            case State.HANGING:
                await asyncio.Event().wait()
            case State.CUT:
                text = text[: text.index("vllm:num_requests_running{") + 60]
            case _:
                pass
        return web.Response(text=text, headers={"Content-Type": "text/plain; version=0.0.4; charset=utf-8"})


@asynccontextmanager
async def exporter(engines: Mapping[str, Engine]) -> AsyncIterator[Exporter]:
    served = Exporter(engines)
    app = web.Application()
    app.router.add_get("/{name}/metrics", served.answer)
    async with listening(app) as served.port:
        yield served
