"""The engines' own /metrics, read directly: for where there is no Prometheus, or where 30 s old is too old.

Every turn all engines are asked at once, and each has until shortly before the deadline. When one does not answer, a
total over the others is a lower bound, which may raise and not lower, and a mean is absent; when one shows no such
metric, the quantity is absent. Rates and latencies come from two looks, and are absent until the second. Labels are the
engine's own: those that Prometheus adds (namespace, pod, job) are not on the page.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final

from policies.model.field_metadata import FieldMetadata
from scaler.clouds import http_client
from scaler.clouds.engines import presets
from scaler.clouds.http_access import Access, is_page
from scaler.ports import Context
from scaler.sources.scrape_source import MAX_TARGETS, ScrapeSource

URL: Final = r"^https?://[^/@\s?#]+(/[^\s#]*)?$"


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
            pattern=URL,
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

    async def open(self, context: Context) -> ScrapeSource:
        server = self.service or self.urls
        session = await http_client.session(context, server, self.access.ca_file, connections=MAX_TARGETS)
        pages = http_client.Pages(session, self.access, context.clock, http_client.DEADLINE_SHARE * context.deadline_s)
        return ScrapeSource(self, pages, context.promised_s)
