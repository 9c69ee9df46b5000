"""The engines' own /metrics, read directly: for where there is no Prometheus, or where 30 s old is too old.

Every turn all engines are asked at once, and each has until shortly before the deadline. When one does not answer, a
total over the others is a lower bound, which may raise and not lower, and a mean is absent; when one shows no such
metric, the quantity is absent. Rates and latencies come from two looks, and are absent until the second. Labels are the
engine's own: those that Prometheus adds (namespace, pod, job) are not on the page.
"""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from yarl import URL

from policies.model import Absent, Fresh
from scaler.clouds import http_client
from scaler.clouds.engines.exposition import change, level, series_of
from scaler.clouds.engines.metrics_page import Page, Series, read_page
from scaler.clouds.engines.presets import Recipe, recipes, slo_bounds, without_slo_latencies
from scaler.clouds.response_validation import validated
from scaler.config.kinds.engines import Scrape
from scaler.ports import Context, Misconfigured, PortError, Unavailable
from scaler.registry import did_you_mean
from scaler.sources.sanitize import sanitize

MAX_TARGETS: Final = 500
"""Engines of one source: a second of parsing a turn. For more, let Prometheus scrape."""
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]


async def addresses(host: str, port: int) -> Sequence[str]:
    """Return all addresses of a name: IPv4, or IPv6 where there are none, so that a dual-stacked engine counts once."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    for family in (socket.AF_INET, socket.AF_INET6):
        if ips := sorted({str(info[4][0]) for info in found if info[0] == family}):
            return ips
    return ()


async def open_scrape(spec: Scrape, context: Context) -> ScrapeSource:
    """Open the source. Raises `Misconfigured`."""
    server = spec.service or spec.urls
    session = await http_client.session(context, server, spec.access.ca_file, connections=MAX_TARGETS)
    pages = http_client.Pages(session, spec.access, context.clock, http_client.DEADLINE_SHARE * context.deadline_s)
    return ScrapeSource(spec, pages, context.slo_limits_s)


@dataclass(frozen=True, slots=True)
class ScrapeTarget:
    """An engine's page, and the name that its certificate must bear if that is not in the address."""

    url: URL
    server_name: str | None = None


class ScrapeSource:
    """Reads every engine each turn and remembers what counters stood at."""

    def __init__(
        self,
        spec: Scrape,
        pages: http_client.Pages,
        slo_limits_s: Mapping[str, float] | None = None,
        resolve: Resolve = addresses,
    ) -> None:
        self._promised_s = slo_limits_s or {}
        self._targets = tuple(ScrapeTarget(URL(url)) for url in spec.urls)
        self._service = URL(spec.service) if spec.service else None
        self._recipes = recipes(spec.preset, spec.read)
        self._match = spec.match
        self._pages = pages
        self._resolve = resolve
        self._wanted = frozenset(name for recipe in self._recipes.values() for name in recipe.series)
        self._before: dict[ScrapeTarget, Page] = {}

    @validated("metrics pages")
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        targets = await self._find()
        results = await asyncio.gather(*(self._page(target) for target in targets))
        shown = {t: r for t, r in zip(targets, results, strict=True) if isinstance(r, Page)}
        failed = [r for r in results if isinstance(r, PortError)]
        if not shown:
            raise _worst(failed)
        before, self._before = self._before, {t: p for t, p in {**self._before, **shown}.items() if t in targets}
        missing = f"{len(failed)} of {len(targets)} engines did not answer: {failed[0]}" if failed else ""
        if not any(page.metrics for page in shown.values()):
            raise Misconfigured(self._nothing(shown))
        readings = {q: self._reading(q, recipe, before, shown) for q, recipe in self._recipes.items()}
        return {q: slo_bounds(r, self._recipes[q], missing) for q, r in readings.items()} if missing else readings

    async def _find(self) -> tuple[ScrapeTarget, ...]:
        """Return the engines there are now.

        Raises `Unavailable` when the name has no address: nobody to ask is not zero.
        """
        if self._service is None:
            targets = self._targets
        else:
            host, port = str(self._service.host), int(self._service.port or 0)
            try:
                async with asyncio.timeout(self._pages.deadline_s):
                    ips = await self._resolve(host, port)
            except OSError as e:
                raise Unavailable(f"{host} has no address (no engine is ready, or the name is wrong): {e}") from e
            targets = tuple(ScrapeTarget(self._service.with_host(ip), host) for ip in ips)
            if not targets:
                raise Unavailable(f"{host} has no address: no engine is ready")
        if len(targets) > MAX_TARGETS:
            raise Misconfigured(f"{len(targets)} engines; more than {MAX_TARGETS} are better scraped by Prometheus")
        return targets

    async def _page(self, target: ScrapeTarget) -> Page | PortError:
        try:
            async with asyncio.timeout(self._pages.deadline_s):
                return await read_page(self._pages, target.url, target.server_name, self._wanted)
        except TimeoutError:
            return Unavailable(f"{target.url}: not read and parsed within {self._pages.deadline_s:.3g} s")
        except PortError as e:
            return e

    def _reading(
        self, quantity: str, recipe: Recipe, before: Mapping[ScrapeTarget, Page], shown: Mapping[ScrapeTarget, Page]
    ) -> Fresh[float] | Absent:
        if nothing := without_slo_latencies(recipe, self._promised_s):
            return nothing
        now = {t: series_of(recipe, self._match, p) for t, p in shown.items()}
        lacking = sum(series is None for series in now.values())
        present: dict[ScrapeTarget, Series] = {t: series for t, series in now.items() if series is not None}
        names = " or ".join(recipe.series)
        if lacking:
            return Absent(f"{lacking} of {len(shown)} engines show no {names}")
        if not recipe.needs_history:
            value: float | Absent | None = level(recipe, [*present.values()])
        elif new := [t for t in present if t not in before]:
            return Absent(f"{len(new)} of {len(shown)} engines were seen once only, and this takes two looks")
        else:
            then = {t: series_of(recipe, self._match, before[t]) or {} for t in present}
            limit_s = self._promised_s.get(recipe.promise, math.nan)
            value = change(recipe, [(then[t], present[t], shown[t].at - before[t].at) for t in present], limit_s)
        if value is None:
            return Absent(f"no series of {names} with {dict(self._match)}")
        if isinstance(value, Absent):
            return value
        return sanitize(quantity, value, min(p.at for p in shown.values()))

    def _nothing(self, shown: Mapping[ScrapeTarget, Page]) -> str:
        """Return the error that no page has any of the metrics, and what comes near."""
        names = sorted(frozenset().union(*(p.names for p in shown.values())))
        first = min(self._wanted)
        hint = did_you_mean(first, names) or (f"there are {', '.join(names[:5])}" if names else "the pages are empty")
        return f"no engine shows any of {', '.join(sorted(self._wanted))}; {hint}"


def _worst(failed: Sequence[PortError]) -> PortError:
    """Return one error for all: a human's business only if time mends none of them."""
    passing = [e for e in failed if isinstance(e, Unavailable)]
    if not passing:
        return Misconfigured(str(failed[0]))
    waits = [e.retry_after_s for e in passing if e.retry_after_s]
    text = f"none of {len(failed)} engines answered: {passing[0]}" if len(failed) > 1 else str(passing[0])
    return Unavailable(text, min(waits, default=None))
