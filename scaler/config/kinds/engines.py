"""The engines themselves: their metrics pages as a source, their sleep mode as a pool."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

from yarl import URL

from policies.model.field_metadata import FieldMetadata
from policies.model.spec import Pool, Target
from scaler.clouds.engines import presets
from scaler.clouds.http_access import Access, is_page

PAGE_URL: Final = r"^https?://[^/@\s?#]+(/[^\s#]*)?$"


@dataclass(frozen=True, kw_only=True)
class Scrape:
    """The engines' /metrics pages, without Prometheus."""

    preset: Annotated[presets.Preset, FieldMetadata("Whose metrics these are.", example="dcgm")]
    urls: Annotated[
        tuple[str, ...], FieldMetadata("Addresses of the pages, for engines that are always there; empty: see service.")
    ] = ()
    service: Annotated[
        str | None,
        FieldMetadata(
            "Address of the page at a name that resolves to every engine (a headless service); looked up each turn.",
            pattern=PAGE_URL,
            example="http://dcgm-exporter.gpu-operator.svc:9400/metrics",
        ),
    ] = None
    match: Annotated[
        Mapping[str, str],
        FieldMetadata("Labels that the series must have, exactly.", example={"model_name": "llama-3.1-8b"}),
    ] = field(default_factory=dict)
    read: Annotated[
        tuple[str, ...] | None,
        FieldMetadata(
            "Which of the preset's quantities; null: all but rates and latencies, which are read when named here.",
            example=["utilization"],
        ),
    ] = None
    max_age_s: Annotated[float, FieldMetadata("Older readings are stale. Seconds.", gt=0)] = 60.0
    access: Annotated[Access, FieldMetadata("How to be let in.")] = field(default_factory=Access)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from presets.problems(self.preset, self.read, self.match)
        if bool(self.urls) == bool(self.service):
            yield "urls", "give either urls or service"
        if len(set(self.urls)) < len(self.urls):
            yield "urls", "names a page twice, which would count it twice"
        for url in self.urls:
            if not is_page(url):
                yield "urls", "one is not an address like http://10.0.0.7:8000/metrics"
        if self.service and not is_page(self.service):
            yield "service", "is not an address like http://vllm.llm.svc:8000/metrics"

    def quantities(self) -> Mapping[str, float]:
        return dict.fromkeys(presets.recipes(self.preset, self.read), self.max_age_s)


@dataclass(frozen=True, kw_only=True)
class VllmSleep(Pool):
    """Engines of vLLM that are there anyway, awake or asleep; tier must be serving."""

    urls: Annotated[
        tuple[str, ...],
        FieldMetadata("Addresses of the engines, without a path; woken in this order.", example=["http://vllm-0:8000"]),
    ]
    access: Annotated[Access, FieldMetadata("How to be let in.")] = field(default_factory=Access)

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.urls:
            yield "urls", "at least one engine"
        if not all(map(is_origin, self.urls)):
            yield "urls", "one is not an address such as http://vllm-0:8000"
        elif len(set(map(origin_of, self.urls))) < len(self.urls):
            yield "urls", "an engine stands there twice"
        for key in ("min_replicas", "max_replicas"):
            if (getattr(self, key) or 0) > len(self.urls):
                yield key, f"there are {len(self.urls)} engines"

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return tuple(Target("vLLM engine", (), origin_of(url)) for url in self.urls)


def origin_of(address: str) -> str:
    """Return host and port of an address, which identify an engine: ``vllm-0:8000`` of ``http://VLLM-0.:8000/``."""
    url = URL(address)
    return f"{(url.host or '').rstrip('.')}:{url.port}"


def is_origin(address: str) -> bool:
    """Return whether an address consists of scheme, host and maybe port only."""
    try:
        url = URL(address)
        return url.scheme in {"http", "https"} and bool(url.host) and url.user is None and url.raw_path in {"", "/"}
    except ValueError:
        return False
