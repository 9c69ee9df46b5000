"""Requests, failures and latency of LiteLLM's deployments, from its metrics pages."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Final

from policies.model.names import BackendName
from policies.model.route import BackendTraffic
from scaler.clouds import http_client
from scaler.clouds.engines.exposition import counter_growth
from scaler.clouds.engines.metrics_page import Page, Series
from scaler.clouds.engines.page_set import PageSet, open_pages
from scaler.config.kinds.litellm import LiteLlm, LiteLlmMetrics
from scaler.ports import Context
from scaler.routes.gateway_traffic import MeasuredTraffic
from scaler.routes.page_changes import PageChanges
from scaler.routes.response_times import MS_PER_S, Histogram, by_lower_bound, latency_s

REQUESTS: Final = "litellm_deployment_total_requests_total"
FAILURES: Final = "litellm_deployment_failure_responses_total"
STARTED_AFTER: Final = "litellm_llm_api_time_to_first_token_metric_bucket"
"""Buckets of the time to first token of streamed responses. Seconds."""
METRICS: Final = frozenset({REQUESTS, FAILURES, STARTED_AFTER})
DEPLOYMENT: Final = "model_id"
"""The label with the ID of a deployment."""
STATUS: Final = "exception_status"


class LiteLlmTraffic:
    """Reader of the traffic between two reads."""

    def __init__(self, spec: LiteLlm, metrics: LiteLlmMetrics, pages: http_client.Pages) -> None:
        self._backends = {spec.deployment(name): name for name in spec.backends}
        self._late_share = spec.max_error_share
        self._pages = PageChanges(PageSet(metrics, pages, METRICS, "proxy"))

    async def read(self) -> MeasuredTraffic:
        """Return the traffic since the last read; none before the second read of every proxy.

        A deployment without a counter has not counted yet. Raises port errors where a page cannot be read: without the
        callback `prometheus` there is none.
        """
        read = await self._pages.read()
        if not read.changes:
            return MeasuredTraffic()
        requests, failures = self._grown(read.changes, REQUESTS), self._grown(read.changes, FAILURES)
        return MeasuredTraffic(
            {
                name: BackendTraffic(
                    requests[name],
                    min(requests[name], failures[name]),
                    latency_s([(_times(p, own), _times(q, own)) for p, q in read.changes], self._late_share),
                )
                for own, name in self._backends.items()
            },
            read.over_s,
        )

    def _grown(self, changes: tuple[tuple[Page, Page], ...], metric: str) -> Mapping[BackendName, float]:
        """Return the growth of a counter by backend."""
        grown: defaultdict[BackendName, float] = defaultdict(float)
        for before, now in changes:
            for labels, increase in counter_growth(_series(before, metric), _series(now, metric)).items():
                named = dict(labels)
                backend = self._backends.get(named.get(DEPLOYMENT, ""))
                if backend is not None and (metric != FAILURES or _counts(named.get(STATUS, ""))):
                    grown[backend] += increase
        return grown


def _series(page: Page, metric: str) -> Series:
    return page.metrics.get(metric, {})


def _counts(status: str) -> bool:
    """Return whether a failure is the deployment's.

    One of a client, such as a prompt that is too long, is not.
    """
    return status == "429" or not (status.startswith("4") and len(status) == 3)


def _times(page: Page, deployment: str) -> Histogram:
    """Return the times to first token of a deployment over all labels; empty without any."""
    cumulative: defaultdict[float, float] = defaultdict(float)
    for labels, count in _series(page, STARTED_AFTER).items():
        named = dict(labels)
        if named.get(DEPLOYMENT) == deployment:
            cumulative[MS_PER_S * float(named["le"])] += count
    return by_lower_bound(cumulative)


async def litellm_traffic(context: Context, spec: LiteLlm) -> LiteLlmTraffic | None:
    """Return the reader of a route's traffic; None without metrics. Raises `Misconfigured`."""
    metrics = spec.traffic
    if metrics is None:
        return None
    return LiteLlmTraffic(spec, metrics, await open_pages(context, metrics))
