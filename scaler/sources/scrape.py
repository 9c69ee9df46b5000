"""The engines' own /metrics pages.

This source is for setups without Prometheus, or where readings of 30 s are too old.

Every tick reads all engines at once, each until shortly before the deadline. If one does not respond, a total over the
others is a lower bound, which may raise the size but not lower it, and a mean is absent; if one has no such metric, the
quantity is absent. Rates and latencies need two samples and are absent until the second. The labels are the engine's
own: those that Prometheus adds (namespace, pod, job) are not on the page.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from policies.model import Absent, Fresh
from scaler.clouds import http_client
from scaler.clouds.engines.exposition import gauge_value, rate_or_latency, series_of
from scaler.clouds.engines.metrics_page import Page, Series
from scaler.clouds.engines.page_set import PageSet, Resolve, ScrapeTarget, open_pages, resolve_addresses
from scaler.clouds.engines.presets import Recipe, missing_slo, recipes, with_missing
from scaler.clouds.response_validation import validated
from scaler.config.kinds.engines import Scrape
from scaler.ports import Context, Misconfigured, PortError, Unavailable
from scaler.registry import did_you_mean
from scaler.sources.sanitize import sanitize


async def open_scrape(spec: Scrape, context: Context) -> ScrapeSource:
    """Open the source. Raises `Misconfigured`."""
    return ScrapeSource(spec, await open_pages(context, spec), context.slo_limits_s)


class ScrapeSource:
    """The source's port. Reads every engine each tick, with a memory of the previous pages."""

    def __init__(
        self,
        spec: Scrape,
        pages: http_client.Pages,
        slo_limits_s: Mapping[str, float] | None = None,
        resolve: Resolve = resolve_addresses,
    ) -> None:
        self._slo_limits_s = slo_limits_s or {}
        self._recipes = recipes(spec.preset, spec.read)
        self._match = spec.match
        self._metric_names = frozenset(name for recipe in self._recipes.values() for name in recipe.series)
        self._page_set = PageSet(spec, pages, self._metric_names, "engine", resolve)
        self._previous: dict[ScrapeTarget, Page] = {}

    @validated("metrics pages")
    async def sample(self) -> Mapping[str, Fresh[float] | Absent]:
        results = await self._page_set.read()
        pages = {t: r for t, r in results.items() if isinstance(r, Page)}
        failed = [r for r in results.values() if isinstance(r, PortError)]
        if not pages:
            raise _combined_error(failed)
        previous, self._previous = (
            self._previous,
            {t: p for t, p in {**self._previous, **pages}.items() if t in results},
        )
        missing = f"{len(failed)} of {len(results)} engines did not respond: {failed[0]}" if failed else ""
        if not any(page.metrics for page in pages.values()):
            raise Misconfigured(self._no_metrics_error(pages))
        readings = {q: self._reading(q, recipe, previous, pages) for q, recipe in self._recipes.items()}
        return {q: with_missing(r, self._recipes[q], missing) for q, r in readings.items()} if missing else readings

    def _reading(
        self, quantity: str, recipe: Recipe, previous: Mapping[ScrapeTarget, Page], pages: Mapping[ScrapeTarget, Page]
    ) -> Fresh[float] | Absent:
        if no_slo := missing_slo(recipe, self._slo_limits_s):
            return no_slo
        now = {t: series_of(recipe, self._match, p) for t, p in pages.items()}
        without_metric = sum(series is None for series in now.values())
        present: dict[ScrapeTarget, Series] = {t: series for t, series in now.items() if series is not None}
        names = " or ".join(recipe.series)
        if without_metric:
            return Absent(f"{without_metric} of {len(pages)} engines do not export {names}")
        if not recipe.needs_history:
            value: float | Absent | None = gauge_value(recipe, [*present.values()])
        elif first_seen := [t for t in present if t not in previous]:
            return Absent(f"{len(first_seen)} of {len(pages)} engines have one sample so far, and this needs two")
        else:
            previous_series = {t: series_of(recipe, self._match, previous[t]) or {} for t in present}
            limit_s = self._slo_limits_s.get(recipe.slo, math.nan)
            value = rate_or_latency(
                recipe, [(previous_series[t], present[t], pages[t].at - previous[t].at) for t in present], limit_s
            )
        if value is None:
            return Absent(f"no series of {names} with {dict(self._match)}")
        if isinstance(value, Absent):
            return value
        return sanitize(quantity, value, min(p.at for p in pages.values()))

    def _no_metrics_error(self, pages: Mapping[ScrapeTarget, Page]) -> str:
        """Return the error that no page has any of the metrics, with a hint at similar ones."""
        names = sorted(frozenset().union(*(p.names for p in pages.values())))
        first = min(self._metric_names)
        hint = did_you_mean(first, names) or (f"they export {', '.join(names[:5])}" if names else "the pages are empty")
        return f"no engine exports any of {', '.join(sorted(self._metric_names))}; {hint}"


def _combined_error(failed: Sequence[PortError]) -> PortError:
    """Return one error for all engines: `Misconfigured` only if none of them is transient."""
    transient = [e for e in failed if isinstance(e, Unavailable)]
    if not transient:
        return Misconfigured(str(failed[0]))
    pauses_s = [e.retry_after_s for e in transient if e.retry_after_s]
    text = f"none of {len(failed)} engines responded: {transient[0]}" if len(failed) > 1 else str(transient[0])
    return Unavailable(text, min(pauses_s, default=None))
