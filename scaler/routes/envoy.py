"""Envoy with a route configuration in a file.

The adapter replaces the file atomically, which Envoy notices, and reads the applied weights and the requests to each
cluster from Envoy's admin interface. Running requests and streams continue on their cluster.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final

from yarl import URL

from policies.model import Fresh, WorkloadName
from policies.model.names import BackendName, RouteName
from policies.model.route import BackendTraffic, RouteDecision, RouteStatus
from scaler.clouds.json_pages import JsonPages, json_pages
from scaler.clouds.response_validation import validated
from scaler.config.kinds.envoy import Envoy
from scaler.ports import Clock, Conflict, Context, Misconfigured, Permit
from scaler.routes.envoy_counters import FAILED, NO_HOST, STARTED, traffic_of
from scaler.routes.response_times import Histogram, latency_s
from scaler.routes.route_file import RouteFile, StoredRoutes

REJECTED: Final = "rq_direct_response"
RETRY_ON: Final = "connect-failure,refused-stream,reset,gateway-error"
"""Failures before any part of an answer reached the client: it can be sent again, since a chat has no side effect."""


async def open_envoy(spec: Envoy, context: Context, _workload: WorkloadName, _route: RouteName) -> EnvoyRoute:
    """Open the route of one Envoy. Raises `Misconfigured`."""
    return EnvoyRoute(spec, await json_pages(context, spec.admin_url, spec.access), context.clock)


class EnvoyRoute:
    """The port of a route. It remembers the statistics of the last read, for differences."""

    def __init__(self, spec: Envoy, pages: JsonPages, clock: Clock) -> None:
        self._spec = spec
        self._pages = pages
        self._clock = clock
        self._file = RouteFile(spec.file, spec.route_config)
        self._backends = {spec.cluster(name): name for name in spec.backends}
        self._counters: Mapping[str, float] = {}
        self._times: Mapping[BackendName, Histogram] = {}
        self._counted_at = 0.0

    @validated("Envoy's admin interface")
    async def status(self) -> Fresh[RouteStatus]:
        stored = await asyncio.to_thread(self._file.read)
        if stored is None:
            return Fresh(RouteStatus({}), self._clock.now())
        at, route = await self._applied(stored)
        uptime_s, counters, times = await self._uptime_s(), await self._read_counters(), await self._read_times()
        traffic, rejected, over_s = self._traffic(counters, times, uptime_s, self._clock.now())
        status = RouteStatus(
            self._weights(route),
            traffic,
            over_s,
            self._file.other_writer(stored, self._clock.now(), self._spec.other_writer_yield_s),
            stored.digest,
            "direct_response" in route,
            rejected,
        )
        return Fresh(status, at)

    async def apply(self, split: RouteDecision, observed: RouteStatus) -> None:
        stored = await asyncio.to_thread(self._file.read)
        digest = "" if stored is None else stored.digest
        if digest != observed.version:
            raise Conflict(f"{self._spec.file} changed since it was read: the next tick reads it again")
        await asyncio.to_thread(self._file.write, self._action(split))

    async def permits(self) -> Sequence[Permit]:
        """Return whether the file can be replaced."""
        problem = await asyncio.to_thread(self._file.write_problem)
        return [Permit(f"replace {self._spec.file}", not problem, problem)]

    # --- reads

    async def _applied(self, stored: StoredRoutes) -> tuple[float, Mapping[str, Any]]:
        """Return the time of the read and the first route that Envoy applies."""
        name = self._spec.route_config
        query = {"resource": "dynamic_route_configs", "name_regex": f"^{re.escape(name)}$"}
        url = URL(self._spec.admin_url) / "config_dump" % query
        at, dump = await self._pages.get(str(url.with_query(None)), url)
        for config in dump.get("configs", []):
            return at, config["route_config"]["virtual_hosts"][0]["routes"][0]
        known = f"{self._spec.file} has version {stored.version_info!r}"
        remedy = "name it in rds.route_config_name of the bootstrap, with this file as path_config_source"
        raise Misconfigured(f"{self._spec.admin_url}: Envoy applies no route configuration {name!r}; {known}; {remedy}")

    def _weights(self, route: Mapping[str, Any]) -> dict[BackendName, int]:
        """Return the weight of each backend in use.

        A cluster that is no backend counts under its own name.
        """
        action = route.get("route", {})
        single = [{"name": action["cluster"], "weight": 1}] if "cluster" in action else []
        clusters = action.get("weighted_clusters", {}).get("clusters", single)
        named = {self._backends.get(c["name"], BackendName(c["name"])): int(c.get("weight", 0)) for c in clusters}
        return {name: weight for name, weight in named.items() if weight > 0}

    async def _uptime_s(self) -> float:
        """Return the time since Envoy's start, in whole seconds and up to one too many.

        Envoy counts the seconds of the clock that began since.
        """
        url = URL(self._spec.admin_url) / "server_info"
        _, info = await self._pages.get(str(url), url)
        return float(str(info["uptime_current_epoch"]).removesuffix("s"))

    async def _read_counters(self) -> dict[str, float]:
        """Return the counters of all clusters and of rejections by name.

        A counter that never counted is absent.
        """
        clusters = "|".join(re.escape(_stat_name(cluster)) for cluster in self._backends)
        counted = "|".join((*STARTED, *FAILED, NO_HOST))
        prefix = re.escape(_stat_name(self._spec.stat_prefix))
        pattern = rf"^(cluster\.({clusters})\.({counted})|http\.{prefix}\.{REJECTED})$"
        stats = await self._read_stats(pattern, type="Counters")
        return {stat["name"]: float(stat["value"]) for stat in stats if "name" in stat}

    async def _read_times(self) -> dict[BackendName, Histogram]:
        """Return the response times of each backend since Envoy's start.

        Envoy adds the latest ones every 5 s (`stats_flush_interval`). Its own bins are read, which are at most 10 %
        wide, and not the buckets that its metrics page has.
        """
        names = {_stat_name(self._spec.response_times(cluster)): name for cluster, name in self._backends.items()}
        pattern = f"^({'|'.join(map(re.escape, names))})$"
        stats = await self._read_stats(pattern, type="Histograms", histogram_buckets="detailed")
        return {
            names[histogram["name"]]: {float(b["lower_bound"]): float(b["count"]) for b in histogram["totals"]}
            for stat in stats
            for histogram in stat["histograms"].get("details", ())
        }

    async def _read_stats(self, pattern: str, **query: str) -> Sequence[Mapping[str, Any]]:
        url = URL(self._spec.admin_url) / "stats" % {"format": "json", "filter": pattern, **query}
        _, stats = await self._pages.get(str(url.with_query(None)), url)
        read: Sequence[Mapping[str, Any]] = stats["stats"]
        return read

    def _traffic(
        self, counters: Mapping[str, float], times: Mapping[BackendName, Histogram], uptime_s: float, now: float
    ) -> tuple[dict[BackendName, BackendTraffic], float, float]:
        """Return the requests to each backend, those rejected, and the seconds since the last read.

        There are none before the second read, and after a start of Envoy since the last one, which its uptime or a
        smaller counter shows: its counters begin anew, and a count of 0 would be false. Raises `Misconfigured` where
        Envoy lacks a cluster or the prefix of statistics.
        """
        rejected = f"http.{_stat_name(self._spec.stat_prefix)}.{REJECTED}"
        if rejected not in counters:
            raise Misconfigured(
                f"{self._spec.admin_url}: no statistics {rejected}; set stat_prefix as in the bootstrap"
            )
        for cluster, backend in self._backends.items():
            if f"cluster.{_stat_name(cluster)}.{STARTED[0]}" not in counters:
                remedy = f"add it to Envoy, or set clusters.{backend} to the name of a cluster"
                raise Misconfigured(f"{self._spec.admin_url}: Envoy has no cluster {cluster!r}; {remedy}")
        before, self._counters = self._counters, counters
        times_before, self._times = self._times, times
        over_s, self._counted_at = now - self._counted_at, now
        added = {name: value - before.get(name, 0.0) for name, value in counters.items()}
        if not before or not 0.0 < over_s <= uptime_s or min(added.values()) < 0.0:
            return {}, 0.0, 0.0
        late_share = self._spec.max_error_share
        traffic = {
            name: traffic_of(
                partial(_grown, cluster, added),
                latency_s([(times_before.get(name, {}), times.get(name, {}))], late_share),
            )
            for cluster, name in self._backends.items()
        }
        return traffic, added[rejected], over_s

    # --- writes

    def _action(self, split: RouteDecision) -> dict[str, Any]:
        """Return the route that carries out a split."""
        if split.retry_after_s is not None:
            header = {"key": "Retry-After", "value": f"{split.retry_after_s:.0f}"}
            body = {"inline_string": "no replica is ready\n"}
            return {
                "direct_response": {"status": 503, "body": body},
                "response_headers_to_add": [{"header": header}],
            }
        clusters = [{"name": self._spec.cluster(name), "weight": weight} for name, weight in split.weights.items()]
        action: dict[str, Any] = {"weighted_clusters": {"clusters": clusters}, "timeout": "0s"}
        if self._spec.retries:
            action["retry_policy"] = {
                "retry_on": RETRY_ON,
                "num_retries": self._spec.retries,
                "retry_priority": {
                    "name": "envoy.retry_priorities.previous_priorities",
                    "typed_config": {
                        "@type": "type.googleapis.com/"
                        "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig",
                        "update_frequency": 1,
                    },
                },
            }
        return {"route": action}


def _stat_name(name: str) -> str:
    """Return a name as Envoy writes it in the names of statistics."""
    return name.replace(":", "_")


def _grown(cluster: str, added: Mapping[str, float], counter: str) -> float:
    return added.get(f"cluster.{_stat_name(cluster)}.{counter}", 0.0)
