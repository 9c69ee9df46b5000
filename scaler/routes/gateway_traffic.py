"""Requests and failures of a gateway's backends, from the pages of its Envoy proxies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from policies.model.names import BackendName
from policies.model.route import BackendTraffic
from scaler.clouds import http_client
from scaler.clouds.engines.exposition import MAX_GAP_S, counter_growth
from scaler.clouds.engines.metrics_page import Labels, Page, Series
from scaler.clouds.engines.page_set import MAX_TARGETS, PageSet, ScrapeTarget
from scaler.config.kinds.gateway_routes import GatewayMetrics
from scaler.ports import Context, Misconfigured, PortError
from scaler.registry import did_you_mean
from scaler.routes.envoy_counters import ANSWERED_BADLY, NO_HOST, REPEATED, STARTED, traffic_of

CLUSTER: Final = "envoy_cluster_name"
"""The label with the name of the cluster."""
PREFIX: Final = "envoy_cluster_"
BY_CODE: Final[Mapping[str, tuple[str, tuple[str, str]]]] = {
    ANSWERED_BADLY[0]: ("upstream_rq_xx", ("envoy_response_code_class", "5")),
    ANSWERED_BADLY[1]: ("upstream_rq", ("envoy_response_code", "429")),
}
"""Counters whose name has a status code, which the pages have as a label."""
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
    """Reader of the traffic. It remembers the pages of the last read, for differences."""

    def __init__(self, metrics: GatewayMetrics, backends: Iterable[BackendName], pages: http_client.Pages) -> None:
        self._pages = PageSet(metrics, pages, METRICS, "gateway")
        shared = metrics.shared_cluster
        self._is_shared = shared is not None
        self._backends = {shared: BackendName(shared)} if shared else {metrics.cluster(n): n for n in backends}
        self._previous: Mapping[ScrapeTarget, Page] = {}

    async def read(self) -> MeasuredTraffic:
        """Return the traffic since the last read.

        There is none before the second read of every proxy: a part of the requests is not the demand. Raises port
        errors where a page cannot be read, and `Misconfigured` where it has no such cluster.
        """
        pages: dict[ScrapeTarget, Page] = {}
        for target, result in (await self._pages.read()).items():
            if isinstance(result, PortError):
                raise result
            pages[target] = result
        counters = {target: self._counters(target, page) for target, page in pages.items()}
        previous, self._previous = self._previous, pages
        if not pages.keys() <= previous.keys():
            return MeasuredTraffic()
        gaps_s = [page.at - previous[target].at for target, page in pages.items()]
        if not all(0.0 < gap_s <= MAX_GAP_S for gap_s in gaps_s):
            return MeasuredTraffic()
        grown: defaultdict[tuple[BackendName, str], float] = defaultdict(float)
        for target, now in counters.items():
            for key, increase in counter_growth(self._counters(target, previous[target]), now).items():
                ((cluster, counter),) = key
                grown[self._backends[cluster], counter] += increase
        traffic = {name: traffic_of(partial(_grown, grown, name)) for name in self._backends.values()}
        return MeasuredTraffic(traffic, sum(gaps_s) / len(gaps_s))

    def _counters(self, target: ScrapeTarget, page: Page) -> Series:
        """Return the counters of the backends' clusters, each by cluster and name."""
        counters: dict[Labels, float] = {}
        for counter in (*STARTED, REPEATED, NO_HOST, *BY_CODE):
            metric, code = BY_CODE.get(counter, (counter, None))
            for labels, value in page.metrics.get(PREFIX + metric, {}).items():
                cluster = dict(labels).get(CLUSTER, "")
                if cluster in self._backends and (code is None or code in labels):
                    counters[frozenset({(cluster, counter)})] = value
        for cluster, backend in self._backends.items():
            if frozenset({(cluster, STARTED[0])}) not in counters:
                raise Misconfigured(
                    _missing(target, page, cluster, "shared_cluster" if self._is_shared else f"clusters.{backend}")
                )
        return counters


def _grown(grown: Mapping[tuple[BackendName, str], float], backend: BackendName, counter: str) -> float:
    return grown.get((backend, counter), 0.0)


def _missing(target: ScrapeTarget, page: Page, cluster: str, key: str) -> str:
    names = sorted({dict(labels).get(CLUSTER, "") for labels in page.metrics.get(PREFIX + STARTED[0], {})})
    hint = did_you_mean(cluster, names) or (f"it has {', '.join(names[:5])}" if names else "it has no cluster at all")
    return f"{target.url}: no metrics of cluster {cluster!r}; {hint}; set traffic.{key} to its name"


async def gateway_traffic(
    context: Context, metrics: GatewayMetrics | None, backends: Iterable[BackendName]
) -> GatewayTraffic | None:
    """Return the reader of a gateway's traffic; None without metrics. Raises `Misconfigured`."""
    if metrics is None:
        return None
    server = metrics.service or metrics.urls
    session = await http_client.session(context, server, metrics.access.ca_file, connections=MAX_TARGETS)
    pages = http_client.Pages(session, metrics.access, context.clock, http_client.DEADLINE_SHARE * context.deadline_s)
    return GatewayTraffic(metrics, backends, pages)
