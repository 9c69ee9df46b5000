"""The engines themselves: their metrics pages as a source, their sleep mode as a pool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Final, Literal

from yarl import URL

from policies.model.field_metadata import FieldMetadata, Pattern
from policies.model.pool import Pool, Target
from scaler.clouds.engines import presets
from scaler.clouds.http_access import Access, is_page

PAGE_URL: Final = Pattern(r"^https?://[^/@\s?#]+(/[^\s#]*)?$", "an http:// or https:// URL without user and password")


@dataclass(frozen=True, kw_only=True)
class Scrape:
    """Metrics pages (/metrics) of the engines, read directly without Prometheus."""

    rates_between_ticks: ClassVar[bool] = True
    """Rates and latencies are those between the samples of two ticks."""

    preset: Annotated[
        presets.Preset,
        FieldMetadata("Engine or exporter whose metric names to read, such as vllm, sglang or dcgm.", example="dcgm"),
    ]
    urls: Annotated[
        tuple[str, ...],
        FieldMetadata("URLs of the metrics pages, for a fixed set of engines. Default: empty; set service instead."),
    ] = ()
    service: Annotated[
        str | None,
        FieldMetadata(
            "URL of the metrics page under a name that resolves to every engine, such as a headless Service. The name"
            " is resolved at each tick. Default: null; set urls instead.",
            pattern=PAGE_URL,
            example="http://dcgm-exporter.gpu-operator.svc:9400/metrics",
        ),
    ] = None
    match: Annotated[
        Mapping[str, str],
        FieldMetadata(
            "Labels and exact values that a series must have. Default: none, all series.",
            example={"model_name": "llama-3.1-8b"},
        ),
    ] = field(default_factory=dict)
    read: Annotated[
        tuple[str, ...] | None,
        FieldMetadata(
            "Quantities of the preset to read. Default: null, the gauges of the preset, and the rates and latencies"
            " that the policies and the SLO need.",
            example=["utilization"],
        ),
    ] = None
    max_age_s: Annotated[
        float, FieldMetadata("Treat older readings as stale. The default of 60 is four ticks of 15 s. Seconds.", gt=0)
    ] = 60.0
    access: Annotated[
        Access, FieldMetadata("Credentials and trusted certificates for the requests. Default: no credentials.")
    ] = field(default_factory=Access)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from presets.problems(self.preset, self.read, self.match)
        yield from page_problems(self.urls, self.service, "http://vllm.llm.svc:8000/metrics")

    def quantities(self) -> Mapping[str, float]:
        return dict.fromkeys(presets.recipes(self.preset, self.read), self.max_age_s)


@dataclass(frozen=True, kw_only=True)
class VllmSleep(Pool):
    """vLLM engines with sleep mode. The size is the number of awake engines."""

    tier: Annotated[
        Literal["serving"],
        FieldMetadata("Role of the pool's replicas. Its size is the number of awake engines, which always serve."),
    ] = "serving"
    urls: Annotated[
        tuple[str, ...],
        FieldMetadata(
            "URLs of the engines, without a path. Engines are woken in this order.", example=["http://vllm-0:8000"]
        ),
    ]
    access: Annotated[
        Access, FieldMetadata("Credentials and trusted certificates for the requests. Default: no credentials.")
    ] = field(default_factory=Access)

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.urls:
            yield "urls", "must list at least one engine, such as http://vllm-0:8000"
        if not all(map(is_origin, self.urls)):
            yield "urls", "must be URLs without a path, such as http://vllm-0:8000"
        elif len(set(map(origin_of, self.urls))) < len(self.urls):
            yield "urls", "lists an engine twice; remove the duplicate"
        for key in ("min_replicas", "max_replicas"):
            if (getattr(self, key) or 0) > len(self.urls):
                yield key, f"must be at most {len(self.urls)}, the number of engines in urls"

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return tuple(Target("vLLM engine", (), origin_of(url)) for url in self.urls)


def origin_of(address: str) -> str:
    """Return host and port of an address, which identify an engine.

    Example: ``vllm-0:8000`` of ``http://VLLM-0.:8000/``.
    """
    url = URL(address)
    return f"{(url.host or '').rstrip('.')}:{url.port}"


def is_origin(address: str) -> bool:
    """Return whether an address consists of scheme, host and maybe port only."""
    try:
        url = URL(address)
        return url.scheme in {"http", "https"} and bool(url.host) and url.user is None and url.raw_path in {"", "/"}
    except ValueError:
        return False


def page_problems(urls: tuple[str, ...], service: str | None, example: str) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the addresses of a set of metrics pages."""
    if bool(urls) == bool(service):
        yield "urls", "and service exclude each other: set exactly one of the two"
    if len(set(urls)) < len(urls):
        yield "urls", "lists a page twice, which would count its load twice; remove the duplicate"
    for url in urls:
        if not is_page(url):
            yield "urls", "must be URLs such as http://10.0.0.7:8000/metrics"
    if service and not is_page(service):
        yield "service", f"must be a URL such as {example}"
