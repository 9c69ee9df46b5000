"""Requests, failures and latency of a gateway's backends, from its Envoy proxies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from policies.model.names import BackendName
from policies.model.route import BackendTraffic
from scaler.clouds import http_client
from scaler.clouds.engines.exposition import counter_growth
from scaler.clouds.engines.metrics_page import Labels, Page, Series
from scaler.clouds.engines.page_set import PageSet, ScrapeTarget, open_pages
from scaler.config.kinds.envoy import DURATION
from scaler.config.kinds.gateway_routes import ClusterRoute, GatewayMetrics
from scaler.ports import Context, Misconfigured
from scaler.registry import did_you_mean
from scaler.routes.envoy_counters import ANSWERED_BADLY, NO_HOST, REPEATED, STARTED, traffic_of
from scaler.routes.page_changes import PageChanges
from scaler.routes.response_times import Histogram, by_lower_bound, latency_s

CLUSTER: Final = "envoy_cluster_name"
"""The label with the name of the cluster."""
PREFIX: Final = "envoy_cluster_"
BY_CODE: Final[Mapping[str, tuple[str, tuple[str, str]]]] = {
    ANSWERED_BADLY[0]: ("upstream_rq_xx", ("envoy_response_code_class", "5")),
    ANSWERED_BADLY[1]: ("upstream_rq", ("envoy_response_code", "429")),
}
"""Counters whose name has a status code, which the pages have as a label."""
BUCKETS: Final = f"{PREFIX}{DURATION}_bucket"
"""Buckets of the duration of whole responses."""
METRICS: Final = frozenset(
    PREFIX + metric for metric in (*STARTED, REPEATED, NO_HOST, *(metric for metric, _ in BY_CODE.values()))
)


@dataclass(frozen=True, slots=True)
class MeasuredTraffic:
    """The requests to each backend within `over_s` seconds; empty where they are not measured.

    Those to a shared cluster are under its name.
    """

    backends: Mapping[BackendName, BackendTraffic] = field(default_factory=dict)
    over_s: float = 0.0


class GatewayTraffic:
    """Reader of the traffic between two reads."""

    def __init__(self, route: ClusterRoute, metrics: GatewayMetrics, pages: http_client.Pages) -> None:
        shared = metrics.shared_cluster
        self._is_shared = shared is not None
        self._backends = {shared: BackendName(shared)} if shared else {metrics.cluster(n): n for n in route.backends}
        self._late_share = route.max_error_share
        buckets = {BUCKETS} if route.providers and not shared else set()
        self._pages = PageChanges(PageSet(metrics, pages, METRICS | buckets, "gateway"))

    async def read(self) -> MeasuredTraffic:
        """Return the traffic since the last read.

        There is none before the second read of every proxy: a part of the requests is not the demand. Raises port
        errors where a page cannot be read, and `Misconfigured` where it has no such cluster.
        """
        read = await self._pages.read()
        for target, page in read.pages.items():
            self._check(target, page)
        if not read.changes:
            return MeasuredTraffic()
        grown: defaultdict[tuple[BackendName, str], float] = defaultdict(float)
        for before, now in read.changes:
            for key, increase in counter_growth(self._counters(before), self._counters(now)).items():
                ((cluster, counter),) = key
                grown[self._backends[cluster], counter] += increase
        traffic = {
            name: traffic_of(
                partial(_grown, grown, name),
                latency_s([(_times(p, cluster), _times(q, cluster)) for p, q in read.changes], self._late_share),
            )
            for cluster, name in self._backends.items()
        }
        return MeasuredTraffic(traffic, read.over_s)

    def _counters(self, page: Page) -> Series:
        """Return the counters of the backends' clusters, each by cluster and name."""
        counters: dict[Labels, float] = {}
        for counter in (*STARTED, REPEATED, NO_HOST, *BY_CODE):
            metric, code = BY_CODE.get(counter, (counter, None))
            for labels, value in page.metrics.get(PREFIX + metric, {}).items():
                cluster = dict(labels).get(CLUSTER, "")
                if cluster in self._backends and (code is None or code in labels):
                    counters[frozenset({(cluster, counter)})] = value
        return counters

    def _check(self, target: ScrapeTarget, page: Page) -> None:
        """Raise `Misconfigured` where a page has no metrics of a cluster."""
        named = {dict(labels).get(CLUSTER) for labels in page.metrics.get(PREFIX + STARTED[0], {})}
        for cluster, backend in self._backends.items():
            if cluster not in named:
                key = "shared_cluster" if self._is_shared else f"clusters.{backend}"
                raise Misconfigured(_missing(target, page, cluster, key))


def _grown(grown: Mapping[tuple[BackendName, str], float], backend: BackendName, counter: str) -> float:
    return grown.get((backend, counter), 0.0)


def _times(page: Page, cluster: str) -> Histogram:
    """Return the durations of a cluster's responses on a page; empty where it has none."""
    series = ((dict(labels), count) for labels, count in page.metrics.get(BUCKETS, {}).items())
    return by_lower_bound({float(s["le"]): count for s, count in series if s.get(CLUSTER) == cluster})


def _missing(target: ScrapeTarget, page: Page, cluster: str, key: str) -> str:
    names = sorted({dict(labels).get(CLUSTER, "") for labels in page.metrics.get(PREFIX + STARTED[0], {})})
    hint = did_you_mean(cluster, names) or (f"it has {', '.join(names[:5])}" if names else "it has no cluster at all")
    return f"{target.url}: no metrics of cluster {cluster!r}; {hint}; set traffic.{key} to its name"


async def gateway_traffic(context: Context, route: ClusterRoute) -> GatewayTraffic | None:
    """Return the reader of a route's traffic; None without metrics. Raises `Misconfigured`."""
    metrics = route.traffic
    if metrics is None:
        return None
    return GatewayTraffic(route, metrics, await open_pages(context, metrics))
